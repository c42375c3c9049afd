"""Every worked calculation of the textbook, recomputed, against figures that graft's code did not produce."""

import json
from pathlib import Path
from typing import Any

import pytest

from graft.workflows.worked.example import Example
from graft.workflows.worked.examples import EXAMPLES

ROWS = {example.id: example for examples in EXAMPLES.values() for example in examples}
AGREES = {"agrees": True, "wrong": False, "ambiguous": None}
# The fields of the reference that every entry has; the others are further figures.
COMMON = {"id", "file", "claim", "inputs", "seed_answer", "correct_answer", "agrees", "note"}


@pytest.fixture(scope="module")
def reference(shared: Path) -> dict[str, dict[str, Any]]:
    entries = json.loads((shared / "reference" / "worked_examples.json").read_text())
    assert len({entry["id"] for entry in entries}) == len(entries)
    return {entry["id"]: entry for entry in entries}


def plain(value: Any) -> Any:
    """As it would come back from JSON: tuples are lists."""
    return json.loads(json.dumps(value))


def test_every_example_of_the_reference_has_exactly_one_row(reference: dict[str, dict[str, Any]]) -> None:
    assert sum(len(examples) for examples in EXAMPLES.values()) == len(ROWS)
    assert set(ROWS) == set(reference)


@pytest.mark.parametrize("name", ROWS)
def test_recomputed_figures_equal_the_reference(name: str, reference: dict[str, dict[str, Any]]) -> None:
    example, entry = ROWS[name], reference[name]
    assert plain(example.right()) == entry["correct_answer"]
    assert plain(example.textbook) == entry["seed_answer"]
    assert AGREES[example.verdict] == entry["agrees"]
    details = example.details()
    for field in set(entry) - COMMON:
        assert plain(details[field]) == entry[field], field


def test_every_row_of_the_vgg16_table_equals_the_reference(reference: dict[str, dict[str, Any]]) -> None:
    kinds = {"conv": "Conv2d", "max pool": "MaxPool2d", "linear": "Linear"}
    expected = [
        [kinds[row["type"]], row["output"], row["params"]] for row in reference["vgg16_table"]["inputs"]["rows"]
    ]
    assert plain(ROWS["vgg16_table"].details()["rows"]) == expected


@pytest.mark.parametrize("example", ROWS.values(), ids=ROWS)
def test_every_row_computes_and_explains_itself(example: Example) -> None:
    right = example.right()
    assert right is not None
    assert isinstance(example.explained(), str)
    if example.verdict != "agrees":
        assert plain(right) != plain(example.textbook), "a figure that is called wrong differs from the right one"
        assert example.explained()
    elif isinstance(right, int | float) and isinstance(example.textbook, int | float):
        assert right == pytest.approx(example.textbook, rel=0.11), "a figure that agrees is at most rounded"
