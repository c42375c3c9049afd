"""A search over levels and recipes: what it varies, the outcomes of its trials, and the file that records them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.errors import InputError
from graft.evaluation.paired import Estimate
from graft.files import LOCK_FILE, unfinished_below, write_aside
from graft.html import escaped, table
from graft.training.comparison import SCRATCH
from graft.training.recipe import ResolvedRecipe

if TYPE_CHECKING:
    import optuna

TRIALS_FILE, QUESTION_FILE, BEST_FILE = "trials.jsonl", "tune.json", "best.yaml"
# A search has time for `all`, which `auto` does not try.
DEFAULT_LEVELS = ("head", "head:stages", "stages:1", "frozen:0.4", "all")
# How many trials are drawn at random before the sampler learns from the better ones.
RANDOM_TRIALS = 6
# The weight of a loss beside an accuracy, and the highest loss that counts: even that is a twentieth of one image in
# five million, and losses that differ by 0.00001 still differ in a float64.
LOSS_WEIGHT, HIGHEST_LOSS = 1e-10, 100.0


@dataclass(frozen=True)
class Range:
    """The interval of a searched setting, linear or `log`; `of_usual` means in multiples of the usual value."""

    low: float
    high: float
    log: bool = False
    of_usual: bool = False

    def around(self, usual: float) -> Range:
        """Return the range in absolute numbers, given the `usual` value."""
        return Range(self.low * usual, self.high * usual, self.log) if self.of_usual else self


# Settings that are not listed here, or that are set, are the same in every trial. Augmentation is one of them, so that
# trials share cached activations.
SPACE = {
    "learning_rate": Range(0.2, 5.0, log=True, of_usual=True),
    "weight_decay": Range(1e-4, 1e-1, log=True),
    "label_smoothing": Range(0.0, 0.2),
    "layer_decay": Range(0.5, 1.0),
    "start_share": Range(0.0, 0.6),
    "dropout": Range(0.0, 0.5),
}


def searched_around(usual: ResolvedRecipe, settled: Collection[str]) -> dict[str, Range]:
    """Return what is searched, in absolute numbers, around the `usual` recipe: everything but what is `settled`.

    The learning rate is left out when a range test finds it. The start share is left out when there is no start to come
    back to: with a random start, or where batch norm has left the statistics of the weights.
    """
    others = {"learning_rate": usual.find_learning_rate, "start_share": usual.start_share == 0}
    return {
        name: each.around(getattr(usual, name))
        for name, each in SPACE.items()
        if name not in settled and not others.get(name, False)
    }


@dataclass(frozen=True)
class Trial:
    """A level, settings of its recipe, and the outcome on the images set aside for val.

    When the trial failed, `top1` is None and `error` says why.
    """

    number: int
    level: str
    settings: dict[str, float]
    top1: float | None
    loss: float | None
    seconds: float
    error: str | None = None

    @property
    def value(self) -> float:
        """The value to maximise: accuracy, with ties broken by the lower loss."""
        return -1.0 if self.top1 is None else self.top1 - LOSS_WEIGHT * min(self.loss or 0.0, HIGHEST_LOSS)


def best_of(trials: Sequence[Trial], stages: Mapping[str, int]) -> Trial:
    """Return the most accurate trial; of several, one whose level trains the fewest `stages`.

    On a few hundred images of val many trials tie, and a small difference in loss is not worth the cost of more stages.
    Between levels of the same cost the lower loss decides, then the earlier trial.
    """

    def merit(trial: Trial) -> tuple[float, int, float, int]:
        return -1.0 if trial.top1 is None else trial.top1, -stages[trial.level], trial.value, -trial.number

    return max(trials, key=merit)


@dataclass(frozen=True, repr=False)
class Tuning:
    """The outcome of a search. `usual` is the first trial, what `graft train` would do; `best` may be the same.

    If the level of `usual` is not one of those asked for, it is only compared with. `command` trains by `recipe` on the
    same images and splits.

    `difference` is how much more accurate the best is than the usual on the `n` images of test, which no trial saw. It
    is None without a test split, or when the two are the same.
    """

    folder: Path
    recipe: Path
    trials: tuple[Trial, ...]
    best: Trial
    usual: Trial
    difference: Estimate | None
    test: tuple[float, float] | None
    n: int
    seconds: float
    notes: tuple[str, ...] = ()
    command: str = ""

    def __repr__(self) -> str:
        return f"Tuning({len(self.trials)} trials, best={self.best.number}: {self.best.level}, {self.verdict})"

    @property
    def verdict(self) -> str:
        """Whether the search was worth it, in one sentence."""
        if self.best.number == self.usual.number:
            return "no trial was better than what graft train does anyway"
        if self.usual.top1 is None:
            return f"{self.best.top1 or 0.0:.1%} of val, where what graft train does anyway fails: {self.usual.error}"
        if self.difference is None or self.test is None:
            gain = 100 * ((self.best.top1 or 0.0) - (self.usual.top1 or 0.0))
            if gain < 0:
                return f"{gain:+.1f} points on val: worse than what graft train does anyway, {self.usual.level}"
            return (
                f"{gain:+.1f} points on val, by which it was chosen, so optimistic; there is no test split to "
                "confirm it"
            )
        points, low = 100 * self.difference.value, (self.difference.ci95 or (0.0, 0.0))[0]
        what = f"{points:+.1f} points on test ({self.test[0]:.1%} and {self.test[1]:.1%} of {self.n:,} images)"
        if points <= 0:
            return f"{what}: the search found nothing better than graft train does anyway"
        return f"{what}: better" if low > 0 else f"{what}: better, but by no more than chance can explain"

    def _repr_html_(self) -> str:
        rows = [
            (each.number, each.level, "–" if each.top1 is None else f"{each.top1:.1%}", f"{each.seconds:.1f} s")
            for each in sorted(self.trials, key=lambda each: -each.value)
        ]
        said = f"trial {self.best.number}, {self.best.level}: {self.verdict}", f"recipe: {self.recipe}"
        below = "".join(f"<li>{escaped(each)}</li>" for each in (*said, *self.notes))
        return f"{table(('trial', 'level', 'val', 'time'), rows)}<ul>{below}</ul>"

    def to_dict(self) -> dict[str, Any]:
        """Return the object that `graft tune --json` prints."""
        return {
            "folder": str(self.folder),
            "recipe": str(self.recipe),
            "command": self.command,
            "best": asdict(self.best),
            "usual": asdict(self.usual),
            "test": None if self.test is None else {"best": self.test[0], "usual": self.test[1], "n": self.n},
            "difference": None if self.difference is None else asdict(self.difference),
            "verdict": self.verdict,
            "trials": [asdict(each) for each in self.trials],
            "seconds": {"total": self.seconds},
            "notes": list(self.notes),
        }


def propose(
    trials: Sequence[Trial], levels: Sequence[str], searched: Mapping[str, Mapping[str, Range]], seed: int
) -> tuple[str, dict[str, float]] | None:
    """Return the level and settings to try next, which depend only on the trials so far.

    Every level is tried with the usual recipe first. Return None after that if nothing else is `searched`. The rest is
    proposed by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for Hyper-Parameter
    Optimization").
    """
    untried = [level for level in levels if all(each.level != level for each in trials)]
    if untried:
        return untried[0], {}
    trained = tuple(level for level in levels if searched[level])
    if not trained:
        return None
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # One seed per trial, so that a stopped search can go on without the sampler's state.
    sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM_TRIALS, seed=seed * 100_003 + len(trials))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    among = optuna.distributions.CategoricalDistribution(trained)
    for each in trials:
        # `auto` may have chosen a level that is not searched; the usual recipe has no settings to learn from.
        if each.level in trained and each.top1 is not None:
            values: dict[str, Any] = {"level": each.level}
            spaces: dict[str, Any] = {"level": among}
            for name, value in each.settings.items():
                values[_asked(name, each.level)] = value
                spaces[_asked(name, each.level)] = _distribution(searched[each.level][name])
            study.add_trial(optuna.trial.create_trial(params=values, distributions=spaces, value=each.value))
    asked = study.ask()
    level = str(asked.suggest_categorical("level", trained))
    return level, {
        name: float(asked.suggest_float(_asked(name, level), each.low, each.high, log=each.log))
        for name, each in searched[level].items()
    }


def _asked(name: str, level: str) -> str:
    """Return Optuna's name for a setting: what suits a random start says nothing about other levels."""
    return f"{name} from {SCRATCH}" if level == SCRATCH else name


def _distribution(range_: Range) -> optuna.distributions.FloatDistribution:
    from optuna.distributions import FloatDistribution

    return FloatDistribution(range_.low, range_.high, log=range_.log)


def check_search(folder: Path) -> None:
    """Raise InputError for a folder that holds anything but a search or the remains of a killed one."""
    if (folder / QUESTION_FILE).is_file() or not folder.exists():
        return
    if not folder.is_dir() or {*folder.iterdir()} - {folder / LOCK_FILE, *unfinished_below(folder)}:
        raise InputError(
            f"expected a new or empty folder or one of a search for --out, got {folder}, which holds something else: "
            "give another"
        )


def read_trials(folder: Path, question: dict[str, Any]) -> list[Trial]:
    """Return the trials so far of the search in `folder`; none if it is new.

    Raises InputError for a folder that holds something else, or a search that was asked another question.
    """
    check_search(folder)
    file = folder / QUESTION_FILE
    if not file.is_file():
        return []
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        lines = (
            (folder / TRIALS_FILE).read_text(encoding="utf-8").splitlines() if (folder / TRIALS_FILE).exists() else []
        )
        found = [Trial(**json.loads(line)) for line in lines]
        differing = [name for name, value in question.items() if before.get(name) != value]
    except (OSError, ValueError, TypeError, AttributeError):
        raise InputError(
            f"expected the trials of a search in {folder}, got something else: search again into another folder"
        ) from None
    if differing:
        raise InputError(
            f"expected the search that {folder} was begun with, got another ({', '.join(differing)} differ): use the "
            "settings it was begun with, or another --out"
        )
    return found


def write_trials(folder: Path, question: dict[str, Any], trials: Sequence[Trial]) -> None:
    """Write the question first, then the trials: a folder with trials alone would not count as a search."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(question, indent=2)
    write_aside(folder / QUESTION_FILE, lambda file: file.write(text.encode()))
    lines = "".join(json.dumps(asdict(each)) + "\n" for each in trials)
    write_aside(folder / TRIALS_FILE, lambda file: file.write(lines.encode()))
