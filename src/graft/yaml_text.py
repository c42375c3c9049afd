"""YAML from untrusted sources."""

from typing import Any

import yaml


def yaml_in(text: str) -> Any:
    """Return the values in YAML. Raises ValueError for invalid YAML.

    PyYAML itself also lets through what its constructors raise: KeyError for `!!bool x`, AttributeError for
    `!!timestamp x`, RecursionError for many brackets.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"not YAML ({type(error).__name__})") from error
