"""Networks that differ in one thing, trained alike: what the difference does over several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import mean, stdev

from torch import Tensor, nn

from graft.lab.experiment import Conditions, Series
from graft.lab.fitting import Steps, accuracy, fit
from graft.seeding import seeded

Images = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Trained:
    """One network and seed: the training loss by step, the final accuracies, and the network itself."""

    losses: list[float]
    train: float
    test: float
    network: nn.Module


def train_each(
    networks: Mapping[str, Callable[[], nn.Module]],
    data: Callable[[int], tuple[Images, Images]],
    recipe: Steps | Mapping[str, Steps],
    seeds: range,
    conditions: Conditions,
    change: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
) -> dict[str, list[Trained]]:
    """Train every network from several random starts; all of one seed see the same images in the same order.

    `data` returns the training and test images of a seed. `change` augments a network's batches, by its name.
    """
    found: dict[str, list[Trained]] = {name: [] for name in networks}
    done, total = 0, len(seeds) * len(networks)
    for seed in seeds:
        (images, labels), test = data(seed)
        for name, build in networks.items():
            conditions.reporter.step("networks", done, total, name)
            with seeded(seed):
                network = build()
            own = recipe if isinstance(recipe, Steps) else recipe[name]
            same = (change or {}).get(name, lambda batch: batch)
            losses = fit(network, images, labels, own, seed, change=same)
            found[name].append(Trained(losses, accuracy(network, images, labels), accuracy(network, *test), network))
            done += 1
    conditions.reporter.step("networks", total, total)
    return found


def paired(one: list[float], other: list[float]) -> list[float]:
    """Return the differences by seed; both runs of a seed share images and order."""
    return [first - second for first, second in zip(one, other, strict=True)]


def loss_lines(found: Mapping[str, list[Trained]], window: int = 10) -> tuple[Series, ...]:
    """Return every network's mean loss over its seeds by step, averaged over `window` steps."""
    lines = []
    for name, runs in found.items():
        steps = range(0, len(runs[0].losses) - window + 1, window)
        values = [[mean(run.losses[at : at + window]) for run in runs] for at in steps]
        lines.append(Series(name, tuple(float(at + window) for at in steps), tuple(map(mean, values))))
    return tuple(lines)


def accuracy_bars(found: Mapping[str, list[Trained]], test: bool = True, percent: float = 100) -> tuple[Series, ...]:
    """Return the final accuracies, with their standard deviation over seeds."""
    shown = []
    for title, values in (
        ("training images", [[run.train for run in runs] for runs in found.values()]),
        *((("test images", [[run.test for run in runs] for runs in found.values()]),) if test else ()),
    ):
        shown.append(
            Series(
                title,
                tuple(found),
                tuple(percent * mean(each) for each in values),
                tuple(percent * stdev(each) for each in values),
            )
        )
    return tuple(shown)
