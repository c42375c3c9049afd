"""graft export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.output import Debug, Json, Overwrite, Quiet, Seed, print_json, say
from graft.cli.process import at_work


def export(
    run: Annotated[str, typer.Argument(help="Run folder or its model folder.")],
    format: Annotated[
        str, typer.Option(help="Format: onnx, openvino, torch (a torch.export archive) or timm (a folder).")
    ] = "onnx",
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, bf16 (openvino; weights only) or int8 (openvino and onnx; quantised with training images)."
        ),
    ] = "fp32",
    out: Annotated[
        Path | None,
        typer.Option(help="File to write, or folder for timm (default: in export in the run folder)."),
    ] = None,
    check: Annotated[
        str | None, typer.Option(help="Images to check the file on, instead of the run's validation images.")
    ] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Export a run as one file from pixels to probabilities, and keep it only if it answers as the run does."""
    from graft.workflows.export import export as run_export

    with at_work(quiet) as reporter:
        made = run_export(
            run, format, precision=precision, out=out, check=check, overwrite=overwrite, reporter=reporter
        )
    if json:
        print_json(made.to_dict())
        return
    values = made.to_dict()
    say(f"{made.agreement}")
    faster = made.agreement.seconds_run / max(made.agreement.seconds_exported, 1e-9)
    say(f"{1000 * made.agreement.seconds_exported:.1f} ms an image, {faster:.1f} times the rate of the run in float32")
    size = f"{made.bytes / 1e6:.1f} MB, the run's tensors {made.bytes_of_run / 1e6:.1f} MB"
    say(f"saved in {values['file']} ({size}), with its figures in {values['file']}.json")
