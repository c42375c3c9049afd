"""graft serve"""

from __future__ import annotations

from typing import Annotated

import typer

from graft.cli.output import Debug, EngineOption, Json, Quiet, Seed, print_json, say
from graft.cli.process import imported
from graft.words import counted

LIMITS = "Limits"


def serve(
    run: Annotated[str, typer.Argument(help="Run folder, its model folder, or an exported file (.onnx, .xml).")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs a key or --insecure.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = 8000,
    workers: Annotated[int, typer.Option(help="Number of compute processes, which share the cores.")] = 1,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="GRAFT_API_KEY", show_envvar=True, help="Key that every request must carry."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow other machines without a key.")] = False,
    max_batch: Annotated[int, typer.Option(help="Maximum number of images computed together.")] = 32,
    max_wait: Annotated[
        str, typer.Option(help="How long an image waits for others to join its batch, such as 5ms or 0.")
    ] = "5ms",
    examples: Annotated[
        bool, typer.Option("--examples", help="Offer some of the run's validation images on the page.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name of the model (default: that of the run folder).")] = None,
    url_host: Annotated[
        list[str] | None, typer.Option(help="Host that images may be fetched from; may be repeated.")
    ] = None,
    cors: Annotated[
        list[str] | None, typer.Option(help="Origin whose pages may read answers; may be repeated.")
    ] = None,
    max_bytes: Annotated[
        str, typer.Option(help="Maximum size of a request body, such as 32MiB.", rich_help_panel=LIMITS)
    ] = "32MiB",
    max_files: Annotated[int, typer.Option(help="Maximum number of images per request.", rich_help_panel=LIMITS)] = 32,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            help="Maximum number of pixels per image (default: the decoder's limit).", min=1, rich_help_panel=LIMITS
        ),
    ] = None,
    max_waiting: Annotated[
        int, typer.Option(help="Maximum number of waiting images; more are answered with 429.", rich_help_panel=LIMITS)
    ] = 256,
    timeout: Annotated[
        str,
        typer.Option(
            help="Time limit for sending a body, and again for its answer, such as 30s.", rich_help_panel=LIMITS
        ),
    ] = "30s",
    engine: EngineOption = "auto",
    precision: Annotated[
        str,
        typer.Option("--precision", help="Number format to compute in: float32, bfloat16, or auto for the fastest."),
    ] = "float32",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Serve a classifier over HTTP, with a page to try it: images in, labelled probabilities out."""
    from graft.files import number_of_bytes
    from graft.given import seconds
    from graft.serving.settings import Access, Limits, Serving, waiting_time
    from graft.workflows.serve import Listening
    from graft.workflows.serve import serve as run_service

    def started(listening: Listening) -> None:
        imported()
        if json:
            print_json(listening.to_dict())
        else:
            say(
                f"serving {listening.name}, {counted(len(listening.classes), 'class', 'classes')}, at {listening.url} "
                f"({listening.engine}, {counted(listening.workers, 'worker')}); Ctrl-C ends it"
            )

    access = Access(host, port, api_key or None, insecure, tuple(cors or ()), tuple(url_host or ()))
    limits = Limits(
        bytes=number_of_bytes(max_bytes, "for --max-bytes"),
        files=max_files,
        pixels=max_pixels,
        seconds=seconds(timeout, "--timeout"),
        waiting=max_waiting,
    )
    wait = waiting_time(max_wait)
    serving = Serving(run, name or "", engine, precision, workers, max_batch, wait, limits)
    run_service(serving, access, examples=examples, started=started, quiet=quiet)
