"""graft cache"""

from __future__ import annotations

import time
from collections import Counter
from typing import Annotated, Any

import typer

from graft.cli.output import Debug, Json, Quiet, Seed, print_json, say
from graft.errors import InputError
from graft.files import KINDS, cache_budget, cache_entries, cache_folder, remove
from graft.words import counted

# Files that were fetched, unlike the entries that graft computed itself.
WEIGHTS = "weights"
cache = typer.Typer(help="List or clear what graft keeps to avoid computing it again.")


@cache.callback(invoke_without_command=True)
def _cache(
    context: typer.Context, seed: Seed = 0, json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    if context.invoked_subcommand is None:
        _list(json)
    elif json:
        raise InputError(
            f"expected --json after {context.invoked_subcommand}, got it before: graft cache "
            f"{context.invoked_subcommand} --json"
        )


@cache.command("list")
def list_entries(seed: Seed = 0, json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Show the size and last use of each kind of entry, and the limit."""
    _list(json)


@cache.command()
def clear(
    weights: Annotated[bool, typer.Option("--weights", help="Also remove downloaded weights.")] = False,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Remove everything that graft can compute again."""
    before = list(cache_entries(*KINDS, *([WEIGHTS] if weights else [])))
    for entry in before:
        remove(entry.path)
    freed = [entry for entry in before if not entry.path.exists()]
    size = sum(entry.size for entry in freed)
    if json:
        print_json({"folder": str(cache_folder()), "removed": len(freed), "bytes": size})
    else:
        say(f"{counted(len(freed), 'entry', 'entries')} removed, {_bytes(size)} freed in {cache_folder()}")


def _list(json: bool) -> None:
    entries = list(cache_entries(*KINDS, WEIGHTS))
    kinds: dict[str, dict[str, Any]] = {}
    numbers, sizes = Counter(entry.kind for entry in entries), Counter[str]()
    for entry in entries:
        sizes[entry.kind] += entry.size
    for kind in (*KINDS, WEIGHTS):
        used = max((entry.used for entry in entries if entry.kind == kind), default=None)
        kinds[kind] = {"entries": numbers[kind], "bytes": sizes[kind], "last_used": used}
    total = sum(sizes[kind] for kind in KINDS)
    if json:
        print_json({"folder": str(cache_folder()), "budget": cache_budget(), "bytes": total, "kinds": kinds})
        return
    say(f"{'kind':12} {'entries':>8} {'size':>10}  last used")
    for kind, facts in kinds.items():
        when = "" if facts["last_used"] is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(facts["last_used"]))
        say(f"{kind:12} {facts['entries']:8,} {_bytes(facts['bytes']):>10}  {when}")
    say(f"{_bytes(total)} of at most {_bytes(cache_budget())}, excluding downloaded weights, in {cache_folder()}")


def _bytes(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"
