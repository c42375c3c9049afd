"""What transfers between data sets, and how much of a network to keep: LeNet-5 trained on Latin letters.

The base is `latin_letters`, which graft carries. Cyrillic letters resemble its data; mosaics of them do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import mean

import torch
from torch import Tensor

from graft.images.letters import CYRILLIC
from graft.lab.digits import BACKGROUND, INK
from graft.lab.drawn_images import LETTERS, MOSAICS, SIDE, letters, mosaic
from graft.lab.experiment import Conditions, Experiment, Figure, Outcome, Series, exactly, over_seeds
from graft.lab.fitting import Steps, accuracy, fit
from graft.lab.trained import Images, paired
from graft.models.network import Network
from graft.seeding import seeded
from graft.weights.base import load_base, untrained_base

BASE = "latin_letters"
# Levels by the cut of LeNet-5 that they mean: its four stages hold one weight layer each, and the head the fifth.
HEAD, MOST, THIRD, ALL, SCRATCH = "head", "frozen:0.6", "frozen:0.4", "all", "scratch"
CUTS = {HEAD: "stage4", MOST: "stage3", THIRD: "stage2", ALL: "input", SCRATCH: "input"}
# A head has few weights and a convex loss: at the rate of the others it would stop far from its optimum and lose.
RATES = {HEAD: 0.01, MOST: 0.002, THIRD: 0.002, ALL: 0.002}
CLASSES = 20


def cyrillic(per_letter: int, test_per_letter: int, seed: int) -> tuple[Images, Images]:
    """Return twenty Cyrillic letters as the base takes them: dark on light, from -1 to 1."""
    one, other = (
        letters(CYRILLIC[:CLASSES], number, 2 * seed + at) for at, number in enumerate((per_letter, test_per_letter))
    )
    return (_as_base(one[0]), one[1]), (_as_base(other[0]), other[1])


def mosaics(per_letter: int, test_per_letter: int, seed: int) -> tuple[Images, Images]:
    """Return the same letters as mosaics: unlike anything that the base has seen, but learnable from few images."""
    (images, labels), (others, other_labels) = cyrillic(per_letter, test_per_letter, seed)
    return (mosaic(images), labels), (mosaic(others), other_labels)


def started(level: str, classes: int, seed: int) -> Network:
    """Return LeNet-5 as a level starts it, with a new head: from the base's weights, or random ones for `scratch`.

    Parameters that the level freezes require no gradient.
    """
    base = load_base(BASE)
    network = base.network if level != SCRATCH else untrained_base(base.network.config.architecture, seed=seed).network
    with seeded(seed):
        network.new_head(classes)
    trunk, _ = network.split(CUTS[level])
    for parameter in trunk.parameters():
        parameter.requires_grad_(False)
    return network


def reached(level: str, train: Images, test: Images, steps: int, seed: int) -> float:
    """Return the base's test accuracy after training at a level.

    Frozen layers give the same output at every step, so they are run once.
    """
    trunk, crown = started(level, CLASSES, seed).split(CUTS[level])
    with torch.no_grad():
        seen, tested = trunk(train[0]), trunk(test[0])
    fit(crown, seen, train[1], Steps(steps, RATES[level], batch=32, optimizer="adam"), seed)
    return accuracy(crown, tested, test[1])


def run_letters(conditions: Conditions) -> Outcome:
    """Train from the Latin base and from a random start, on Cyrillic letters and on mosaics of them. T8 and T9."""
    seeds = conditions.seeds(3, 8)
    steps = 80 if conditions.quick else 300
    tasks: dict[str, Callable[[int], tuple[Images, Images]]] = {
        "Cyrillic": partial(cyrillic, 5, 10),
        "mosaics": partial(mosaics, 5, 10),
    }
    every = steps // 8
    curves: dict[str, list[list[float]]] = {}
    for number, seed in enumerate(seeds):
        for task, data in tasks.items():
            train, test = data(seed)
            for level in (ALL, SCRATCH):
                network, curve = started(level, CLASSES, seed), [1 / CLASSES]

                def after(step: int, loss: float, network: Network = network, curve: list[float] = curve) -> None:
                    if step % every == 0:
                        curve.append(accuracy(network, *test))  # noqa: B023  # called within this iteration
                        network.train()

                fit(network, *train, Steps(steps, 0.002, batch=32, optimizer="adam"), seed, after=after)
                curves.setdefault(f"{task}, {'Latin' if level == ALL else 'random'} start", []).append(curve)
        conditions.reporter.step("starts", number + 1, len(seeds))

    def gains(task: str, at: int) -> list[float]:
        return paired(*([curve[at] for curve in curves[f"{task}, {start} start"]] for start in ("Latin", "random")))

    return Outcome(
        f"Five images of each of 20 Cyrillic letters: {mean(gains('Cyrillic', -1)):+.1%} of test accuracy from the "
        f"Latin start after {steps} steps. Mosaics of them: {mean(gains('mosaics', -1)):+.1%}.",
        (
            over_seeds(f"gain on Cyrillic after {every} steps (start)", gains("Cyrillic", 1), "above", percent=True),
            over_seeds(f"gain after {4 * every} steps (slope)", gains("Cyrillic", 4), "above", percent=True),
            over_seeds(f"gain after {steps} steps (end)", gains("Cyrillic", -1), "above", percent=True),
            over_seeds(f"gain on mosaics after {steps} steps", gains("mosaics", -1), percent=True),
            over_seeds(
                "gain on Cyrillic less that on mosaics",
                paired(gains("Cyrillic", -1), gains("mosaics", -1)),
                "above",
                percent=True,
            ),
        ),
        Figure(
            "From the Latin start and from a random one",
            "steps",
            "test accuracy",
            tuple(
                Series(name, tuple(float(every * at) for at in range(9)), tuple(map(mean, zip(*own, strict=True))))
                for name, own in curves.items()
            ),
        ),
        f"{LETTERS}; {MOSAICS}",
    )


@dataclass(frozen=True)
class Scenario:
    """Small or large, similar to the base's data or not: the level that the textbook chooses."""

    name: str
    data: Callable[[int], tuple[Images, Images]]
    rule: str


def run_scenarios(conditions: Conditions) -> Outcome:
    """Train every level to the end in the four scenarios, and compare the one that the rule chooses. T6 and T7."""
    seeds = conditions.seeds(3, 6)
    few, many = (3, 30) if conditions.quick else (5, 100)
    steps = 80 if conditions.quick else 400
    scenarios = (
        Scenario("small, similar", partial(cyrillic, few, 10), HEAD),
        Scenario("large, similar", partial(cyrillic, many, 10), MOST),
        Scenario("small, different", partial(mosaics, few, 10), THIRD),
        Scenario("large, different", partial(mosaics, many, 10), ALL),
    )
    levels = (HEAD, MOST, THIRD, ALL)
    ends: dict[str, dict[str, list[float]]] = {}
    total = len(scenarios) * len(seeds)
    for number, scenario in enumerate(scenarios):
        ends[scenario.name] = {level: [] for level in levels}
        for turn, seed in enumerate(seeds):
            train, test = scenario.data(seed)
            for level in levels:
                ends[scenario.name][level].append(reached(level, train, test, steps, seed))
            conditions.reporter.step("scenarios", number * len(seeds) + turn + 1, total)
    best = {name: max(levels, key=lambda level: mean(own[level])) for name, own in ends.items()}
    regrets = tuple(
        over_seeds(
            f"{each.name}: {best[each.name]} less the rule's {each.rule}",
            paired(ends[each.name][best[each.name]], ends[each.name][each.rule]),
            "below",
            0.05,
            percent=True,
        )
        for each in scenarios
    )
    deeper = {name: paired(own[ALL], own[HEAD]) for name, own in ends.items()}
    return Outcome(
        "The level that won: " + ", ".join(f"{name} {level}" for name, level in best.items()) + ". The rule loses "
        "little where its interval stays below 5 points.",
        (
            *regrets,
            over_seeds(
                "what more images add to all over head, similar",
                paired(deeper["large, similar"], deeper["small, similar"]),
                "above",
                percent=True,
            ),
            over_seeds(
                "what different images add to all over head, large",
                paired(deeper["large, different"], deeper["large, similar"]),
                "above",
                percent=True,
            ),
        ),
        Figure(
            "Four scenarios at four levels",
            "",
            "test accuracy, %",
            tuple(
                Series(level, tuple(ends), tuple(100 * mean(own[level]) for own in ends.values())) for level in levels
            ),
        ),
        f"{LETTERS}; {MOSAICS}",
    )


def run_frozen(conditions: Conditions) -> Outcome:
    """Measure what each level leaves unchanged, bit by bit. T3 and T4."""
    train, _ = cyrillic(5, 5, conditions.seed)
    before = {name: tensor.clone() for name, tensor in load_base(BASE).network.state_dict().items()}
    moved, kept, outputs = [], [], []
    levels = (HEAD, MOST, THIRD, ALL)
    for level in levels:
        network = started(level, 20, conditions.seed)
        frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
        fit(network, *train, Steps(20, 0.01, batch=32), conditions.seed)
        changes = {name: float((tensor - before[name]).abs().max()) for name, tensor in network.state_dict().items()
                   if tensor.shape == before[name].shape}  # fmt: skip
        kept.append(max((change for name, change in changes.items() if name in frozen), default=0.0))
        moved.append(min((change for name, change in changes.items() if name not in frozen), default=1.0))
        outputs.append(network.head.out_features)
    return Outcome(
        f"After 20 steps at four levels no frozen weight has changed in any bit ({max(kept):g}), and all other tensors "
        f"have; the new head has {outputs[0]} outputs for 20 letters.",
        (
            exactly("largest change of a frozen weight", max(kept), "equal", 0),
            exactly("smallest change of a tensor that trains", min(moved), "above", 0),
            exactly("outputs of the new head for 20 classes", outputs[0], "equal", 20),
        ),
        Figure(
            "Tensors that train at each level",
            "",
            "parameters that train",
            (
                Series(
                    "LeNet-5",
                    levels,
                    tuple(
                        float(sum(p.numel() for p in started(level, 20, 0).parameters() if p.requires_grad))
                        for level in levels
                    ),
                ),
            ),
        ),
        LETTERS,
    )


def run_background(conditions: Conditions) -> Outcome:
    """Train on two kinds of letters over two backgrounds, and swap the backgrounds in the test. T12."""
    seeds = conditions.seeds(4, 8)
    levels = (HEAD, THIRD, ALL)
    own: dict[str, list[float]] = {level: [] for level in levels}
    swapped: dict[str, list[float]] = {level: [] for level in levels}
    recipe = Steps(60 if conditions.quick else 300, 0.002, batch=32, optimizer="adam")
    for number, seed in enumerate(seeds):
        (images, labels), (others, other_labels) = cyrillic(6, 10, seed)
        kinds, other_kinds = labels % 2, other_labels % 2
        for level in levels:
            network = started(level, 2, seed)
            fit(network, _grounded(images, kinds), kinds, recipe, seed)
            own[level].append(accuracy(network, _grounded(others, other_kinds), other_kinds))
            swapped[level].append(accuracy(network, _grounded(others, 1 - other_kinds), other_kinds))
        conditions.reporter.step("backgrounds", number + 1, len(seeds))
    falls = {level: paired(own[level], swapped[level]) for level in levels}
    return Outcome(
        "On swapped backgrounds accuracy falls by "
        + ", ".join(f"{mean(falls[level]):.0%} at level {level}" for level in levels)
        + ", from "
        + ", ".join(f"{mean(own[level]):.0%}" for level in levels)
        + ".",
        (
            over_seeds("fall on swapped backgrounds, all", falls[ALL], "above", percent=True),
            over_seeds("fall at head", falls[HEAD], percent=True),
            over_seeds("fall at all less that at head", paired(falls[ALL], falls[HEAD]), "above", percent=True),
        ),
        Figure(
            "A background that goes with the class",
            "",
            "test accuracy, %",
            tuple(
                Series(title, levels, tuple(100 * mean(found[level]) for level in levels))
                for title, found in (("same backgrounds", own), ("swapped backgrounds", swapped))
            ),
        ),
        LETTERS,
    )


def _grounded(images: Tensor, kinds: Tensor) -> Tensor:
    """Draw faint stripes behind the letters, vertical behind kind 0 and horizontal behind kind 1."""
    ramp = torch.sin(torch.arange(SIDE) * (2 * torch.pi / 7)) * 0.3
    upright, level = ramp.expand(SIDE, SIDE), ramp[:, None].expand(SIDE, SIDE)
    ground = torch.where(kinds.bool()[:, None, None, None], level, upright)
    # Ink covers the background.
    return torch.where(images < 0, images, images - 0.3 + ground)


def _as_base(images: Tensor) -> Tensor:
    return 1 - 2 * (images - BACKGROUND) / (INK - BACKGROUND)


LATIN = Experiment(
    "letters",
    ("T8", "T9", "T10"),
    "Latin letters are a better start for Cyrillic ones, from the first steps on, and less so for other images.",
    run_letters,
    seconds=15,
    full_seconds=120,
)
SCENARIOS = Experiment(
    "scenarios",
    ("T6", "T7"),
    "The more images and the less alike, the deeper fine-tuning pays; the four scenarios' rule costs little.",
    run_scenarios,
    seconds=20,
    full_seconds=300,
)
FROZEN = Experiment(
    "frozen",
    ("T3", "T4"),
    "A frozen layer's weights do not change, and a new head has as many outputs as there are classes.",
    run_frozen,
    seconds=3,
    full_seconds=3,
)
GROUND = Experiment(
    "background",
    ("T12",),
    "From few images, deep fine-tuning learns their background more than a head does.",
    run_background,
    seconds=12,
    full_seconds=80,
)
