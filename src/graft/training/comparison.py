"""The outcome of comparing levels: figures with intervals, paired differences, and the textbook's claims."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graft.evaluation.learning_curve import describe_curve
from graft.evaluation.paired import Estimate, accuracy, mean_over_seeds, paired_difference
from graft.files import write_aside
from graft.html import table
from graft.training.outlook import Outlook
from graft.transfer.levels import Plan

SCRATCH = "scratch"
# The three figures that a pretrained start is said to raise: Torrey and Shavlik 2010, Transfer Learning, figure 2.
FIGURES = ("start", "slope", "asymptote")
ANSWERS = {True: "yes", False: "no", None: "not decided"}


@dataclass(frozen=True)
class Training:
    """One level under one seed.

    `right`, bool (n,), says which images of the split were classified right at the end, and `rows`, int (n,), are their
    rows in the source. `curve` (epochs + 1,) is the accuracy on val by epoch, a single number for a head, and
    `val_images` is how many independent images val is worth. `groups`, int (n,), are those of the images of the split.
    """

    right: np.ndarray
    rows: np.ndarray
    curve: np.ndarray
    val_images: float
    feature_seconds: float
    training_seconds: float
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class LevelOutcome:
    """The outcome of one level.

    `top1` is the mean accuracy over images and seeds, and `by_seed` gives its parts. `difference` is the difference to
    the best level, None for the best level itself. `curves` (seeds, epochs + 1) is the accuracy on val by epoch, the
    first before any step; a head is solved at once, so its curve is one number. `start`, `slope` (gain per epoch) and
    `asymptote` are means over the seeds of what `graft.evaluation.learning_curve` reads off each curve, None for a
    head. `multiply_adds` is the count of one training run, as in `graft.training.outlook`. `seconds` gives the mean
    time of `training`, and the time of `features` for the slowest seed, as the others may have found some in the cache.
    """

    level: str
    cut: str
    top1: Estimate
    by_seed: tuple[float, ...]
    difference: Estimate | None
    curves: tuple[tuple[float, ...], ...]
    start: float | None
    slope: float | None
    asymptote: float | None
    trained_parameters: int
    multiply_adds: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class Claim:
    """Whether a level has a higher start, slope or asymptote than `scratch`, and by how much, paired by seed.

    `holds` is None, for undecided, where the interval of the difference contains zero or a single seed gives none.
    """

    level: str
    figure: str
    difference: Estimate
    holds: bool | None


@dataclass(frozen=True, repr=False)
class Comparison:
    """Levels on `images` different images of `split`, in the order in which they were asked for.

    `split` is test where there is one, and otherwise val, which every training run also used to choose the epoch to
    keep.
    """

    data: str
    base: str
    split: str
    images: int
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int
    best: str
    levels: tuple[LevelOutcome, ...]
    claims: tuple[Claim, ...]
    engine: str
    seconds: float
    skipped: dict[str, str]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        levels = ", ".join(f"{each.level} {each.top1.value:.3f}" for each in self.levels)
        return f"Comparison({self.data!r}, {self.split}: {levels}; best={self.best!r})"

    def _repr_html_(self) -> str:
        rows = [
            (
                f"{each.level} *" if each.level == self.best else each.level,
                f"{each.top1.value:.1%}",
                "" if each.difference is None else f"{100 * each.difference.value:+.1f}",
                f"{sum(each.seconds.values()):.1f} s",
            )
            for each in self.levels
        ]
        return table((f"level ({self.split})", "top-1", "to the best, points", "time"), rows)

    def outcome(self, level: str) -> LevelOutcome:
        return next(each for each in self.levels if each.level == level)

    def as_good(self) -> tuple[str, ...]:
        """Return the levels that these images and seeds do not distinguish from the best one."""
        return tuple(each.level for each in self.levels if each.difference is not None and not each.difference.sign)

    def epochs_to_match_scratch(self, level: str) -> int | None:
        """Return the first epoch where the mean curve of `level` reaches the asymptote of `scratch`, or None."""
        if all(each.level != SCRATCH for each in self.levels):
            return None
        reached = np.mean(self.outcome(level).curves, axis=0) >= (self.outcome(SCRATCH).asymptote or 0.0)
        return int(reached.argmax()) if reached.any() else None

    def conclusion(self) -> tuple[str, ...]:
        """Return what the figures say, in sentences."""
        others = ", ".join(self.as_good())
        untold = f"; these images and seeds cannot tell {others} from it" if others else ""
        sentences = [f"{self.best} is the best on average{untold}"]
        for claim in self.claims:
            unit = "points per epoch" if claim.figure == "slope" else "points"
            interval = "no interval from one seed"
            if claim.difference.ci95 is not None:
                interval = "95 % interval {:+.1f} to {:+.1f}".format(*(100 * end for end in claim.difference.ci95))
            sentences.append(
                f"{claim.level} has a higher {claim.figure} than {SCRATCH}: {ANSWERS[claim.holds]}, "
                f"{100 * claim.difference.value:+.1f} {unit} ({interval})"
            )
        for level in dict.fromkeys(claim.level for claim in self.claims):
            needed = self.epochs_to_match_scratch(level)
            when = "in none" if needed is None else f"after {needed}"
            sentences.append(f"{level} reaches where {SCRATCH} ends {when} of {self.epochs} epochs")
        if self.claims:
            sentences.append(
                "a pretrained start has its head solved before the first step: the gain of that counts as start, not "
                "as slope"
            )
        return tuple(sentences)

    def to_dict(self) -> dict[str, Any]:
        """Return the object that `graft compare --json` prints."""
        values: dict[str, Any] = asdict(self)
        values["as_good"] = self.as_good()
        values["seconds"] = {"total": self.seconds}
        for each in values["levels"]:
            top1 = each["top1"]
            each |= {"top1": top1["value"], "top1_ci95": top1["ci95"]}
            each["epochs_to_match_scratch"] = self.epochs_to_match_scratch(each["level"])
        return values


def summarise(
    runs: dict[str, list[Training]], plans: dict[str, Plan], outlooks: dict[str, Outlook]
) -> tuple[str, tuple[LevelOutcome, ...], tuple[Claim, ...]]:
    """Return the best level, every level's outcome, and the claims, from each level's runs under the same seeds."""
    means = {level: np.concatenate([each.right for each in of_level]).mean() for level, of_level in runs.items()}
    # Of two equally accurate levels, the cheaper one wins.
    best = max(means, key=lambda level: (means[level], -outlooks[level].trained_parameters))
    outcomes = tuple(
        _outcome(plans[level], outlooks[level], of_level, None if level == best else runs[best])
        for level, of_level in runs.items()
    )
    return best, outcomes, _claims(runs)


def _outcome(plan: Plan, outlook: Outlook, runs: list[Training], best: list[Training] | None) -> LevelOutcome:
    right = np.concatenate([each.right for each in runs])
    rows = np.concatenate([each.rows for each in runs])
    seeds = np.repeat(np.arange(len(runs)), [len(each.rows) for each in runs])
    known = [each.groups for each in runs if each.groups is not None]
    groups = np.concatenate(known) if len(known) == len(runs) else None
    difference = None
    if best is not None:
        difference = paired_difference(right, np.concatenate([each.right for each in best]), rows, seeds, groups)
    shapes = _shapes(runs)
    start, slope, asymptote = (float(values.mean()) for values in shapes.values()) if shapes else (None, None, None)
    return LevelOutcome(
        level=plan.level,
        cut=plan.cut,
        top1=accuracy(right, rows, seeds, groups),
        by_seed=tuple(float(each.right.mean()) for each in runs),
        difference=difference,
        curves=tuple(tuple(each.curve.tolist()) for each in runs),
        start=start,
        slope=slope,
        asymptote=asymptote,
        trained_parameters=outlook.trained_parameters,
        multiply_adds=sum(stage.total_macs for stage in outlook.stages),
        seconds={
            "features": max(each.feature_seconds for each in runs),
            "training": float(np.mean([each.training_seconds for each in runs])),
        },
    )


def _shapes(runs: list[Training]) -> dict[str, np.ndarray]:
    """Return each figure of the curves by seed (S,); empty for a level without epochs."""
    if len(runs[0].curve) < 2:
        return {}
    found = [describe_curve(each.curve) for each in runs]
    return {figure: np.array([getattr(each, figure) for each in found]) for figure in FIGURES}


def _claims(runs: dict[str, list[Training]]) -> tuple[Claim, ...]:
    if SCRATCH not in runs:
        return ()
    of_scratch, claims = _shapes(runs[SCRATCH]), []
    for level, of_level in runs.items():
        shapes = _shapes(of_level) if level != SCRATCH else {}
        for figure, values in shapes.items():
            other = of_scratch[figure]
            # Other images in val would have moved both accuracies. By how much together is unknown, so they count as
            # independent.
            variance = sum(float(rate * (1 - rate)) for rate in (values.mean(), other.mean()))
            of_images = 0.0 if figure == "slope" else variance / of_level[0].val_images
            difference = mean_over_seeds(values - other, of_images)
            claims.append(Claim(level, figure, difference, {1: True, -1: False}.get(difference.sign)))
    return tuple(claims)


def draw(comparison: Comparison, path: Path) -> None:
    """Save the curves as a PNG: accuracy by epoch, one thin line per seed and their mean thick. Raises OSError."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, outcome in enumerate(comparison.levels):
        colour, mean = f"C{number}", np.mean(outcome.curves, axis=0)
        label = f"{outcome.level} ({comparison.split} {outcome.top1.value:.1%})"
        if len(mean) == 1:
            axes.axhline(mean[0], color=colour, linestyle="--", label=label)
            continue
        for curve in outcome.curves:
            axes.plot(curve, color=colour, alpha=0.35, linewidth=1)
        axes.plot(mean, color=colour, linewidth=2.2, label=label)
    axes.set_xlabel("epochs")
    axes.set_ylabel("accuracy on val")
    axes.set_title(f"{Path(comparison.data).name}, {Path(comparison.base).name}, {len(comparison.seeds)} seed(s)")
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    write_aside(path, lambda file: figure.savefig(file, dpi=120, format="png"))
