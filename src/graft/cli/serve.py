"""graft serve"""

from __future__ import annotations

from typing import Annotated

import typer

from graft.cli.output import Debug, EngineOption, Json, Quiet, Seed, print_json, say
from graft.words import counted

LIMITS = "Limits"


def serve(
    run: Annotated[str, typer.Argument(help="A run folder, its model folder, or an exported file (.onnx, .xml).")],
    host: Annotated[
        str, typer.Option(help="Where to listen. Any but this machine's own needs a key or --insecure.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(help="Processes that compute; they share the cores between them.")] = 1,
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key", envvar="GRAFT_API_KEY", show_envvar=True, help="The key that every request must have."
        ),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Let other machines in without a key.")] = False,
    max_batch: Annotated[int, typer.Option(help="Images computed together.")] = 32,
    max_wait: Annotated[str, typer.Option(help="How long an image waits for others, such as 5ms or 0.")] = "5ms",
    examples: Annotated[
        bool, typer.Option("--examples", help="Offer some of the run's validation images on the page.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="What the model is called. By default as the run folder.")] = None,
    url_host: Annotated[
        list[str] | None, typer.Option(help="A host that images may be fetched from; may be given again.")
    ] = None,
    cors: Annotated[
        list[str] | None, typer.Option(help="An origin whose pages may read answers; may be given again.")
    ] = None,
    max_bytes: Annotated[
        str, typer.Option(help="Bytes of a request's body, such as 32MiB.", rich_help_panel=LIMITS)
    ] = "32MiB",
    max_files: Annotated[int, typer.Option(help="Images in a request.", rich_help_panel=LIMITS)] = 32,
    max_pixels: Annotated[
        int | None,
        typer.Option(help="Pixels of an image. By default what the decoder takes.", min=1, rich_help_panel=LIMITS),
    ] = None,
    max_waiting: Annotated[
        int, typer.Option(help="Images that may wait; more are answered with 429.", rich_help_panel=LIMITS)
    ] = 256,
    timeout: Annotated[
        str, typer.Option(help="The time to send a body, and to be answered, such as 30s.", rich_help_panel=LIMITS)
    ] = "30s",
    engine: EngineOption = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="What is computed in: float32, bfloat16 or auto, which is the fastest.")
    ] = "float32",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Answer over HTTP, with a page to try it: images in, labelled probabilities out."""
    from graft.files import number_of_bytes
    from graft.given import seconds
    from graft.serving.settings import Access, Limits, Serving, waiting_time
    from graft.workflows.serve import Listening
    from graft.workflows.serve import serve as run_service

    def started(listening: Listening) -> None:
        if json:
            print_json(listening.to_dict())
        else:
            say(
                f"serving {listening.name}, {counted(len(listening.classes), 'class', 'classes')}, at {listening.url} "
                f"({listening.engine}, {counted(listening.workers, 'worker')}); Ctrl-C ends it"
            )

    access = Access(host, port, api_key or None, insecure, tuple(cors or ()), tuple(url_host or ()))
    limits = Limits(
        bytes=number_of_bytes(max_bytes),
        files=max_files,
        pixels=max_pixels,
        seconds=seconds(timeout, "--timeout"),
        waiting=max_waiting,
    )
    wait = waiting_time(max_wait)
    serving = Serving(run, name or "", engine, precision, workers, max_batch, wait, limits)
    run_service(serving, access, examples=examples, started=started, quiet=quiet)
