"""Every experiment by name: a literal dict, with the cheapest of each subject first."""

from __future__ import annotations

from graft.errors import InputError, did_you_mean
from graft.lab import arithmetic, crossing, depth, equal_cost, learning, lenet, scaling, stages, towers, transfer
from graft.lab.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    each.name: each
    for each in (
        arithmetic.PATTERNS,
        arithmetic.STACKED,
        arithmetic.POINTWISE,
        arithmetic.INCEPTION,
        arithmetic.SEPARABLE,
        arithmetic.IDENTITY,
        towers.TOWERS_OF_2012,
        learning.VARIANCE,
        learning.ACTIVATION,
        learning.NORMALISATION,
        learning.OVERFITTING,
        depth.GRADIENTS,
        depth.JOINING,
        depth.DEGRADATION,
        equal_cost.KERNELS,
        equal_cost.REDUCTION,
        equal_cost.SEPARATION,
        scaling.SCALING,
        lenet.LENET_1998,
        lenet.LENET_TODAY,
        stages.ALIKE,
        stages.SPEED,
        transfer.FROZEN,
        transfer.LATIN,
        transfer.SCENARIOS,
        crossing.CROSSING,
        transfer.GROUND,
    )
}


def experiment(name: str) -> Experiment:
    """Return the experiment of that name. Raises InputError with the nearest name for an unknown one."""
    if name not in EXPERIMENTS:
        measuring = ", ".join(each.name for each in EXPERIMENTS.values() if name.upper() in each.claims)
        meant = f" (a claim, measured by {measuring})" if measuring else did_you_mean(name, EXPERIMENTS)
        raise InputError(f"expected the name of an experiment, got {name!r}{meant}: `graft lab` lists them all")
    return EXPERIMENTS[name]
