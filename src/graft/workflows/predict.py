"""Classify many images at once: in a resumable job, as they arrive, or in several views."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING

from graft.data.unlabelled import one_image
from graft.endings import is_no_image
from graft.errors import DataError, GraftError, InputError
from graft.names import plain
from graft.progress import NOBODY, Reporter
from graft.serving.abstaining import NO_RULE, Rule
from graft.serving.gathering import Entry, Gathered
from graft.serving.job import Job, check_remembered, place_of, remember, unfinished
from graft.serving.prediction import Prediction
from graft.serving.predictor import Classifier
from graft.serving.several_views import Views, predict_in_views
from graft.serving.watching import arrivals
from graft.serving.writing import write_predictions
from graft.weights.model_files import digest_of, model_folder
from graft.words import counted

if TYPE_CHECKING:
    from graft.evaluation.paired import Estimate

# Formats that are complete after every row, so that rows can be appended.
ADDED_TO = ("table", "csv", "tsv", "jsonl")
# Validation images on which the gain of several views is measured, and seconds between progress lines where there is no
# terminal.
MOST_IMAGES, BETWEEN_LINES = 300, 60.0
# Characters: as many as the csv module can be told of on every system.
LONGEST_CELL = 2**31 - 1


@dataclass
class Count:
    """Row counts so far: `left` by an earlier process, `done` in all, `failed` images, and deliberately `unanswered`
    ones; of the others, how many have each label.
    """

    left: int = 0
    done: int = 0
    failed: int = 0
    unanswered: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    with_nul: int = 0
    total: int | None = None
    began: float = field(default_factory=time.monotonic)

    def add(self, prediction: Prediction) -> None:
        self.done += 1
        self.failed += prediction.error is not None
        self.unanswered += prediction.abstained is not None
        alone = () if prediction.label is None else (prediction.label,)
        self.labels.update(alone if prediction.labels is None else prediction.labels)
        self.with_nul += "\0" in prediction.path

    def __str__(self) -> str:
        rate = (self.done - self.left) / max(time.monotonic() - self.began, 1e-9)
        if self.total is None or not rate:
            return f"{counted(self.done, 'image')}, {rate:,.0f} a second"
        minutes = (self.total - self.done) / rate / 60
        return f"{self.done:,} of {counted(self.total, 'image')}, {rate:,.0f} a second, {minutes:,.0f} min left"


@dataclass(frozen=True)
class Wanted:
    """What a row contains and where it goes: to the file `out`, else to the stream.

    Answers obey the `rule`; tables have a column for each name in `more`, some of `graft.serving.writing.MORE`.
    """

    format: str
    out: Path | None
    top: int = 5
    views: Views = field(default_factory=Views)
    rule: Rule = NO_RULE
    more: tuple[str, ...] = ()
    # Taken before a progress bar replaces stdout.
    stream: IO[str] = field(default_factory=lambda: sys.stdout)


def predict(
    classifier: Classifier,
    images: Gathered,
    wanted: Wanted,
    job: Job,
    *,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter,
) -> Count:
    """Write a row for every image, in order, to the file of `wanted` or to stdout.

    Rows for a file are kept beside it until all are known; `resume` continues after the rows that an earlier process
    left. Raises InputError if those belong to another job, GraftError if the rows cannot be written.
    """
    out = wanted.out
    count = Count(total=images.count)
    if out is None or (out.exists() and not out.is_file()):
        rows = _told(_answers(classifier, images, wanted), count, reporter)
        write_predictions(rows, wanted.format, out or wanted.stream, wanted.top, wanted.more)
        return count
    with unfinished(out, job, resume, overwrite) as kept:
        count.left = kept.before
        for row in kept.rows() if kept.before else ():
            count.add(row)
        if kept.before:
            reporter.note(f"continuing after {counted(kept.before, 'image')} of an earlier job")
            reporter.step("images", count.done, count.total or count.done)
        try:
            for row in _told(_answers(classifier, kept.left(images), wanted), count, reporter):
                kept.add(row)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(
                f"stopped after {count}; they are kept, and --resume continues from there"
            ) from stop
        write_predictions(kept.rows(), wanted.format, out, wanted.top, wanted.more)
        remember(out, job, complete=True)
    return count


def _answers(classifier: Classifier, images: Iterable[Entry], wanted: Wanted) -> Iterator[Prediction]:
    if len(wanted.views) > 1:
        return predict_in_views(classifier, images, wanted.views, wanted.top)
    return classifier.stream(images, wanted.top, wanted.rule)


def _told(rows: Iterable[Prediction], count: Count, reporter: Reporter) -> Iterator[Prediction]:
    """Yield the rows as they come, counting them and reporting progress."""
    said = count.began = time.monotonic()
    for row in rows:
        yield row
        count.add(row)
        if count.total is not None:
            reporter.step("images", count.done, count.total)
        if time.monotonic() - said > BETWEEN_LINES and not sys.stderr.isatty():
            said = time.monotonic()
            reporter.note(str(count))


def is_begun(out: Path) -> bool:
    """Return whether an earlier process left rows for the file `out`."""
    return place_of(out).is_file()


def check_finished(out: Path, format: str, images: Iterable[Entry]) -> int:
    """Return the number of rows in a finished file that has one for each image. Raises InputError for other rows."""
    asked = [plain(image.path) for image in images]
    try:
        rows = _finished_paths(out, format)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error):
        rows = None
    if format == "table" and rows is not None:
        same = len(rows) == len(asked) and all(
            row.startswith(f"{path}  ") for row, path in zip(rows, asked, strict=True)
        )
    else:
        same = rows == asked
    if not same:
        added = set(asked) - set(rows or ()) if format != "table" else set()
        if rows and added and set(rows) < set(asked):
            raise InputError(
                f"expected a row for each of {counted(len(asked), 'image')} in {out}, got none for "
                f"{counted(len(added), 'image')} that came later, such as {min(added)}: give only these and another "
                "--out, begin again with --overwrite, or have --watch add them as they come"
            )
        came = "something else" if rows is None else f"{counted(len(rows), 'row')} of others"
        raise InputError(
            f"expected a row for each of {counted(len(asked), 'image')} in {out}, whose job file is gone, got {came}: "
            "give another --out, or begin again with --overwrite"
        )
    return len(asked)


def _finished_paths(out: Path, format: str) -> list[str]:
    """Return the paths in the rows of a finished file; for a table, its lines."""
    if format == "parquet":
        import pyarrow.parquet

        found: list[str] = pyarrow.parquet.read_table(out, columns=["path"]).column("path").to_pylist()
        return found
    text = out.read_bytes().decode()
    if format == "table":
        return _lines(text)
    if format == "json":
        return [str(row["path"]) for row in json.loads(text)]
    if format == "jsonl":
        return [str(json.loads(line)["path"]) for line in _lines(text)]
    with _cells_of_any_length():
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="," if format == "csv" else "\t", strict=True)
        complete = [row for row in rows if None not in row.values()]
    return [row["path"] for row in complete]


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """Let cells be longer than Python allows by default, as sets of thousands of classes are."""
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _lines(text: str) -> list[str]:
    """Split into lines at newlines only: names may contain other characters that Unicode treats as line ends."""
    return text.removesuffix("\n").split("\n") if text else []


def job_of(run: str | PathLike[str], classifier: Classifier, wanted: Wanted) -> Job:
    """Return what determines the rows of a file besides the images. Raises WeightsError for an unreadable model."""
    return Job(
        digest_of(Path(run).expanduser()), classifier.arithmetic, wanted.top, str(wanted.views), wanted.rule.key()
    )


def watch(
    classifier: Classifier,
    folder: Path,
    wanted: Wanted,
    job: Job,
    *,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter = NOBODY,
    looks: Callable[[Path], Iterator[list[Path]]] = arrivals,
) -> Count:
    """Write a row for every image in the folder, then for each new one as it arrives, until interrupted.

    Files whose names say that they are not images are skipped with a note. Rows are appended to the file of `wanted`;
    with `resume`, existing rows stay, and images that have one are skipped. Raises InputError for a format that cannot
    be appended to and for rows of another job, GraftError if the rows cannot be written.
    """
    if wanted.format not in ADDED_TO:
        raise InputError(
            f"expected one of {', '.join(ADDED_TO)} for the file that --watch adds to, got {wanted.format}: choose "
            "one of them"
        )
    count, out, arriving = Count(), wanted.out, looks(folder)
    known: set[str] = set()
    reporter.note(f"watching {folder}; Ctrl-C ends it")
    try:
        if out is not None and resume and out.is_file():
            known = _paths_in(out, wanted)
            if not check_remembered(out, job):
                _check_columns(out, wanted)
        if out is not None:
            remember(out, job, complete=False)
        with nullcontext(wanted.stream) if out is None else _added_to(out, resume) as file:
            first = out is None or not out.stat().st_size
            for files in arriving:
                new = [file for file in files if plain(str(file)) not in known]
                for other in new:
                    if is_no_image(other):
                        reporter.note(f"{other} is not named like an image and was passed over")
                entries = (Entry(one_image(image), 0) for image in new if not is_no_image(image))
                rows = _counted(_answers(classifier, entries, wanted), count)
                write_predictions(rows, wanted.format, file, wanted.top, wanted.more, header=first)
                first = False
                # Existing rows skip a file only once: when it is reported again, it has changed.
                known -= {plain(str(file)) for file in files}
    except BrokenPipeError:
        raise
    except OSError as error:
        raise GraftError(
            f"expected to add predictions to {out}, got {error.strerror or error}: free space there, or give another "
            "--out"
        ) from None
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"stopped after {count}") from stop
    return count


def _check_columns(out: Path, wanted: Wanted) -> None:
    """Refuse to add rows with other columns to a file. Raises InputError."""
    header = io.StringIO(newline="")
    write_predictions(iter(()), wanted.format, header, wanted.top, wanted.more)
    with out.open(encoding="utf-8", errors="replace", newline="") as file:
        columns = file.readline() if header.getvalue() else ""
    if columns not in ("", header.getvalue()):
        raise InputError(
            f"expected the columns that {out} was begun with, got others: use the same options as before, or give "
            "another --out"
        )


def _added_to(out: Path, resume: bool) -> IO[str]:
    return out.open("a" if resume else "w", encoding="utf-8", newline="")


def _counted(rows: Iterable[Prediction], count: Count) -> Iterator[Prediction]:
    for row in rows:
        yield row
        count.add(row)


def _paths_in(out: Path, wanted: Wanted) -> set[str]:
    """Return the paths that the rows of a file name, after removing a truncated last row. Raises InputError."""
    if wanted.format == "table":
        raise InputError(f"expected csv, tsv or jsonl to continue, got the table {out}: begin again with --overwrite")
    with out.open("r+b") as file:
        content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        file.truncate(len(whole))
    text = whole.decode("utf-8", "replace")
    try:
        if wanted.format == "jsonl":
            return {str(json.loads(line)["path"]) for line in _lines(text)}
        with _cells_of_any_length():
            rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="," if wanted.format == "csv" else "\t")
            if text and "path" not in (rows.fieldnames or ()):
                raise ValueError
            return {row["path"] for row in rows}
    except (ValueError, KeyError, TypeError, RecursionError, csv.Error):
        raise InputError(
            f"expected predictions that `graft predict --watch` wrote in {out}, got something else: give another --out"
        ) from None


@dataclass(frozen=True)
class Gain:
    """The gain from several views on validation images: accuracy without and with them, and the cost in time."""

    n: int
    source: str
    without: float
    difference: Estimate
    times: float

    def __str__(self) -> str:
        low, high = self.difference.ci95 or (0.0, 0.0)
        return (
            f"accuracy {self.without:.3f} without, {self.without + self.difference.value:.3f} with it "
            f"({100 * self.difference.value:+.1f} points, 95 % confidence interval {100 * low:+.1f} to "
            f"{100 * high:+.1f}) on {counted(self.n, 'image')} of {self.source}, in {self.times:.1f} times the time"
        )


def measured_gain(run: str | PathLike[str], classifier: Classifier, views: Views) -> Gain:
    """Measure what `views` gain on up to 300 of the run's validation images.

    Raises InputError for a model without its run, DataError if its images cannot be opened or decoded.
    """
    import numpy as np

    from graft.evaluation.paired import paired_difference
    from graft.training.task import sample
    from graft.workflows.own_images import images_of_run
    from graft.workflows.run import was_refitted

    if classifier.multi_label:
        raise InputError(
            "expected a classifier that gives one label to measure the gain of --tta with, got one that gives several: "
            "leave --tta out"
        )
    folder = model_folder(Path(run).expanduser()).parent
    trained_on = ", which the final model was also trained on" if was_refitted(folder) else ""
    source, dataset, images = images_of_run(folder, "to measure --tta on", "leave --tta out")
    images = sample(images, 0, MOST_IMAGES)
    entries = [Entry(images, index) for index in range(len(images))]
    labels = [dataset.classes[label] if label >= 0 else None for label in images.labels.tolist()]
    right: list[list[bool]] = []
    seconds = []
    list(classifier.stream(entries[:1]))  # opens the engine
    for each in (Views(), views):
        began = time.monotonic()
        answers = list(predict_in_views(classifier, entries, each, 1))
        seconds.append(time.monotonic() - began)
        right.append([a.label == label for a, label in zip(answers, labels, strict=True) if a.error is None])
        decoded = np.array([a.error is None for a in answers])
    if not right[0]:
        raise DataError("expected validation images that can be decoded to measure --tta on, got none: leave it out")
    without, with_views = map(np.array, right)
    number = np.arange(len(without))
    groups = None if images.groups is None else images.groups[decoded]
    difference = paired_difference(with_views, without, number, np.zeros(len(number), np.int64), groups)
    return Gain(len(number), f"{source}, val{trained_on}", float(without.mean()), difference, seconds[1] / seconds[0])
