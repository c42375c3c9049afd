"""YAML that a stranger may have written."""

from typing import Any

import yaml


def yaml_in(text: str) -> Any:
    """The values in YAML. Raises ValueError for what is none.

    PyYAML itself also raises what its own makers of values come to: KeyError of `!!bool x`, AttributeError of
    `!!timestamp x`, RecursionError of many brackets.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"no YAML ({type(error).__name__})") from error
