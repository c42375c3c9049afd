"""Writes docs/transfer.md from docs/transfer_runs.jsonl, which benchmarks/regret.py records.

    python docs/transfer.py            write the page
    python docs/transfer.py --check    change nothing; fail if the page is stale

The same runs give the same page.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from written import write_page

HERE = Path(__file__).parent
RUNS, PAGE = HERE / "transfer_runs.jsonl", HERE / "transfer.md"
ADVICE, SCRATCH = "advice", "scratch"
# The levels that can be chosen without looking at the images.
FIXED = ("head", "stages:1", "stages:2", "frozen:0.7", "frozen:0.4", "all")
FEWEST_SEEDS = 3


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task: test accuracy by cut, the first level with each cut, and the choices.

    `accuracy` is a mean over seeds. `textbook` and `advised` are the cuts that the textbook's rule and the advisor
    chose, one per seed. `seconds` is the mean time of training every level once, `deciding` that of the advisor.
    """

    task: str
    images: int
    shift: float
    scenario: int
    accuracy: dict[str, float]
    level_of: dict[str, str]
    textbook: tuple[str, ...]
    advised: tuple[str, ...]
    seconds: float
    deciding: float

    @property
    def best(self) -> str:
        return max(self.accuracy, key=lambda cut: self.accuracy[cut])

    def regret(self, cuts: Iterable[str]) -> float:
        """Mean distance of these choices, one per seed, from the best level, in points of top-1."""
        return 100 * (self.accuracy[self.best] - mean(self.accuracy[cut] for cut in cuts))


def read(path: Path) -> list[Outcome]:
    """The tasks on which every level and the advisor have run with enough seeds."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    by_task: dict[str, list[dict]] = defaultdict(list)
    for row in rows:
        by_task[row["task"]].append(row)
    return [outcome for task, own in by_task.items() if (outcome := _outcome(task, own)) is not None]


def _outcome(task: str, rows: list[dict]) -> Outcome | None:
    advice = sorted((row for row in rows if row["level"] == ADVICE), key=lambda row: row["seed"])
    trained = [row for row in rows if row["level"] not in (ADVICE, SCRATCH)]
    by_cut: dict[str, list[dict]] = defaultdict(list)
    for row in trained:
        by_cut[row["cut"]].append(row)
    if len(advice) < FEWEST_SEEDS or not by_cut or min(map(len, by_cut.values())) < FEWEST_SEEDS:
        return None
    return Outcome(
        task=task,
        images=trained[0]["images"],
        shift=mean(row["shift"] for row in advice),
        scenario=advice[0]["scenario"],
        accuracy={cut: mean(row["test"] for row in own) for cut, own in by_cut.items()},
        level_of={cut: own[0]["level"] for cut, own in by_cut.items()},
        textbook=tuple(row["textbook"] for row in advice),
        advised=tuple(row["chosen"] for row in advice),
        seconds=sum(mean(sum(row["seconds"].values()) for row in own) for own in by_cut.values()),
        deciding=mean(row["seconds"]["deciding"] for row in advice),
    )


def page(outcomes: list[Outcome], bases: dict[str, dict[str, str]]) -> str:
    """The page in Markdown."""
    base = {each.task: bases[each.task.split()[-2]] for each in outcomes}
    regrets = {level: [each.regret([base[each.task][level]]) for each in outcomes] for level in FIXED}
    regrets["the textbook's rule"] = [each.regret(each.textbook) for each in outcomes]
    regrets["the advisor"] = [each.regret(each.advised) for each in outcomes]
    shares = [each.deciding / each.seconds for each in outcomes]
    total = sum(each.deciding for each in outcomes) / sum(each.seconds for each in outcomes)
    mine = regrets["the advisor"]
    others = {who: mean(values) for who, values in regrets.items() if who != "the advisor"}
    nearest = min(others, key=lambda who: others[who])
    lines = [
        INTRODUCTION.format(tasks=len(outcomes), seeds=FEWEST_SEEDS),
        "| task | images | shift | scenario | " + " | ".join(FIXED) + " | best |",
        "|---|--:|--:|--:|" + "--:|" * len(FIXED) + "---|",
    ]
    for each in outcomes:
        cells = []
        for level in FIXED:
            cut = base[each.task][level]
            value = f"{100 * each.accuracy[cut]:.1f}"
            cells.append(f"**{value}**" if cut == each.best else value)
        row = [
            each.task,
            f"{each.images:,}",
            f"{each.shift:.2f}",
            str(each.scenario),
            *cells,
            each.level_of[each.best],
        ]
        lines.append("| " + " | ".join(row) + " |")
    lines += [
        CHOICES,
        "| task | textbook | regret | advisor, by seed | regret | deciding, s | share of all levels |",
        "|---|---|--:|---|--:|--:|--:|",
    ]
    for each, share in zip(outcomes, shares, strict=True):
        names = [each.level_of[cut] for cut in each.advised]
        chosen = names[0] if len(set(names)) == 1 else ", ".join(names)
        lines.append(
            f"| {each.task} | {each.level_of[each.textbook[0]]} | {each.regret(each.textbook):.1f} | {chosen} | "
            f"{each.regret(each.advised):.1f} | {each.deciding:.0f} | {share:.0%} |"
        )
    lines += [REGRETS, "| choice | mean regret | worst |", "|---|--:|--:|"]
    lines += [f"| {who} | {mean(values):.2f} | {max(values):.2f} |" for who, values in regrets.items()]
    lines.append("")
    lines.append(
        f"The advisor's regret is {mean(mine):.2f} points on average (bound: 0.7) and {max(mine):.2f} at worst "
        f"(bound: 3). The next best is\n{nearest}, with {others[nearest]:.2f} on average.\n\n"
        f"Deciding took {100 * total:.0f} % of the time of training all levels (bound: 25 %), between "
        f"{100 * min(shares):.0f} and {100 * max(shares):.0f} % by task.\n"
    )
    short = [
        failure
        for holds, failure in (
            (mean(mine) <= 0.7, f"the mean regret, {mean(mine):.2f}, is above 0.7"),
            (max(mine) <= 3, f"the worst regret, {max(mine):.2f}, is above 3"),
            (mean(mine) < others[nearest], f"always taking {nearest} has no more regret ({others[nearest]:.2f})"),
            (total <= 0.25, f"deciding takes {100 * total:.0f} % of the time"),
        )
        if not holds
    ]
    lines.append(f"Bounds missed: {'; '.join(short) or 'none'}.")
    lines.append(NOTES)
    return "\n".join(lines)


INTRODUCTION = """# How much of a network to keep: recorded training runs

These runs are kept for what they say about cuts and about the textbook's rule. They were made before two changes:

- Levels that train stages now train better ([recipe.md](recipe.md)).
- The advisor now fits a few levels exactly as a final run would. In these runs it trained all levels for part of their
  epochs.

For what `--level auto` gives today, compared with what you would run instead, see [accuracy.md](accuracy.md).

`python docs/transfer.py` writes this page from `docs/transfer_runs.jsonl`, which `benchmarks/regret.py` records. There
are {tasks} tasks with {seeds} seeds each.

- **Tasks.** A task is a set of images with a number of images per class (`all`: every image in the set), a base, and an
  image size in pixels. The bases are ResNet-20 from CIFAR-10, and MobileNet 0.25 and MobileNetV2 from ImageNet.
- **Seeds.** The seed draws the images, a fifth of which are held out for validation, and seeds the training.
- **Training.** Every level is trained to the end with the default recipe of that time (AdamW, cosine, no augmentation;
  10 to 30 epochs).
- **Testing.** Every level is scored on test images that played no part in any choice: 200 per class, the same for all
  seeds, or as many as the set has (153 photographs of ants and bees, 240 sketches).

In the table, `shift` is the domain shift by batch-norm statistics, in nats per channel; below 0.1, the images count as
similar to the base's own. `scenario` is the textbook's: few and similar images (1), many and similar (2), few and
different (3), or many and different (4), where many means 1,000 images per class or more. Accuracy is top-1 in percent,
averaged over seeds. Levels with the same cut have the same figure.
"""
CHOICES = """
The next table shows what the textbook's rule and the advisor chose, and the regret of each choice: how far it falls
below the best level of the task, in points of top-1, averaged over seeds. `deciding` covers everything that the advisor
does: measuring, features, head and race.
"""
REGRETS = """
Over all tasks, these are the regrets in points of top-1:
"""
NOTES = """
## How far these figures go

- **Regrets are too high.** The best level of a task is the best of up to six means over three seeds, so its accuracy is
  optimistic.
- **Test images are few.** One image is 0.65 points on 153 test images, and 0.42 points on 240.
- **The advisor was tuned on these runs.** What it expected of levels before a race, and how long its trials were, was
  set with these runs in view.
- **Ants and bees.** Cross-validation on the training images preferred deeper levels that the test images did not
  confirm, and vice versa. The figures for these photographs hold for 153 images.
- **Times are rough.** The seconds of training were measured while other programs ran on the same two cores, and the
  seconds of deciding with two tasks side by side, so their ratio is only approximate.
"""


def bases() -> dict[str, dict[str, str]]:
    """The cut of every level, by base."""
    import torch

    from graft.models.catalog import build, default_config
    from graft.transfer.levels import plan_level

    found = {}
    for name in ("resnet20", "mobilenet_v1_025", "mobilenet_v2"):
        with torch.device("meta"):
            network = build(default_config(name))
        found[name] = {level: plan_level(level, network, True).cut for level in FIXED}
    return found


if __name__ == "__main__":
    write_page(PAGE, lambda: page(read(RUNS), bases()), "transfer.py")
