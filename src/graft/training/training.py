"""From labelled pictures to a run folder, step by step."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graft.data.dataset import TEST, TRAIN, VAL, Dataset, Pictures, counts, relabel
from graft.data.loading import batches
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
from graft.errors import DataError, InputError
from graft.evaluation.calibration import fit_temperature, softmax
from graft.evaluation.report import html_report
from graft.evaluation.scores import scores
from graft.features.cache import Activations, cache_budget, write_aside
from graft.features.engine import Choice, choose
from graft.features.extraction import Progress, activation_bytes, extract, output_shape
from graft.images.preprocessing import Fit as PictureFit
from graft.images.preprocessing import Preprocessing
from graft.models.network import INPUT, Network
from graft.training.head import HeadFit, fit_head
from graft.training.inputs import ActivationInputs, Inputs, PictureInputs, PixelInputs
from graft.training.loop import Epoch, Recipe, crown_logits, fit_crown
from graft.training.run_folder import RESULT_FILE, check_arguments, claim, write_arguments, write_json
from graft.transfer.levels import Plan, check_level, plan
from graft.weights.base import Base, load_base, untrained_base
from graft.weights.saved import SavedModel, save_model

# Decoded pictures up to this size stay in memory between epochs.
PIXELS_IN_MEMORY_BYTES = 2 * 2**30
# AdamW's peak rate by start: pretrained layers move less than random ones.
PRETRAINED_RATE, RANDOM_RATE = 2e-4, 2e-3
EPOCHS_PRETRAINED, EPOCHS_RANDOM = 10, 30


@dataclass(frozen=True)
class Accuracy:
    """Top-1 on a split with Wilson's 95 % interval, on `n` pictures."""

    top1: float
    top1_ci95: tuple[float, float]
    n: int


@dataclass(frozen=True)
class Run:
    """A finished training. `skipped` maps pictures that could not be decoded to the reason."""

    folder: Path
    base: str
    level: str
    cut: str
    classes: tuple[str, ...]
    val: Accuracy
    test: Accuracy | None
    majority: float
    seconds: dict[str, float]
    images: int
    engine: str
    skipped: dict[str, str]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As `graft train --json` prints it."""
        values = asdict(self)
        values = {"run": str(values.pop("folder")), **values}
        values["baseline"] = {"majority": values.pop("majority")}
        if self.test is None:
            del values["test"]
        return values


@dataclass(frozen=True)
class Reporter:
    """Who is told how the work goes: a step by name with pictures done of all, an epoch, a sentence."""

    step: Callable[[str, int, int], None] = lambda name, done, total: None
    epoch: Callable[[Epoch, int], None] = lambda epoch, of: None
    note: Callable[[str], None] = lambda sentence: None


@dataclass(frozen=True)
class _Work:
    """What the steps of one training share."""

    dataset: Dataset
    base: Base
    preprocessing: Preprocessing
    plan: Plan
    choice: Choice
    recipe: Recipe
    folder: Path
    seed: int
    reporter: Reporter


@dataclass(frozen=True)
class _Trained:
    """What a level made: logits (n, classes) and labels by split, the temperature, and where the time went."""

    logits: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    temperature: float
    skipped: dict[str, str]
    feature_seconds: float
    training_seconds: float


def train(
    data: str | Path,
    base: str = "mobilenet_v2",
    level: str = "auto",
    *,
    out: str | Path | None = None,
    epochs: int | None = None,
    batch_size: int = 32,
    rate: float | None = None,
    image_size: int | None = None,
    fit: PictureFit | None = None,
    engine: str = "auto",
    precision: str = "auto",
    arch: str | None = None,
    classes_file: str | Path | None = None,
    seed: int = 0,
    strict: bool = False,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> Run:
    """Turn labelled pictures into a classifier in a run folder, keeping as much of `base` as `level` says.

    `data` is a folder per class (under `train/ val/ test/` or not), Parquet with embedded pictures, or IDX files; it is
    only read. `level` is `as-is`, `head`, `stages:K`, `frozen:F`, `all`, `scratch` or `auto`. Pictures that cannot be
    decoded are skipped and named in the result, or refused with `strict`. Raises InputError and its kinds for what
    cannot be used, FetchError for weights that are not here.
    """
    started, reporter = time.perf_counter(), reporter or Reporter()
    check_level(level)
    _check_numbers(epochs, batch_size, rate, image_size)
    data = Path(data).expanduser()
    dataset = with_validation(open_dataset(data), seed)
    torch.manual_seed(seed)
    if level == "scratch":
        start = untrained_base(base, architecture=arch, seed=seed)
    else:
        names = Path(classes_file) if classes_file else None
        start = load_base(base, architecture=arch, classes_file=names, progress=True)
    preprocessing = _with_choices(start.preprocessing, image_size, fit)
    chosen = plan(level, start.network, start.pretrained)
    if chosen.level == "as-is":
        dataset = _in_base_classes(dataset, start)
    arguments = {
        "data": str(data.resolve()), "base": base, "level": level, "epochs": epochs, "batch_size": batch_size,
        "rate": rate, "image_size": image_size, "fit": fit, "engine": engine, "precision": precision, "arch": arch,
        "seed": seed,
    }  # fmt: skip
    folder = claim(Path(out) if out else None, data, resume)
    if resume:
        check_arguments(folder, arguments)
        if (folder / RESULT_FILE).exists():
            reporter.note(f"{folder} is finished already; this is its result")
            return _read_run(folder)
    write_arguments(folder, arguments)
    write_json(folder / "plan.json", chosen.to_dict())
    choice = choose(engine, precision)
    notes = (*dataset.notes, *start.notes)
    for sentence in (
        *notes,
        f"level {chosen.level}, cut {chosen.cut}: {'; '.join(chosen.reasons)}",
        f"engine {choice}",
    ):
        reporter.note(sentence)
    work = _Work(
        dataset, start, preprocessing, chosen, choice, _recipe(start, epochs, batch_size, rate), folder, seed, reporter
    )
    trained = _fit(work)
    if trained.skipped and strict:
        name, reason = next(iter(trained.skipped.items()))
        raise DataError(f"expected every picture to be readable with --strict, got {name}: {reason}")
    return _finish(work, trained, notes, started)


def _fit(work: _Work) -> _Trained:
    if work.plan.level == "as-is":
        return _fit_nothing(work)
    if work.plan.cut == work.base.network.cuts[-2]:
        return _fit_head(work)
    return _fit_crown(work)


def _fit_nothing(work: _Work) -> _Trained:
    """The base as it is: its own logits on every split but train."""
    splits = {name: pictures for name, pictures in work.dataset.splits.items() if name != TRAIN}
    started = time.perf_counter()
    network = work.base.network
    found = _extract(work, network.cuts[-1], splits, "features")
    logits = {name: activations.values.float().numpy() for name, activations in found.items()}
    labels = {name: work.dataset.splits[name].labels[found[name].indices] for name in found}
    seconds = time.perf_counter() - started
    return _Trained(logits, labels, 1.0, _skipped(work.dataset.splits, found), seconds, 0.0)


def _fit_head(work: _Work) -> _Trained:
    """A new head on the frozen features of the stage before it."""
    started = time.perf_counter()
    network, dataset = work.base.network, work.dataset
    found = _extract(work, network.cuts[-2], dict(dataset.splits), "features")
    labels = {name: dataset.splits[name].labels[found[name].indices] for name in found}
    _check_classes(dataset, labels)
    extracted = time.perf_counter()
    features = {name: activations.values.float().numpy() for name, activations in found.items()}
    head = fit_head(features[TRAIN], labels[TRAIN], len(dataset.classes), work.seed)
    _put_head(network, head)
    temperature = fit_temperature(head.logits, head.labels)
    logits = {name: values @ head.weight.T + head.bias for name, values in features.items() if name != TRAIN}
    seconds = time.perf_counter() - extracted
    return _Trained(logits, labels, temperature, _skipped(dataset.splits, found), extracted - started, seconds)


def _fit_crown(work: _Work) -> _Trained:
    """Head first, then the crown: a pretrained base starts from the optimal head on its frozen features."""
    started = time.perf_counter()
    network, dataset = work.base.network, work.dataset
    skipped: dict[str, str] = {}
    if work.base.pretrained and work.plan.level != "scratch":
        training = {name: pictures for name, pictures in dataset.splits.items() if name == TRAIN}
        found = _extract(work, network.cuts[-2], training, "features for the head")
        labels = {TRAIN: dataset.splits[TRAIN].labels[found[TRAIN].indices]}
        _check_classes(dataset, labels)
        features = found[TRAIN].values.float().numpy()
        _put_head(network, fit_head(features, labels[TRAIN], len(dataset.classes), work.seed))
    else:
        network.new_head(len(dataset.classes))
    inputs = {}
    for name, pictures in dataset.splits.items():
        inputs[name], failures = _crown_inputs(work, name, pictures)
        skipped |= {pictures.name(index): reason for index, reason in failures.items()}
    _check_classes(dataset, {name: split.labels for name, split in inputs.items()})
    extracted = time.perf_counter()
    _, crown = network.split(work.plan.cut)
    crown.requires_grad_(True)
    device = work.choice.device

    def told(history: tuple[Epoch, ...]) -> None:
        lines = "".join(f"{_json_line(epoch)}\n" for epoch in history)
        write_aside(work.folder / "metrics.jsonl", lambda file: file.write(lines.encode()))
        work.reporter.epoch(history[-1], work.recipe.epochs)

    checkpoint = work.folder / "checkpoints" / "last.safetensors"
    fit_crown(
        crown, inputs[TRAIN], inputs[VAL], work.recipe, seed=work.seed, device=device, checkpoint=checkpoint, told=told
    )
    logits = {name: crown_logits(crown, split, device) for name, split in inputs.items() if name != TRAIN}
    labels = {name: split.labels for name, split in inputs.items()}
    temperature = fit_temperature(logits[VAL], labels[VAL])
    seconds = time.perf_counter() - extracted
    return _Trained(logits, labels, temperature, skipped, extracted - started, seconds)


def _crown_inputs(work: _Work, name: str, pictures: Pictures) -> tuple[Inputs, dict[int, str]]:
    """What the crown is trained on: cached activations at the cut, pixels for a cut before everything, or, for what is
    too large to keep, pictures read again in every epoch."""
    trunk, _ = work.base.network.split(work.plan.cut)
    trunk.eval()
    trunk.requires_grad_(False)
    if work.plan.cut != INPUT:
        shape = output_shape(trunk, work.preprocessing)
        if activation_bytes(len(pictures), shape, work.choice.precision) <= cache_budget():
            activations = _extract(work, work.plan.cut, {name: pictures}, f"activations of {name}")[name]
            return ActivationInputs(activations.values, pictures.labels[activations.indices]), activations.failures
        work.reporter.note(f"activations of {name} exceed the cache's budget: the trunk runs again in every epoch")
    pixel_bytes = len(pictures) * work.preprocessing.channels * work.preprocessing.size**2
    keep = work.plan.cut == INPUT and pixel_bytes <= PIXELS_IN_MEMORY_BYTES
    pixels, indices, failures, done = [], [], {}, 0
    for batch in batches(pictures, work.preprocessing, 32):
        failures |= batch.failures
        indices.append(batch.indices)
        if keep:
            pixels.append(batch.pixels)
        done += len(batch.indices) + len(batch.failures)
        work.reporter.step(f"decoding {name}", done, len(pictures))
    readable = np.concatenate(indices)
    if keep:
        return PixelInputs(torch.cat(pixels), pictures.labels[readable], work.preprocessing), failures
    device = torch.device(work.choice.device)
    return PictureInputs(pictures.take(readable), work.preprocessing, trunk.to(device), device), failures


def _extract(work: _Work, cut: str, splits: dict[str, Pictures], step: str) -> dict[str, Activations]:
    trunk, _ = work.base.network.split(cut)
    trunk.eval()

    def tell(done: int, total: int) -> None:
        work.reporter.step(step, done, total)

    progress: Progress = tell
    return extract(trunk, splits, work.preprocessing, work.choice, progress=progress)


def _finish(work: _Work, trained: _Trained, notes: tuple[str, ...], started: float) -> Run:
    """Scores, then everything into the run folder, the result last: a folder with a result is complete."""
    classes = work.dataset.classes
    found = {name: scores(softmax(logits, trained.temperature), trained.labels[name], classes)
             for name, logits in trained.logits.items()}  # fmt: skip
    network = work.base.network.cpu().eval()
    accuracies = {name: Accuracy(split.top1, split.top1_ci95, split.n) for name, split in found.items()}
    facts = {
        "base": work.base.name,
        "level": work.plan.level,
        "cut": work.plan.cut,
        "data": work.dataset.name,
        **{name: asdict(accuracy) for name, accuracy in accuracies.items()},
    }
    saved = SavedModel(network, work.preprocessing, classes, trained.temperature, facts)
    save_model(work.folder / "model", saved)
    write_json(work.folder / "audit.json", _audit(work.dataset, trained.skipped))
    run = Run(
        folder=work.folder,
        base=work.base.name,
        level=work.plan.level,
        cut=work.plan.cut,
        classes=classes,
        val=accuracies[VAL],
        test=accuracies.get(TEST),
        majority=found[VAL].majority,
        seconds={
            "total": time.perf_counter() - started,
            "features": trained.feature_seconds,
            "training": trained.training_seconds,
        },
        images=len(work.dataset) - len(trained.skipped),
        engine=str(work.choice),
        skipped=trained.skipped,
        notes=notes,
    )
    page = html_report(f"{work.dataset.name}: {work.plan.level} of {work.base.name}", run.to_dict(), found)
    write_aside(work.folder / "report.html", lambda file: file.write(page.encode()))
    write_json(work.folder / RESULT_FILE, run.to_dict())
    return run


def _read_run(folder: Path) -> Run:
    values = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    values |= {"folder": folder, "majority": values.pop("baseline")["majority"]}
    del values["run"]
    for name in (VAL, TEST):
        split = values.get(name)
        values[name] = Accuracy(split["top1"], tuple(split["top1_ci95"]), split["n"]) if split else None
    values |= {"classes": tuple(values["classes"]), "notes": tuple(values["notes"])}
    return Run(**values)


def _recipe(base: Base, epochs: int | None, batch_size: int, rate: float | None) -> Recipe:
    usual_epochs, usual_rate = (EPOCHS_PRETRAINED, PRETRAINED_RATE) if base.pretrained else (EPOCHS_RANDOM, RANDOM_RATE)
    return Recipe(epochs=usual_epochs if epochs is None else epochs, batch_size=batch_size, rate=rate or usual_rate)


def _with_choices(preprocessing: Preprocessing, size: int | None, fit: PictureFit | None) -> Preprocessing:
    if fit is not None and fit not in ("crop", "letterbox", "squash"):
        raise InputError(f"expected crop, letterbox or squash for --fit, got {fit!r}: choose one of them")
    return replace(preprocessing, size=size or preprocessing.size, fit=fit or preprocessing.fit)


def _check_numbers(epochs: int | None, batch_size: int, rate: float | None, image_size: int | None) -> None:
    checks = (("--epochs", epochs, 0), ("--batch-size", batch_size, 1), ("--image-size", image_size, 8))
    for name, value, least in checks:
        if value is not None and value < least:
            raise InputError(f"expected {least} or more for {name}, got {value}: raise it")
    if rate is not None and not 0 < rate < 10:
        raise InputError(f"expected a rate above 0 and below 10 for --rate, got {rate}: 0.0002 to 0.002 is usual")


def _in_base_classes(dataset: Dataset, base: Base) -> Dataset:
    """Labels counted in the base's own classes, matched by name."""
    if not base.has_head or base.classes is None:
        what = "no names for its classes" if base.has_head else "no classifier"
        raise InputError(
            f"expected a base with a classifier and class names for --level as-is, got {base.name} with {what}: "
            "give the names with --classes, or use --level head"
        )
    return relabel(dataset, base.classes)


def _put_head(network: Network, head: HeadFit) -> None:
    layer = network.new_head(len(head.bias))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight))
        layer.bias.copy_(torch.from_numpy(head.bias))


def _check_classes(dataset: Dataset, labels: dict[str, np.ndarray]) -> None:
    """Refuse a training in which unreadable pictures left a class, or the whole of val, empty."""
    present = set(np.unique(labels[TRAIN]).tolist())
    gone = [name for index, name in enumerate(dataset.classes) if index not in present]
    if gone:
        raise DataError(
            f"expected a readable picture of every class to train on, got none of {', '.join(map(repr, gone[:6]))}: "
            "replace the files that cannot be decoded, or remove the class"
        )
    if VAL in labels and not len(labels[VAL]):
        raise DataError("expected readable pictures in val, got none: replace the files that cannot be decoded")


def _skipped(splits: Any, found: dict[str, Activations]) -> dict[str, str]:
    return {
        splits[name].name(index): reason
        for name, activations in found.items()
        for index, reason in activations.failures.items()
    }


def _audit(dataset: Dataset, skipped: dict[str, str]) -> dict[str, Any]:
    findings = []
    if skipped:
        message = f"{len(skipped)} picture(s) could not be decoded and were left out"
        findings.append({"kind": "unreadable", "severity": "error", "paths": list(skipped), "message": message})
    return {"items": len(dataset), "classes": counts(dataset.splits[TRAIN], dataset.classes), "findings": findings}


def _json_line(epoch: Epoch) -> str:
    return json.dumps(asdict(epoch))
