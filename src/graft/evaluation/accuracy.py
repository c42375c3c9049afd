"""The measured accuracy on a split, and the accuracy expected on other images, as a run reports them."""

from dataclasses import dataclass, field
from typing import Any

from graft.evaluation.intervals import Interval, interval_in_words
from graft.words import counted, in_percent

# With fewer images that have no copy among those trained on, nothing is measured.
FEWEST_TO_MEASURE = 10


@dataclass(frozen=True, repr=False)
class Accuracy:
    """Top-1 on `n` images of a split with Wilson's 95 % interval; None where `n` is too small to measure anything.

    Images that have copies among those trained on are not counted. `with_copies` is the optimistic figure that counts
    them, and None if there are none. Where images come in groups, `groups` is their number and the interval is over
    them. Images with several labels have a `LabelFigures` instead, without a top-1.
    """

    top1: float | None
    top1_ci95: tuple[float, float] | None
    n: int
    with_copies: "Accuracy | None" = None
    groups: int | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        interval = self.top1_ci95 and tuple(round(bound, 3) for bound in self.top1_ci95)
        copies = "" if self.with_copies is None else f", with_copies={self.with_copies!r}"
        return f"Accuracy(top1={self.top1 and round(self.top1, 3)}, top1_ci95={interval}, n={self.n}{copies})"

    def __str__(self) -> str:
        """For people: `96.7% of 153 images (95 % interval 92.6% to 98.6%)`."""
        if self.top1 is None or self.top1_ci95 is None:
            text = f"not measured: {counted(self.n, 'image has', 'images have')} no copy among those trained on"
        else:
            interval = interval_in_words(self.top1_ci95, self.n, self.groups)
            text = f"{in_percent(self.top1)} of {counted(self.n, 'image')} ({interval})"
        if self.with_copies is None:
            return text
        counting = in_percent(self.with_copies.top1 or 0.0)
        return f"{text}; {counting} of {self.with_copies.n:,} with copies (optimistic)"

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "top1": self.top1,
            "top1_ci95": self.top1_ci95 and list(self.top1_ci95),
            "n": self.n,
            **({} if self.groups is None else {"groups": self.groups}),
        }
        return values if self.with_copies is None else {**values, "with_copies": self.with_copies.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Accuracy":
        if "mean_average_precision" in values:
            from graft.evaluation.label_figures import LabelFigures

            return LabelFigures.from_dict(values)
        interval, more = values["top1_ci95"], values.get("with_copies")
        own = (values["top1"], interval and tuple(interval), values["n"], more and cls.from_dict(more))
        return cls(*own, groups=values.get("groups"))


@dataclass(frozen=True, repr=False)
class Expected:
    """The top-1 expected on unseen images and its 95 % interval, from `n` images that were each held out from a fit.

    When graft sets val aside itself, val is a fifth of the images; all of them together say more. Where images come in
    groups, `groups` is their number and the interval is over them.
    """

    top1: float
    top1_ci95: Interval
    n: int
    groups: int | None = None

    def __repr__(self) -> str:
        low, high = self.top1_ci95
        return f"Expected(top1={self.top1:.3f}, top1_ci95=({low:.3f}, {high:.3f}), n={self.n})"

    def __str__(self) -> str:
        """For people: `90.1% on unseen images (95 % interval 86.3% to 92.9%), cross-validated on 330 images`."""
        interval = interval_in_words(self.top1_ci95, self.n, self.groups)
        return f"{in_percent(self.top1)} on unseen images ({interval}), cross-validated on {counted(self.n, 'image')}"

    def to_dict(self) -> dict[str, Any]:
        values = {"top1": self.top1, "top1_ci95": list(self.top1_ci95), "n": self.n}
        return values if self.groups is None else {**values, "groups": self.groups}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Expected":
        low, high = values["top1_ci95"]
        return cls(values["top1"], (low, high), values["n"], values.get("groups"))
