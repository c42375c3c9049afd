"""Training by several processes: the weights, scores and order of images are those of one, whichever of them dies."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor, nn

from graft.errors import GraftError, InputError
from graft.images.augmenting import STRENGTHS, augment
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.images.preprocessing import Preprocessing
from graft.training.checkpoint import CheckpointFile
from graft.training.inputs import PixelInputs
from graft.training.joining import joined
from graft.training.loop import CrownFit, Watcher, fit_crown
from graft.training.processes import LostProcess, Processes
from graft.training.recipe import Recipe
from graft.training.shared_descent import own_order
from graft.training.shared_layers import rows_of
from graft.training.versions import refuse_other_versions, versions

PREPROCESSING = Preprocessing(size=12, mean=(0.5,), std=(0.5,), crop_fraction=1.0)
# Three epochs of 23 images: six steps each, the last with three images.
RECIPE = Recipe(epochs=3, batch_size=4, learning_rate=3e-3, augment="medium", ema_decay=0.9).resolve()
# One process as torchrun starts it: it cuts its batches as if there were several.
ONE = Processes(job="letters")


class Tiny(nn.Module):
    """Convolutions, batch norm, and dropout of whole images and of units."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 8, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 25, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu()
        # Like stochastic depth: drops the whole branch of an image.
        x = x * nn.functional.dropout(x.new_ones((len(x), 1, 1, 1)), 0.1, self.training)
        return self.head(nn.functional.dropout(x.flatten(1), 0.3, self.training))


@dataclass(frozen=True)
class Ledgered:
    """Inputs that record the images of every batch taken from them."""

    inputs: PixelInputs
    taken: list[list[int]]

    @property
    def labels(self) -> np.ndarray:
        return self.inputs.labels

    @property
    def weights(self) -> None:
        return None

    def batches(self, order: np.ndarray, batch_size: int, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            if epoch:
                self.taken.append(rows.tolist())
            yield from self.inputs.batches(rows, batch_size, epoch)


@pytest.fixture(scope="module")
def letters() -> tuple[PixelInputs, PixelInputs]:
    return drawn()


def drawn() -> tuple[PixelInputs, PixelInputs]:
    """Five letters: 23 images with one view for each of three epochs, and 10 to validate on."""
    images, labels = render_letters(LATIN[:5], dejavu_fonts(), 7, 0)
    strength = STRENGTHS["medium"]
    views = tuple(
        torch.stack([augment(each, PREPROCESSING, strength, (0, view, row)) for row, each in enumerate(images)])
        for view in range(3)
    )
    order = np.random.default_rng(0).permutation(len(labels))
    train, val = order[:23], order[25:]
    return (
        PixelInputs(tuple(view[torch.from_numpy(train)] for view in views), labels[train], PREPROCESSING),
        PixelInputs((views[0][torch.from_numpy(val)],), labels[val], PREPROCESSING),
    )


def member(rank: int, count: int, folder: Path, work: Callable[[Processes], Any]) -> None:
    """The work of one process; it writes its outcome to a file of its own."""
    from torch.distributed import FileStore

    torch.set_num_threads(1)
    processes = Processes(rank, count, store=FileStore(str(folder / "store"), count))
    try:
        outcome = work(processes)
    except GraftError as error:
        outcome = error
    torch.save(outcome, folder / f"{rank}.pt")
    os._exit(0)


def start(count: int, folder: Path, work: Callable[[Processes], Any]) -> list[BaseProcess]:
    """Fork processes, which have this one's imports; importing afresh would take each of them seconds."""
    folder.mkdir()
    fork = multiprocessing.get_context("fork")
    members = [fork.Process(target=member, args=(rank, count, folder, work)) for rank in range(count)]
    for each in members:
        each.start()
    return members


def together(count: int, folder: Path, work: Callable[[Processes], Any]) -> list[Any]:
    """The outcome of each of `count` processes."""
    for each in start(count, folder, work):
        each.join(60)
        assert each.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def in_bytes(state: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def without_seconds(fit: CrownFit) -> list[Any]:
    return [fit.kept, *(replace(each, seconds=0.0) for each in fit.history)]


def trained(
    processes: Processes,
    letters: tuple[PixelInputs, PixelInputs],
    checkpoint: CheckpointFile | None = None,
    seen: Callable[[int, list[int]], None] = lambda step, rows: None,
    **changed: Any,
) -> dict[str, Any]:
    """The outcome of a process, and its images in every step."""
    taken: list[list[int]] = []
    steps: dict[int, list[int]] = {}

    def step(done: int, total: int) -> None:
        steps[done], taken[:] = [row for rows in taken for row in rows], []
        seen(done, steps[done])

    crown, train = Tiny(), Ledgered(letters[0], taken)
    recipe = replace(RECIPE, **changed)
    more: dict[str, Any] = {"checkpoint": checkpoint, "watcher": Watcher(step=step), "processes": processes}
    found = fit_crown(crown, train, letters[1], recipe, seed=5, **more)
    return {"state": crown.state_dict(), "fit": found, "steps": steps}


@pytest.mark.parametrize(
    ("counts", "changed"),
    [
        pytest.param((2, 3), {"batch_norm": "stored", "clip_grad_norm": 1.0}, id="stored statistics"),
        # Of five processes, one has no part in any batch of four.
        pytest.param((5,), {"batch_norm": "batch", "accumulate_steps": 2}, id="statistics of the batch"),
        pytest.param((3,), {"class_weights": "balanced", "start_share": 0.2, "schedule": "plateau"}, id="weights"),
    ],
)
def test_any_number_of_processes_comes_to_the_same_bits(
    letters: tuple[PixelInputs, PixelInputs], tmp_path: Path, counts: tuple[int, ...], changed: dict[str, Any]
) -> None:
    alone = trained(ONE, letters, **changed)
    for count in counts:
        parts = together(count, tmp_path / str(count), lambda processes: trained(processes, letters, **changed))
        for each in parts:
            assert in_bytes(each["state"]) == in_bytes(alone["state"]), count
            assert without_seconds(each["fit"]) == without_seconds(alone["fit"])
        for step, rows in alone["steps"].items():
            assert sorted(row for each in parts for row in each["steps"][step]) == sorted(rows), (count, step)
    # Except for rounding, the outcome is that of a run whose batches are not cut into pieces.
    whole = trained(Processes(), letters, **changed)
    for name, tensor in whole["state"].items():
        assert torch.allclose(alone["state"][name], tensor, rtol=0, atol=1e-5), name
    for one, cut in zip(whole["fit"].history, alone["fit"].history, strict=True):
        assert (one.epoch, one.val_top1, one.learning_rate) == (cut.epoch, cut.val_top1, cut.learning_rate)
        assert one.epoch == 0 or one.train_loss == pytest.approx(cut.train_loss, rel=1e-4)
    assert {step: sorted(rows) for step, rows in whole["steps"].items()} == {
        step: sorted(rows) for step, rows in alone["steps"].items()
    }


def test_mixing_draws_pairs_from_the_whole_batch(tmp_path: Path) -> None:
    from graft.models.catalog import build
    from graft.models.network import Config
    from graft.training.inputs import ActivationInputs

    def fit(processes: Processes) -> dict[str, Tensor]:
        torch.manual_seed(0)
        crown = build(Config("lenet5", classes=3, channels=1)).split("input")[1]
        inputs = ActivationInputs((torch.randn(7, 1, 32, 32),), np.arange(7) % 3)
        recipe = Recipe(epochs=2, batch_size=4, learning_rate=1e-3, mixup=0.4, cutmix=1.0, optimizer="sgd").resolve()
        fit_crown(crown, inputs, None, recipe, processes=processes)
        return crown.state_dict()

    alone = fit(ONE)
    assert in_bytes(together(2, tmp_path / "two", fit)[1]) == in_bytes(alone)
    for name, tensor in fit(Processes()).items():
        assert torch.allclose(alone[name], tensor, rtol=0, atol=1e-5), name


@settings(max_examples=200, deadline=None)
@given(
    images=some.integers(0, 200),
    count=some.integers(1, 9),
    batch_size=some.integers(1, 40),
    seen=some.integers(0, 6),
    seed=some.integers(0, 99),
)
def test_every_image_counts_once_whatever_the_processes_the_batch_and_what_was_seen_before(
    images: int, count: int, batch_size: int, seen: int, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(images)
    left = order[seen * batch_size :]
    own = [own_order(left, batch_size, rank, count) for rank in range(count)]
    assert sorted(np.concatenate(own).tolist()) == sorted(left.tolist())
    # Each batch is cut, not the epoch: the parts of a batch, put together, are that batch.
    for start in range(0, len(left), batch_size):
        batch, together = left[start : start + batch_size], []
        for rank in range(count):
            rows, largest = rows_of(rank, count, len(batch)), rows_of(rank, count, batch_size).count
            first = start // batch_size * largest
            together.append(own[rank][first : first + rows.count])
            assert rows.count <= largest
        assert np.concatenate(together).tolist() == batch.tolist()


def test_killed_processes_are_followed_by_another_number_of_them_to_the_same_end(
    letters: tuple[PixelInputs, PixelInputs], tmp_path: Path
) -> None:
    alone = trained(ONE, letters)
    checkpoint = CheckpointFile(tmp_path / "checkpoints" / "last.safetensors", every=0.0)
    ledger: dict[int, list[int]] = {}
    # Killed in the middle of the second and of the third epoch: once the first process, once another.
    for attempt, (count, killed, at) in enumerate(((2, 0, 8), (3, 2, 14), (2, None, None))):
        folder = tmp_path / str(attempt)

        def work(processes: Processes, killed: int | None = killed, at: int | None = at, folder: Path = folder) -> Any:
            def seen(step: int, rows: list[int]) -> None:
                with (folder / f"ledger-{processes.rank}").open("a") as file:
                    file.write(json.dumps((step, rows)) + "\n")
                if processes.rank == killed and step == at:
                    os.kill(os.getpid(), signal.SIGKILL)

            return trained(processes, letters, checkpoint, seen)

        members = start(count, folder, work)
        for rank, each in enumerate(members):
            each.join(60)
            assert each.exitcode == (-signal.SIGKILL if rank == killed else 0)
        done: dict[int, list[int]] = {}
        for path in folder.glob("ledger-*"):
            for number, images in map(json.loads, path.read_text().splitlines()):
                done.setdefault(number, []).extend(images)
        # Steps after the last checkpoint are repeated.
        ledger |= done
        if killed is not None:
            outcome = torch.load(folder / f"{1 - min(killed, 1)}.pt", weights_only=False)
            assert isinstance(outcome, LostProcess) and "got one that ended before" in str(outcome)
            assert checkpoint.path.is_file()
            continue
        last = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]
    assert {step: sorted(rows) for step, rows in ledger.items()} == {
        step: sorted(rows) for step, rows in alone["steps"].items()
    }
    assert in_bytes(last[0]["state"]) == in_bytes(alone["state"])
    assert without_seconds(last[0]["fit"]) == without_seconds(alone["fit"])


def test_a_training_goes_on_in_the_middle_of_an_epoch_to_the_bit(
    letters: tuple[PixelInputs, PixelInputs], tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(step: int, rows: list[int]) -> None:
        if step == 10:
            raise Stopped

    checkpoint = CheckpointFile(tmp_path / "last.safetensors", every=0.0)
    changed: dict[str, Any] = {"accumulate_steps": 1, "batch_norm": "batch"}
    alone = trained(Processes(), letters, **changed)
    with pytest.raises(Stopped):
        trained(Processes(), letters, checkpoint, stop, **changed)
    found = trained(Processes(), letters, checkpoint, **changed)
    # The tenth step was done but not yet stored.
    assert list(found["steps"]) == list(range(10, 19))
    assert found["steps"] == {step: rows for step, rows in alone["steps"].items() if step >= 10}
    assert found["fit"].history == alone["fit"].history
    assert all(torch.equal(tensor, found["state"][name]) for name, tensor in alone["state"].items())


def test_other_versions_are_refused_by_name() -> None:
    own = versions()
    refuse_other_versions([own, dict(own)])
    with pytest.raises(InputError, match=r"expected torch .* in every process, .* got torch 1\.0 in process 2"):
        refuse_other_versions([own, own, {**own, "torch": "1.0"}])
    assert own["graft"].startswith("0.")


def test_a_process_that_torchrun_started_alone_has_a_job_to_go_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    with joined() as processes:
        assert processes.alone and processes.job is None
    for name, value in {"TORCHELASTIC_RUN_ID": "letters", "WORLD_SIZE": "1", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with joined() as processes:
        assert processes.alone and processes.first and processes.job == "letters"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with joined() as processes:
        # torchrun without a rendezvous: what tells one start from another is the agent.
        assert processes.job is not None and str(os.getppid()) in processes.job
