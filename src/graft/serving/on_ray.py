"""Predict with the processes of a Ray cluster, or of this machine under Ray, and write Parquet in parts.

The images are numbered and dealt out in parts of fixed size. Actors, each with its own classifier, answer them; an
actor has at most two parts queued, so that nothing piles up. As soon as a part is answered, this process writes it to a
file named by its number, aside and then renamed. So a folder never holds half a part or a part twice, a part whose
actor died goes to another, and an interrupted job continues with the parts that are missing.

Ray's own data sets would move rows between machines to write them, and would not tell which rows a folder already has.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import groupby, islice
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from graft.data.dataset import Images
from graft.errors import GraftError, InputError
from graft.files import remove_abandoned, write_json
from graft.names import plain
from graft.progress import NOBODY, Reporter
from graft.serving.gathering import Entry, Gathered
from graft.serving.job import Job
from graft.serving.prediction import Prediction
from graft.serving.predictor import load
from graft.serving.writing import columns_for, write_predictions
from graft.weights.model_files import digest_of, is_on_hub
from graft.words import counted

# Images per part: enough to make handing them over cheap, few enough that losing an actor costs little.
PART = 512
# Parts queued per actor, and how often a part is handed out before the job fails.
BEFORE_EACH, MOST_TRIES = 2, 4
# Seconds without a connection after which nobody is taken to answer at an address.
PATIENCE = 10
JOB_FILE = "job.json"


class Hands(Protocol):
    """Workers that answer parts: each takes one, and later reports that it is done or that the worker is gone."""

    @property
    def count(self) -> int: ...

    def give(self, part: int, entries: list[Entry]) -> None: ...

    def finished(self) -> tuple[int, list[Prediction] | None]:
        """Wait for any part; return its number and its predictions, None if its worker is gone. Raises GraftError."""
        ...


@dataclass(frozen=True)
class Done:
    """Counts: rows in the folder, rows for images that could not be decoded, and rows that were there before."""

    rows: int
    failed: int
    before: int


def predict_in_parts(
    entries: Iterable[Entry], hands: Hands, out: Path, job: Job, top: int, more: Sequence[str], reporter: Reporter
) -> Done:
    """Have all images answered by `hands`, and write one row each to the folder `out`; finished parts there are kept.

    Raises GraftError when a part's workers die again and again, and when writing fails.
    """
    numbered = enumerate(_parts(iter(entries)))
    there = _begin(out, job)
    waiting: dict[int, tuple[list[Entry], int]] = {}
    rows = failed = before = 0

    def tell() -> None:
        reporter.step("images", rows, rows + sum(len(part) for part, _ in waiting.values()))

    while True:
        while len(waiting) < BEFORE_EACH * hands.count and (following := next(numbered, None)) is not None:
            number, part = following
            if number in there:
                rows, before, failed = rows + len(part), before + len(part), failed + _check_part(there[number], part)
                continue
            waiting[number] = (part, 1)
            hands.give(number, part)
        if not waiting:
            break
        number, answers = hands.finished()
        part, tries = waiting.pop(number)
        if answers is None:
            if tries == MOST_TRIES:
                raise GraftError(
                    f"expected an actor that answers the images from {part[0].path!r} on, got {tries} that died on "
                    "them: see Ray's logs, and leave out the images that they died on; finished parts are kept"
                )
            reporter.note(f"an actor died; the {counted(len(part), 'image')} it had are given to another")
            waiting[number] = (part, tries + 1)
            hands.give(number, part)
            continue
        if [answer.path for answer in answers] != [plain(entry.path) for entry in part]:
            raise GraftError(
                f"expected an answer for each of {counted(len(part), 'image')}, got {len(answers)} others: this is a "
                "bug in graft, please report it"
            )
        write_predictions(iter(answers), "parquet", _path(out, number), top, more)
        rows, failed = rows + len(part), failed + sum(answer.error is not None for answer in answers)
        tell()
    return Done(rows, failed, before)


def _parts(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while part := [*islice(entries, PART)]:
        yield part


def _path(out: Path, number: int) -> Path:
    return out / f"part-{number:06}.parquet"


def _begin(out: Path, job: Job) -> dict[int, Path]:
    """Return the job's finished parts in its folder, by number; create the folder if needed. Raises InputError."""
    wanted = {**asdict(job), "part": PART}
    try:
        out.mkdir(parents=True, exist_ok=True)
        if (out / JOB_FILE).exists():
            begun = json.loads((out / JOB_FILE).read_bytes())
            if begun != json.loads(json.dumps(wanted)):
                raise InputError(
                    f"expected the job that {out} was begun with, got another model or other options: use the same "
                    "ones as before, or give another --out"
                )
        elif any(out.iterdir()):
            raise InputError(f"expected a new or empty folder for --out, got {out} with other files: give another")
        else:
            write_json(out / JOB_FILE, wanted)
        remove_abandoned(out)
    except ValueError:
        raise InputError(f"expected a job in {out / JOB_FILE}, got something else: give another --out") from None
    except OSError as error:
        raise GraftError(f"expected to write to {out}, got {error.strerror or error}: give another --out") from None
    names = {path: re.fullmatch(r"part-(\d{6,})\.parquet", path.name) for path in out.iterdir()}
    return {int(match[1]): path for path, match in names.items() if match}


def _check_part(path: Path, part: list[Entry]) -> int:
    """Return how many images of a finished part could not be decoded. Raises InputError if it holds other images."""
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, columns=["path", "error"])
    except (OSError, ValueError) as error:
        raise InputError(f"expected predictions in {path}, got something else ({error}): remove it") from None
    if table.column("path").to_pylist() != [plain(entry.path) for entry in part]:
        raise InputError(
            f"expected predictions of the images that the job began with in {path}, got others: give the same images "
            "in the same order, or another --out"
        )
    return len(table) - table.column("error").null_count


class RayHands:
    """Ray actors, each with its own classifier; one that dies is replaced."""

    def __init__(self, count: int, start: Callable[[int], Any]) -> None:
        """`start` starts the n-th actor."""
        self._actors = [start(number) for number in range(count)]
        self._start = start
        self._busy = [0] * count
        self._given: dict[Any, tuple[int, int]] = {}
        # A source that many parts share is handed over once.
        self._stored: dict[int, tuple[Images, Any]] = {}

    @property
    def count(self) -> int:
        return len(self._actors)

    @property
    def actors(self) -> Sequence[Any]:
        return self._actors

    def give(self, part: int, entries: list[Entry]) -> None:
        least = self._busy.index(min(self._busy))
        self._busy[least] += 1
        self._given[self._actors[least].answer.remote(self._handed_over(entries))] = (part, least)

    def _handed_over(self, entries: list[Entry]) -> list[tuple[Any, list[int]]]:
        """Return entries as images, or as references where Ray has stored them, with the numbers of those meant."""
        import ray

        found: list[tuple[Any, list[int]]] = []
        for images, some in groupby(entries, lambda entry: entry.images):
            if len(images) > PART and id(images) not in self._stored:
                try:
                    self._stored[id(images)] = (images, ray.put(images))
                except (TypeError, ValueError, AttributeError) as error:
                    raise InputError(
                        "expected images that other processes can also open, such as a folder, a table or Parquet, "
                        f"got others ({error}): unpack them first"
                    ) from None
            found.append((self._stored.get(id(images), (None, images))[1], [entry.index for entry in some]))
        return found

    def finished(self) -> tuple[int, list[Prediction] | None]:
        import ray

        ready, _ = ray.wait([*self._given], num_returns=1)
        part, number = self._given.pop(ready[0])
        self._busy[number] -= 1
        try:
            return part, ray.get(ready[0])
        except ray.exceptions.RayActorError:
            # The first of its lost parts to be reported triggers the replacement.
            with suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                ray.get(self._actors[number].ready.remote(), timeout=PATIENCE)
                return part, None
            self._actors[number] = self._start(number)
            return part, None
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, GraftError) else GraftError(f"an actor failed: {cause}") from None


def check_installed() -> None:
    """Raise InputError when Ray is not installed."""
    if find_spec("ray") is None:
        raise InputError("expected Ray for --engine ray, got none installed: pip install 'graft-vision[scale]'")


@contextmanager
def ray_hands(
    run: str | PathLike[str], asked: dict[str, Any], processes: int | None, address: str | None
) -> Iterator[Any]:
    """Yield actors with the classifier of `run`, as `graft.serving.predictor.load` takes it, on all cores that Ray has.

    Without `address`, Ray runs on this machine alone, for the duration of the block, and sends nothing anywhere. Raises
    InputError when Ray is not installed or nobody answers at the address.
    """
    # Ray reads these when imported: no usage statistics are sent, and no page is served.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    check_installed()
    import ray

    if ray.is_initialized():
        raise InputError("expected to start Ray, got a process that already uses it: call ray.shutdown() first")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        ray.init(
            address="local",
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            num_cpus=processes,
            **quiet,
        )
    else:
        _check_answers(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise _nobody(address, str(error).splitlines()[0]) from None
    try:
        count = processes or max(1, int(ray.cluster_resources().get("CPU", 1)))
        made = ray.remote(num_cpus=1, max_restarts=0)(_Actor)
        yield RayHands(count, lambda number: made.remote(str(run), asked, number if address is None else None))
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise InputError when nobody accepts a connection; Ray itself would try for a minute."""
    import socket

    match = re.fullmatch(r"(?:ray://)?\[?([^\]]+?)\]?:(\d{1,5})", address)
    if match is None:
        if address == "auto":
            return
        raise InputError(
            f"expected an address such as 10.0.0.1:6379 or auto for --address, got {address!r}: correct it"
        )
    try:
        with socket.create_connection((match[1], int(match[2])), timeout=PATIENCE / 2):
            pass
    except (OSError, OverflowError) as error:
        raise _nobody(address, str(error)) from None


def _nobody(address: str, reason: str) -> InputError:
    return InputError(
        f"expected a Ray cluster at {address}, got no answer ({reason}): start one with `ray start --head`, correct "
        "--address, or leave it out to use this machine"
    )


class _Actor:
    """A classifier in its own process."""

    def __init__(self, run: str, asked: dict[str, Any], core: int | None) -> None:
        """With `core`, pin this process to that core: libraries unaware of Ray would take every core."""
        if core is not None and hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cores[core % len(cores)]})
        promises = {name: value for name, value in asked.items() if name not in ("top", "precision")}
        self._top = min(asked["top"], sys.maxsize)
        self._classifier = load(run, precision=asked["precision"])
        self._rule = self._classifier.rule(**promises)
        self._stored: dict[Any, Images] = {}

    def ready(self) -> int:
        return os.getpid()

    def answer(self, handed_over: list[tuple[Any, list[int]]]) -> list[Prediction]:
        entries = [
            Entry(images, index) for place, some in handed_over for images in [self._at(place)] for index in some
        ]
        return [*self._classifier.stream(entries, self._top, self._rule)]

    def _at(self, place: Any) -> Images:
        import ray

        if not isinstance(place, ray.ObjectRef):
            return place  # type: ignore[no-any-return]
        if place not in self._stored:
            self._stored[place] = ray.get(place)
        return self._stored[place]


def predict_on_ray(
    run: str | PathLike[str],
    images: Gathered,
    out: Path,
    asked: dict[str, Any],
    *,
    processes: int | None = None,
    address: str | None = None,
    reporter: Reporter = NOBODY,
) -> Done:
    """Write one row per image to the folder `out`, with Ray here or at an address; existing parts are kept.

    `asked` holds `top`, `precision` and the promises of `graft.serving.abstaining.rule_for`. Raises InputError and
    GraftError.
    """
    place = Path(run).expanduser()
    # Actors have a working directory of their own.
    named = str(run) if is_on_hub(place) else str(place.absolute())
    made_of = digest_of(place)
    promises = {name: value for name, value in asked.items() if name not in ("top", "precision")}
    job = Job(made_of, f"ray {asked['precision']}", asked["top"], "", json.dumps(promises, sort_keys=True))
    check_installed()
    # Loaded here as well, so that what it cannot promise is refused before any process starts.
    classifier = load(named, precision=asked["precision"])
    classifier.rule(**promises)
    more = columns_for(promises, classifier.multi_label)
    with ray_hands(named, asked, processes, address) as hands:
        return predict_in_parts(images, hands, out, job, asked["top"], more, reporter)
