"""The facts that an exported file carries: class names, preprocessing, and what it was made from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from graft.errors import WeightsError

if TYPE_CHECKING:
    from graft.weights.saved import SavedModel

# The name under which every format keeps the facts, as JSON.
KEY = "graft"
# Raised when an older reader could misread what a newer writer exports.
FORMAT = 1
# The format of multi-label classifiers.
FORMAT_OF_SEVERAL = 2


@dataclass(frozen=True)
class Facts:
    """The facts of an exported classifier.

    `classes` are in the order of the outputs; `weights` is a digest of all tensors of the run; `made_from` is for
    people; `precision` is that of the network in the file.
    """

    format: int
    version: str
    classes: tuple[str, ...]
    preprocessing: dict[str, Any]
    temperature: float
    weights: str
    made_from: dict[str, Any]
    # What `calibration.json` holds besides the temperature; empty in files of earlier versions.
    calibration: dict[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    # For a multi-label classifier: the probability from which each label is given.
    thresholds: tuple[float, ...] | None = None

    @classmethod
    def of(cls, saved: SavedModel, version: str) -> Facts:
        from graft.weights.tensor_file import tensors_digest

        tensors = {name: tensor.contiguous() for name, tensor in saved.network.state_dict().items()}
        named = {"architecture": saved.network.config.architecture, **saved.facts}
        kept = ("architecture", "base", "level", "cut", "images")
        return cls(
            FORMAT if saved.thresholds is None else FORMAT_OF_SEVERAL,
            version,
            saved.classes,
            saved.preprocessing.to_dict(),
            saved.temperature,
            tensors_digest(tensors),
            {name: named[name] for name in kept if name in named},
            {} if saved.calibration is None else replace(saved.calibration, domain=None).to_dict(),
            thresholds=saved.thresholds,
        )

    def to_json(self) -> str:
        values = asdict(self)
        if self.thresholds is None:
            del values["thresholds"]
        return json.dumps(values, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | None, file: str) -> Facts:
        """Parse what `to_json` wrote. Raises WeightsError for a file without it, or of another version."""
        try:
            values = json.loads(text or "null")
            classes = tuple(values["classes"])
            several = values.get("thresholds") is not None
            if values["format"] != (FORMAT_OF_SEVERAL if several else FORMAT) or not all(
                isinstance(name, str) for name in classes
            ):
                raise ValueError
            thresholds = None
            if several:
                thresholds = tuple(float(each) for each in values["thresholds"])
                if len(thresholds) != len(classes):
                    raise ValueError
            return cls(**{**values, "classes": classes, "thresholds": thresholds})
        except (ValueError, TypeError, KeyError):
            raise WeightsError(
                f"expected a file that `graft export` of this version wrote, got {file} without its class names and "
                "preprocessing: export the run again"
            ) from None
