"""graft models A B: architectures side by side"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graft.cli.output import print_json, say, show
from graft.models.catalog import CATALOG
from graft.progress import Table

if TYPE_CHECKING:
    from graft.accounting.counting import Account
    from graft.weights.architectures import Architecture


def compare_models(names: Sequence[str], input_size: int | None, json: bool) -> None:
    """Print what two or more architectures cost, see and reached, a column each. Raises InputError."""
    from graft.weights.architectures import resolve

    rows = [_facts(resolve(name), input_size) for name in names]
    if json:
        print_json(rows)
        return
    columns = ("", *(row["name"] for row in rows))
    protocols = list(dict.fromkeys(row["protocol"] for row in rows if row["protocol"]))
    marks = dict(zip(protocols, "abcdefghijkl", strict=False))
    rows = [{**row, "protocol": marks.get(row["protocol"])} for row in rows]
    show(Table("", columns, tuple((label, *(_cell(row[key]) for row in rows)) for label, key in LABELS)))
    for protocol, mark in marks.items():
        say(f"  {mark}  {protocol}")
    if len(protocols) > 1:
        say("accuracies of different protocols cannot be compared")


LABELS = (
    ("year", "year"),
    ("input", "input_size"),
    ("parameters", "params"),
    ("multiply-adds", "macs"),
    ("activations, bytes", "activation_bytes"),
    ("layers with weights", "weight_layers"),
    ("last map", "last_map"),
    ("its receptive field, px", "receptive_field"),
    ("published top-1, %", "top1"),
    ("published top-5, %", "top5"),
    ("measured by", "protocol"),
)


def _facts(architecture: Architecture, input_size: int | None) -> dict[str, Any]:
    """Return the compared figures of one architecture; None for unknown ones."""
    import torch

    from graft.accounting.counting import account, by_group

    with torch.device("meta"):
        network = architecture.build(architecture.config)
    channels, height, width = architecture.input_size
    table: Account = account(network, (channels, input_size or height, input_size or width))
    stages = by_group(table, {stage.name: stage.parts for stage in network.stages})
    last = [stage for stage in stages if len(stage.output_shape) == 3][-1]
    row = CATALOG.get(architecture.name)
    published = row.published if row else None
    errors = (published.top1_error, published.top5_error) if published else (None, None)
    top1, top5 = (None if error is None else round(100 - error, 2) for error in errors)
    return {
        "name": architecture.name,
        "year": row.year if row else None,
        "input_size": list(table.input_shape),
        "params": table.params,
        "macs": table.macs,
        "activation_bytes": table.activation_bytes,
        "weight_layers": sum(layer.macs > 0 for layer in table.layers),
        "last_map": list(last.output_shape),
        "receptive_field": last.receptive_field,
        "top1": top1,
        "top5": top5,
        "protocol": published.protocol if published else None,
    }


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "×".join(map(str, value))
    # A year takes no thousands separator.
    if isinstance(value, int):
        return str(value) if 1900 < value < 2100 else f"{value:,}"
    return "–" if value is None else str(value)
