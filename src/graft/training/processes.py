"""The processes that train together: who they are, what the first tells the others, and what all of them add up.

They are started by torchrun, or anything else that sets its variables. The first does all that one process would do:
it opens the images, decides, writes and prints. The others wait for its word, which is in a store of keys and values,
and take part in the steps of a fit. Only there do they exchange tensors, over gloo on processors and NCCL on GPUs.
Alone, a process has no group, and torch.distributed is not imported.
"""

import json
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from graft.data.loading import available_cores
from graft.errors import GraftError, InputError
from graft.training.versions import refuse_other_versions, versions

if TYPE_CHECKING:
    from torch import Tensor

# How often a process that waits for a word looks for it.
LOOK_SECONDS = 0.02
# How long one may be behind the others in a sum: the first writes checkpoints meanwhile.
BEHIND = timedelta(minutes=30)
# How long processes may take to start, one after the other: machines of a cluster are not ready at once.
START_SECONDS = 600.0
# How long one that cannot go on waits for the first to end, and to say why.
TELLING_SECONDS = 30.0
# Keys of the store: words of the first by number, why one failed, that the first has ended, versions by rank.
WORD, ANSWERS, GO, FAILED, ENDED, VERSIONS = "word", "answers", "go", "failed", "ended", "versions"


class LostProcess(GraftError):
    """A process that others train with has ended before them."""


class EndedByFirst(LostProcess):
    """The first process has ended before the others, and says why."""


@dataclass(eq=False)
class Processes:
    """This process, number `rank` of `count`, the first of which is 0.

    `job` is what the processes of one start, and of all restarts after it, have in common.
    """

    rank: int = 0
    count: int = 1
    job: str | None = None
    store: Any = field(default=None, repr=False)
    _words: int = field(default=0, repr=False)

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.count == 1

    def call(self, word: Mapping[str, Any]) -> None:
        """Of the first: tell the others what comes next."""
        if not self.alone:
            self.store.set(f"{WORD}/{self._words}", json.dumps(word))
            self._words += 1

    def called(self) -> dict[str, Any]:
        """Of the others: the next word of the first, which is waited for. Raises EndedByFirst."""
        key = f"{WORD}/{self._words}"
        self._wait(lambda: self.store.check([key]))
        self._words += 1
        word: dict[str, Any] = json.loads(self.store.get(key))
        return word

    def gather(self) -> None:
        """Of the first: wait until all others have answered its last word, and let them go on."""
        if not self.alone:
            self._wait(lambda: self.store.add(f"{ANSWERS}/{self._words}", 0) == self.count - 1)
            self.store.set(f"{GO}/{self._words}", "")

    def answer(self) -> None:
        """Of the others: say that what was called for can begin, and wait until it does. Raises EndedByFirst."""
        self.store.add(f"{ANSWERS}/{self._words}", 1)
        self._wait(lambda: self.store.check([f"{GO}/{self._words}"]))

    def _wait(self, until: Callable[[], bool]) -> None:
        # Not in the store itself, where a signal would have to wait as well.
        with self._exchange():
            while not until():
                if self.first:
                    self.raise_failure()
                elif self.store.check([ENDED]):
                    raise EndedByFirst(
                        "expected the first process to train to the end, got an end before: what it said is why"
                    )
                time.sleep(LOOK_SECONDS)

    def add(self, tensor: "Tensor") -> None:
        """Put the sum over all processes in the place of `tensor`, of which each has its own."""
        if not self.alone:
            with self._exchange():
                _group(self).all_reduce(tensor)

    def of_first(self, tensors: "dict[str, Tensor]", facts: Any = None) -> "tuple[dict[str, Tensor], Any]":
        """Tensors on the CPU by name, and what JSON has words for, as the first process has them."""
        if self.alone:
            return tensors, facts
        import torch

        shapes = {name: (str(each.dtype).removeprefix("torch."), list(each.shape)) for name, each in tensors.items()}
        found = json.loads(self._text(json.dumps({"shapes": shapes, "facts": facts})))
        got: dict[str, Tensor] = {}
        for name, (dtype, shape) in found["shapes"].items():
            own = tensors[name].contiguous() if self.first else torch.empty(shape, dtype=getattr(torch, dtype))
            got[name] = self._broadcast(own)
        return got, found["facts"]

    def number_of_first(self, number: float) -> float:
        """A number as the first process has it."""
        if self.alone:
            return number
        import torch

        return float(self._broadcast(torch.tensor(number, dtype=torch.float64)))

    @contextmanager
    def own_cores(self) -> Iterator[None]:
        """Within the block, torch computes on this process's part of the cores of its machine.

        Outside it the first one works while others wait. What OMP_NUM_THREADS says is left as it is.
        """
        if self.alone or "OMP_NUM_THREADS" in os.environ:
            yield
            return
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", self.count))))
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _text(self, text: str) -> bytes:
        # Bytes, as torch's own way of sending objects unpickles what comes.
        import torch

        own = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        size = int(self._broadcast(torch.tensor(len(own))))
        return self._broadcast(own if self.first else torch.empty(size, dtype=torch.uint8)).numpy().tobytes()

    def _broadcast(self, tensor: "Tensor") -> "Tensor":
        with self._exchange():
            _group(self).broadcast(tensor, 0)
        return tensor

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        """Tell why, where the others cannot be reached within the block."""
        try:
            yield
        except RuntimeError as error:
            self.raise_failure()
            raise LostProcess(
                f"expected all {self.count} processes to train to the end, got one that ended before: start them again "
                "with --resume, or let torchrun do so (--max-restarts)"
            ) from error

    def raise_failure(self) -> None:
        """Raise what another process failed of, if one has said so."""
        failure = None
        with suppress(RuntimeError):
            failure = json.loads(self.store.get(FAILED)) if self.store.check([FAILED]) else None
        if failure is not None:
            kind = InputError if failure["code"] == InputError.exit_code else GraftError
            raise kind(f"process {failure['rank']}: {failure['sentence']}")


ALONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """This process among those that torchrun started together; alone where it started none.

    Within the block, one of the others that fails tells the first why. Raises InputError in the first where another
    has other versions of graft or its libraries.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ALONE
        return
    if count == 1:
        yield Processes(job=_job())
        return
    from torch.distributed import PrefixStore, rendezvous

    store, _, _ = next(rendezvous("env://", rank, count, timeout=timedelta(seconds=START_SECONDS)))
    # The agent's store outlives a restart, and with it what was said before.
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    processes = Processes(rank, count, _job(), PrefixStore(f"graft/{start}", store))
    try:
        yield from _of_many(processes)
    finally:
        _disconnect()


def _of_many(processes: Processes) -> Iterator[Processes]:
    store = processes.store
    store.set(f"{VERSIONS}/{processes.rank}", json.dumps(versions()))
    _use_own_gpu(processes)
    if processes.first:
        try:
            _check_versions(processes)
            yield processes
        finally:
            with suppress(RuntimeError):
                store.set(ENDED, "")
        return
    # It holds nothing that could be lost, and must not wait for a sum to be done when it is told to stop.
    before = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield processes
    except EndedByFirst:
        raise
    except Exception as error:
        if not isinstance(error, LostProcess):
            _tell(processes, error)
        if _ended(processes):
            raise EndedByFirst(str(error)) from error
        raise
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def follows() -> bool:
    """Whether this process is one of several that torchrun started, and not the first."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("RANK", 0)) > 0


def _ended(processes: Processes) -> bool:
    """Whether the first process has ended in good order, or does so before long."""
    until = time.monotonic() + TELLING_SECONDS
    with suppress(RuntimeError):
        while time.monotonic() < until:
            if processes.store.check([ENDED]):
                return True
            time.sleep(LOOK_SECONDS)
    return False


def _tell(processes: Processes, error: Exception) -> None:
    """Let the first say why this one failed, which ends them all."""
    store = processes.store
    code = error.exit_code if isinstance(error, GraftError) else GraftError.exit_code
    sentence = str(error) if isinstance(error, GraftError) else f"unexpected {type(error).__name__}: {error}"
    with suppress(RuntimeError):
        store.set(FAILED, json.dumps({"rank": processes.rank, "sentence": sentence, "code": code}))
    # The first may be in a sum that this process has no part in any more.
    _disconnect()


def _check_versions(processes: Processes) -> None:
    keys = [f"{VERSIONS}/{rank}" for rank in range(processes.count)]
    with processes._exchange():
        processes.store.wait(keys, timedelta(seconds=START_SECONDS))
        refuse_other_versions([json.loads(processes.store.get(key)) for key in keys])


def _use_own_gpu(processes: Processes) -> None:
    """Let each process of a machine have a GPU of its own. Raises InputError where there are too few."""
    import torch

    if not torch.cuda.is_available():
        return
    own, there = int(os.environ.get("LOCAL_RANK", processes.rank)), torch.cuda.device_count()
    if own >= there:
        raise InputError(
            f"expected at most a process for each of the {there} GPUs of this machine, got process {own + 1} on it: "
            "lower --processes, or hide the GPUs with CUDA_VISIBLE_DEVICES= to train on processors"
        )
    torch.cuda.set_device(own)


def _group(processes: Processes) -> Any:
    """torch.distributed with its group, made when there is something to add for the first time."""
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store = distributed.PrefixStore("tensors", processes.store)
        distributed.init_process_group(
            backend, store=store, rank=processes.rank, world_size=processes.count, timeout=BEHIND
        )
    return distributed


def _disconnect() -> None:
    from torch import distributed

    if distributed.is_initialized():
        with suppress(RuntimeError):
            distributed.destroy_process_group()


def _job() -> str:
    """What the processes of one start have in common; torchrun without a rendezvous has no name for it."""
    named = os.environ["TORCHELASTIC_RUN_ID"]
    return named if named != "none" else f"{platform.node()}, process {os.getppid()}, {_started(os.getppid())}"


def _started(process: int) -> str:
    """When a process was started, where the system tells: numbers of processes are used again."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
