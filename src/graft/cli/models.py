"""graft models"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from graft.cli.output import Debug, Json, Quiet, Seed, print_json
from graft.models.catalog import CATALOG, entry

if TYPE_CHECKING:
    from graft.accounting.counting import Account, Layer


def models(
    name: Annotated[str | None, typer.Argument(help="One architecture, layer by layer.")] = None,
    input_size: Annotated[int | None, typer.Option(help="Side of the input, pixels.", min=1)] = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the architectures, or the layers of one with their costs."""
    if name is None:
        rows = [_row(each) for each in CATALOG]
        if json:
            print_json(rows)
        else:
            _print_rows(rows)
        return
    import torch

    from graft.accounting.counting import account
    from graft.models.catalog import build, default_config

    channels, height, width = entry(name).input_size
    with torch.device("meta"):
        network = build(default_config(name))
    table = account(network, (channels, input_size or height, input_size or width))
    if json:
        facts = {**_row(name), "input_size": list(table.input_shape), "params": table.params, "macs": table.macs}
        print_json({**facts, "layers": [_layer(layer) for layer in table.layers]})
    else:
        _print_layers(name, table)


def _row(name: str) -> dict[str, Any]:
    facts = asdict(entry(name))
    order = ("family", "year", "paper", "input_size", "params", "macs", "stages")
    return {"name": name, **{key: facts[key] for key in order}}


def _layer(layer: Layer) -> dict[str, Any]:
    facts = asdict(layer)
    return {key: facts[key] for key in ("name", "type", "output_shape", "params", "macs", "receptive_field")}


def _print_rows(rows: list[dict[str, Any]]) -> None:
    table = _table("name", "year", "input", "parameters", "multiply-adds", "stages", right=(3, 4))
    for row in rows:
        size, stages = "×".join(map(str, row["input_size"])), len(row["stages"])
        table.add_row(row["name"], str(row["year"]), size, f"{row['params']:,}", f"{row['macs']:,}", str(stages))
    Console().print(table)


def _print_layers(name: str, account: Account) -> None:
    table = _table("layer", "type", "output", "parameters", "multiply-adds", "sees", right=(3, 4, 5))
    for layer in account.layers:
        shape = "×".join(map(str, layer.output_shape))
        params, macs = f"{layer.params:,}", f"{layer.macs:,}"
        table.add_row(layer.name, layer.type, shape, params, macs, f"{layer.receptive_field:,} px")
    Console().print(table)
    size = "×".join(map(str, account.input_shape))
    typer.echo(f"{name} at {size}: {account.params:,} parameters, {account.macs:,} multiply-adds")


def _table(*columns: str, right: tuple[int, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", no_wrap=True)
    return table
