"""What training will do, stated before it begins: by stage, what is frozen, what trains, and at what cost."""

from dataclasses import asdict, dataclass
from typing import Any

from graft.accounting.counting import account, by_group
from graft.accounting.dry_run import without_data
from graft.models.network import Network
from graft.progress import Table
from graft.training.optimizer import stage_shares
from graft.training.recipe import ResolvedRecipe
from graft.transfer.levels import Plan


@dataclass(frozen=True)
class StageOutlook:
    """A stage: whether it trains, its peak learning rate (None: frozen, or solved without steps), and its cost.

    `macs` are the multiply-adds of one image going forwards once, `total_macs` those of the whole training.
    """

    stage: str
    trains: bool
    learning_rate: float | None
    parameters: int
    macs: int
    total_macs: int


@dataclass(frozen=True)
class Outlook:
    """The stages in order, and how often each of the `images` is trained on (0: a head that is solved at once)."""

    stages: tuple[StageOutlook, ...]
    images: int
    epochs: int

    @property
    def trained_parameters(self) -> int:
        return sum(row.parameters for row in self.stages if row.trains)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> Table:
        """Return a table of the stages: frozen or trained, peak rate, parameters, and multiply-adds."""
        total = sum(row.total_macs for row in self.stages) or 1
        rows = []
        for row in self.stages:
            rate = "" if row.learning_rate is None else f"{row.learning_rate:.2g}"
            if row.trains and row.learning_rate is None:
                rate = "solved"
            state = "trains" if row.trains else "frozen" if row.parameters else ""
            share = f"{row.total_macs / total:.0%}"
            rows.append((row.stage, state, rate, f"{row.parameters:,}", f"{row.total_macs:.2e}", share))
        return Table("", ("stage", "", "peak rate", "parameters", "multiply-adds", "share"), tuple(rows))


def outlook(
    network: Network, plan: Plan, recipe: ResolvedRecipe, classes: int, images: int, input_shape: tuple[int, int, int]
) -> Outlook:
    """Return the outlook for training `network` by `plan` on this many `images` of `input_shape` (C, H, W) and classes.

    A frozen stage runs once per image, as its activations are kept. A stage that trains costs three forward passes per
    image and epoch: itself, the gradients of its inputs and those of its weights.
    """
    network = without_data(network)
    if plan.level != "as-is":
        network.new_head(classes, plan.head)
    costs = by_group(account(network, input_shape), {stage.name: stage.parts for stage in network.stages})
    _, crown = network.split(plan.cut)
    crown.requires_grad_(True)
    shares = stage_shares(crown, recipe.layer_decay)
    in_crown = {stage.name for stage in crown.stages}
    solved = plan.cut == network.cuts[-2]
    epochs = 0 if solved or not in_crown else recipe.epochs
    rows = []
    for cost in costs:
        trains = cost.name in in_crown and cost.params > 0
        rate = recipe.learning_rate * shares[cost.name] if trains and not solved else None
        passes = 3 * epochs if cost.name in in_crown and epochs else 1
        rows.append(StageOutlook(cost.name, trains, rate, cost.params, cost.macs, cost.macs * images * passes))
    return Outlook(tuple(rows), images, epochs)
