"""graft push"""

from __future__ import annotations

from typing import Annotated

import typer

from graft.cli.output import Debug, Json, Quiet, Seed, print_json, say
from graft.cli.process import at_work
from graft.words import counted, in_bytes


def push(
    run: Annotated[str, typer.Argument(help="Run folder or its model folder.")],
    repository: Annotated[
        str, typer.Argument(help="Hugging Face Hub repository, as owner/name; created if it does not exist.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Keep the repository private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent and how large it is, without contacting the Hub.")
    ] = False,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Send a classifier and its card to the Hugging Face Hub, for use as a base or a run named hf:owner/name."""
    from graft.weights.publishing import push as push_model

    with at_work(quiet) as reporter:
        done = push_model(run, repository, private=private, dry_run=dry_run, reporter=reporter)
    if json:
        print_json(done.to_dict())
        return
    for name, size in done.sizes.items():
        say(f"{in_bytes(size):>9}  {name}")
    what = f"{counted(len(done.files), 'file')}, {in_bytes(sum(done.sizes.values()))}"
    if done.licence is not None:
        say(f"licence of the base: {done.licence}")
    where = f"{done.address}{', private' if private else ''}"
    say(f"would send {what}, to {where}" if dry_run else f"sent {what}, to {where}: graft predict hf:{done.repository}")
