"""What a training is going to do, said before it begins: by stage, what is frozen, what trains, and at which cost."""

from dataclasses import asdict, dataclass
from typing import Any

from graft.accounting.counting import account, by_group
from graft.accounting.dry_run import without_data
from graft.models.network import Network
from graft.training.optimisation import Settled, stage_shares
from graft.transfer.levels import Plan


@dataclass(frozen=True)
class StageOutlook:
    """A stage: whether it trains, at which peak rate (None: frozen, or solved without steps), and what it costs.

    `macs` are multiply-adds of one picture going forwards once; `total_macs` those of the whole training.
    """

    stage: str
    trains: bool
    rate: float | None
    parameters: int
    macs: int
    total_macs: int


@dataclass(frozen=True)
class Outlook:
    """The stages in order, and how often each of the `pictures` is trained on (0: a head that is solved at once)."""

    stages: tuple[StageOutlook, ...]
    pictures: int
    epochs: int

    @property
    def trained_parameters(self) -> int:
        return sum(row.parameters for row in self.stages if row.trains)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def outlook(
    network: Network, plan: Plan, recipe: Settled, classes: int, pictures: int, input_shape: tuple[int, int, int]
) -> Outlook:
    """What training `network` by `plan` on so many `pictures` (C, H, W) of so many classes means.

    A frozen stage runs once per picture, as its activations are kept. A stage that trains costs three forward passes
    per picture and epoch: itself, the gradients of its inputs and those of its weights.
    """
    network = without_data(network)
    if plan.level != "as-is":
        network.new_head(classes)
    costs = by_group(account(network, input_shape), {stage.name: stage.parts for stage in network.stages})
    _, crown = network.split(plan.cut)
    crown.requires_grad_(True)
    shares = stage_shares(crown, recipe.rate_decay)
    in_crown = {stage.name for stage in crown.stages}
    solved = plan.cut == network.cuts[-2]
    epochs = 0 if solved or not in_crown else recipe.epochs
    rows = []
    for cost in costs:
        trains = cost.name in in_crown and cost.params > 0
        rate = recipe.rate * shares[cost.name] if trains and not solved else None
        passes = 3 * epochs if cost.name in in_crown and epochs else 1
        rows.append(StageOutlook(cost.name, trains, rate, cost.params, cost.macs, cost.macs * pictures * passes))
    return Outlook(tuple(rows), pictures, epochs)
