"""Recipes as YAML, with the level and the base they were found for: `--recipe FILE` and `--set KEY=VALUE`."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from graft.errors import InputError, did_you_mean
from graft.files import write_aside
from graft.given import path as checked_path
from graft.training.recipe import Recipe, check_recipe
from graft.transfer.levels import check_level
from graft.yaml_text import yaml_in

FIELDS = tuple(each.name for each in fields(Recipe))


@dataclass(frozen=True)
class RecipeFile:
    """The contents of a file: a recipe and, where given, the level and base it was found for."""

    recipe: Recipe
    level: str | None = None
    base: str | None = None


def read_recipe(file: str | Path) -> RecipeFile:
    """Read the recipe in a YAML file. Raises InputError if there is none, or for an unknown key or an invalid value."""
    place = Path(checked_path(file, "--recipe")).expanduser()
    try:
        values = yaml_in(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no YAML"
        raise InputError(f"expected a recipe in YAML for --recipe, got {place} ({reason}): check the file") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(
            f"expected a recipe in YAML for --recipe, got something else in {place}: write lines such as "
            "`epochs: 20`, or let `graft tune` write one"
        )
    level, base = values.pop("level", None), values.pop("base", None)
    for name, value in (("level", level), ("base", base)):
        if value is not None and not isinstance(value, str):
            raise InputError(f"expected a string as {name} in {place}, got {value!r}: put it in quotes")
    return RecipeFile(with_settings(Recipe(), values, str(place)), None if level is None else check_level(level), base)


def write_recipe(file: Path, found: RecipeFile, heading: Iterable[str] = ()) -> None:
    """Write the settings that differ from the defaults, below `heading` as comments."""
    usual = asdict(Recipe())
    own = {name: value for name, value in asdict(found.recipe).items() if value != usual[name]}
    known = {name: value for name, value in (("base", found.base), ("level", found.level)) if value is not None}
    text = "".join(f"# {line}\n" for line in heading) + yaml.safe_dump({**known, **own}, sort_keys=False)
    write_aside(file, lambda opened: opened.write(text.encode()))


def settings_of(words: Iterable[str]) -> dict[str, Any]:
    """Parse `KEY=VALUE` words, with values in YAML. Raises InputError for any other word."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        try:
            found[key.strip()] = yaml_in(value)
        except ValueError:
            equals = ""
        if not equals or not key.strip():
            raise InputError(f"expected KEY=VALUE for --set, got {word!r}: write it as in --set epochs=20")
    return found


def with_settings(recipe: Recipe, settings: Mapping[str, Any], where: str = "--set") -> Recipe:
    """Return the recipe with some fields set. Raises InputError for an unknown field or an invalid value."""
    if not isinstance(settings, Mapping):
        raise InputError(
            f"expected fields of a recipe and their values in {where}, got {settings!r}: write them as in "
            '{"epochs": 20}'
        )
    for name in settings:
        if name not in FIELDS:
            raise InputError(
                f"expected a field of a recipe in {where}, got {name!r}{did_you_mean(str(name), FIELDS)}: choose among "
                f"{', '.join(FIELDS)}"
            )
    # YAML reads 1e-4 as a string.
    values = {name: _number(value) for name, value in settings.items()}
    return check_recipe(replace(recipe, **values))


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
