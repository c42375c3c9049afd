"""Text that is YAML gives its values, and any other a ValueError."""

import pytest
import yaml

from graft.yaml_text import yaml_in

NONE = (
    "a: [",
    "data: 2024-13-45",
    "a: !!bool x",
    "a: !!timestamp x",
    "a: !!int x",
    "[" * 5000,
    f"a: {'9' * 5000}",
    "\x00",
)


@pytest.mark.parametrize("text", NONE, ids=range(len(NONE)))
def test_what_is_no_yaml_is_a_value_error_whatever_the_parser_makes_of_it(text: str) -> None:
    with pytest.raises(ValueError, match="not YAML"):
        yaml_in(text)


def test_values_are_those_of_the_parser_and_nothing_is_built_of_foreign_types() -> None:
    text = "a: 1\nb: [x, 2.5, null, yes]\nc: 2024-02-03\n"
    assert yaml_in(text) == yaml.safe_load(text)
    with pytest.raises(ValueError, match="ConstructorError"):
        yaml_in("a: !!python/object/apply:os.getcwd []")
