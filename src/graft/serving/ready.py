"""Classifiers that answer without PyTorch, from what an earlier process left in the cache for their engine.

Importing PyTorch and filling a network takes longer than the first answers. So the first process that opens a model on
OpenVINO notes which compiled sections it uses, and how their outputs become answers; the next process takes these, and
gives the same answers to the bit. A note is valid for the content of the model folder, the options, the versions of
graft and OpenVINO, and the processor. When anything differs, is missing or is damaged, the model is opened as usual.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from xxhash import xxh3_128

from graft import __version__
from graft.data.dataset import Images
from graft.data.loading import Squares, available_cores, squares
from graft.errors import WeightsError
from graft.export.facts import Facts
from graft.features.engine import Choice, Engine, Precision, accelerator_is_possible, openvino_installed
from graft.files import COMPILED, cache_folder, keep, read_kept
from graft.images.antialiasing import antialiased
from graft.images.preprocessing import Preprocessing
from graft.progress import NOBODY
from graft.serving.predictor import Classifier, Computed
from graft.weights.calibration import Calibration, Domain
from graft.weights.model_files import CALIBRATION_FILE, DOMAIN_FILE, folder_digest

# Raised when the same model comes to give different answers, or when the content of a note changes.
FORMAT = 2
# Image sizes, and the sizes they are resized to, on which resizing without PyTorch is compared with PyTorch's.
SIZES = ((375, 500, 224), (500, 333, 64), (32, 32, 224), (1, 1, 8), (1203, 17, 96), (750, 1000, 224))


@dataclass(frozen=True)
class Asked:
    """A model folder, and the options of `graft.load` that decide its engine."""

    folder: Path
    engine: str
    precision: str
    singles: bool

    def place(self, digest: str | None = None) -> Path:
        """Return the path of the note for this, named by everything it is valid for.

        Raises WeightsError for files that cannot be read. `digest` is that of the folder, if it is already known.
        """
        digest = digest or folder_digest(self.folder)
        # PyTorch's thread count, which the choice of an engine reports, follows from the last two.
        machine = (_processor(), available_cores(), os.environ.get("OMP_NUM_THREADS"))
        holds_for = (FORMAT, self.engine, self.precision, self.singles, __version__, _openvino_version(), machine)
        return cache_folder() / COMPILED / xxh3_128(f"{digest} {holds_for}".encode()).hexdigest()


@dataclass(frozen=True)
class Note:
    """What answers need; `keys` are those of compiled sections, by images per request."""

    facts: Facts
    outputs: tuple[tuple[int, ...], ...] | None
    precision: Precision
    reason: str
    threads: int
    singles: bool
    keys: dict[int, str]
    thresholds: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "facts": self.facts.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Note:
        outputs, thresholds = values["outputs"], values.get("thresholds")
        return cls(
            **{
                **values,
                "facts": Facts.from_json(values["facts"], "the cache"),
                "outputs": None if outputs is None else tuple(map(tuple, outputs)),
                "thresholds": None if thresholds is None else tuple(thresholds),
                "keys": {int(size): str(key) for size, key in values["keys"].items()},
            }
        )


def open_ready(asked: Asked) -> Classifier | None:
    """Return the classifier in a model folder that an earlier process left ready; None if none did."""
    if asked.engine == "torch" or not openvino_installed() or (asked.engine == "auto" and accelerator_is_possible()):
        return None
    digest = folder_digest(asked.folder)
    kept = read_kept(asked.place(digest), NOBODY)
    if kept is None:
        return None
    try:
        note = Note.from_json(kept.facts)
        calibration = _calibration(asked.folder, len(note.facts.classes))
    except (KeyError, TypeError, ValueError, OSError, SafetensorError):
        return None
    present = all((cache_folder() / COMPILED / key).is_file() for key in note.keys.values())
    # Another model may have been put into the folder in the meantime.
    if not present or folder_digest(asked.folder) != digest:
        return None
    return ReadyClassifier(asked, digest, note, calibration)


def _calibration(folder: Path, classes: int) -> Calibration | None:
    """Read the calibration as `load_model` does, without PyTorch. Raises OSError, ValueError and SafetensorError."""
    if not (folder / CALIBRATION_FILE).exists():
        return None
    said = json.loads((folder / CALIBRATION_FILE).read_text(encoding="utf-8"))
    bank = None
    if "domain" in said and (folder / DOMAIN_FILE).exists():
        with safe_open(folder / DOMAIN_FILE, "numpy") as file:
            bank = file.get_tensor("bank")
    return Calibration.from_dict(said, classes, bank)


def keep_ready(asked: Asked, place: Path, classifier: Classifier, engine: Engine) -> None:
    """Note at `place` what an engine on OpenVINO needs, for the next process, unless the model has changed since."""
    from graft.features.openvino_engine import OpenVINOEngine

    # Another model may have been put into the folder since.
    if not isinstance(engine, OpenVINOEngine) or place.exists() or asked.place() != place or not _resizes_alike():
        return
    choice = classifier.choice
    how = (choice.precision, choice.reason, choice.threads, choice.singles)
    note = Note(classifier.facts, classifier.saved.outputs, *how, engine.keys, classifier.thresholds)
    # An unwritable cache is not reported again: the engine, which is kept there too, has reported it.
    keep(place, b"", NOBODY, json.loads(json.dumps(note.to_json())))


class ReadyClassifier(Classifier):
    """A classifier whose network is read only when something asks for it."""

    def __init__(self, asked: Asked, digest: str, note: Note, calibration: Calibration | None) -> None:
        self._asked, self._digest, self._note, self._calibration = asked, digest, note, calibration
        self.choice = Choice("openvino", note.precision, "cpu", note.reason, note.threads, singles=note.singles)
        self._preprocessing = Preprocessing.from_dict(note.facts.preprocessing)
        self._engines: dict[tuple[int, bool], Engine] = {}
        self._opening: dict[int, Lock] = {}
        self._opened = None
        # By process, as engines are; None where the cached sections are of no use.
        self._requests: dict[int, Any] = {}
        self._saved: Any = None
        self._reading = Lock()

    @property
    def saved(self) -> Any:  # type: ignore[override]
        """The model with its network, which takes PyTorch."""
        from graft.weights.saved import load_model

        with self._reading:
            if self._saved is None:
                saved = load_model(self._asked.folder)
                if folder_digest(self._asked.folder) != self._digest:
                    raise WeightsError(
                        f"expected the model that was opened in {self._asked.folder}, got another, which has replaced "
                        "it: load it again"
                    )
                self._saved = replace(saved, preprocessing=self._preprocessing)
            return self._saved

    @property
    def classes(self) -> tuple[str, ...]:
        return self._note.facts.classes

    @property
    def facts(self) -> Facts:
        return self._note.facts

    @property
    def preprocessing(self) -> Preprocessing:
        return self._preprocessing

    @property
    def outputs(self) -> tuple[tuple[int, ...], ...] | None:
        return self._note.outputs

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        return self._note.thresholds

    @property
    def temperature(self) -> float:
        return self._note.facts.temperature

    @property
    def lanes(self) -> int:
        requests = self._ready_requests()
        return super().lanes if requests is None else int(requests.lanes)

    def with_preprocessing(self, preprocessing: Preprocessing) -> Classifier:
        other = ReadyClassifier(self._asked, self._digest, self._note, self._calibration)
        other._preprocessing = preprocessing
        other._engines, other._opening, other._requests = self._engines, self._opening, self._requests
        return other

    @property
    def calibration(self) -> Calibration | None:
        return self._calibration

    def close(self) -> None:
        super().close()
        self._requests.clear()

    def _computed(
        self, images: Images, domain: Domain | None
    ) -> Generator[tuple[Computed, np.ndarray, np.ndarray | None], None, None]:
        requests = None if domain is not None else self._ready_requests()
        if requests is None:
            yield from super()._computed(images, domain)
            return
        with (
            closing(squares(images, self.preprocessing, 32)) as decoded,
            closing(requests.compute(decoded)) as run,
        ):
            batch: Squares
            for batch, logits in run:
                exact = logits if self._note.precision == "float32" else as_bfloat16(logits)
                yield batch, exact.astype(np.float64), None

    def _ready_requests(self) -> Any:
        """Return the compiled sections for this process, opened once."""
        from graft.features.openvino_requests import Requests, options_for, read_compiled

        process = os.getpid()
        with self._opening.setdefault(process, Lock()):
            if process not in self._requests:
                options = options_for(self._note.precision)
                compiled = {size: read_compiled(key, options, NOBODY) for size, key in self._note.keys.items()}
                whole = None not in compiled.values()
                self._requests[process] = Requests(compiled) if whole else None  # type: ignore[arg-type]
            return self._requests[process]


def as_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round float32 (…) to the nearest bfloat16, ties to even, and keep it as float32."""
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)


def _resizes_alike() -> bool:
    """Whether PyTorch, built for this processor, resizes exactly as graft does without it, to the bit."""
    import torch
    import torch.nn.functional as F

    for height, width, size in SIZES:
        pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        region = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        expected = F.interpolate(region, size=(size, size), mode="bilinear", antialias=True)[0].numpy()
        if not np.array_equal(antialiased(pixels, size, size), expected):
            return False
    return True


@cache
def _openvino_version() -> str:
    with suppress(PackageNotFoundError):
        return version("openvino")
    return ""


@cache
def _processor() -> str:
    """What OpenVINO compiles for, and what PyTorch chooses a precision by."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        told = {line for line in lines if line.partition("\t")[0] in ("model name", "flags", "Features", "CPU part")}
        return " ".join([platform.machine(), *sorted(told)])
    return f"{platform.machine()} {platform.processor()}"
