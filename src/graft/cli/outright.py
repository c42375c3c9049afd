"""Options that stand on the command line: what is given outright is either followed or refused, never ignored."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from graft.errors import InputError


def given_outright(context: typer.Context | None) -> set[str]:
    """Return the parameters whose options stand on the command line; none where no command line was read."""
    sources = {} if context is None else {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def refuse_without(needed: str, options: Mapping[str, str], context: typer.Context | None, came: str = "none") -> None:
    """Refuse options that mean nothing without what is `needed`, which was not given. Raises InputError.

    `options` are parameters with the names that their options have; `came` is what was given in place of `needed`.
    """
    given = given_outright(context)
    for parameter, option in options.items():
        if parameter in given:
            raise InputError(f"expected {needed} with {option}, got {came}: add it, or leave {option} out")
