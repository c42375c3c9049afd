"""Arguments that a function of graft's does not have."""

import dataclasses
import re
from typing import Any

import pandas
import pytest

import graft
from graft.errors import InputError
from graft.given import GIVEN_AS
from graft.serving.handed import one_by_one


@pytest.mark.parametrize(
    ("call", "name", "place"),
    [
        (graft.train, "lr", "did you mean learning_rate?"),
        (graft.train, "epoch", "did you mean epochs?"),
        (graft.train, "imgsz", "did you mean image_size?"),
        (graft.train, "augment", "give it as recipe=graft.Recipe(augment=...)"),
        (graft.compare, "lr", "give it as recipe=graft.Recipe(learning_rate=...)"),
        (graft.train, "label_column", "data=graft.DataOptions(PATH, table=graft.TableOptions(label_column=...))"),
        (graft.audit, "arch", "give it as base=graft.BaseOptions(NAME, arch=...)"),
        (graft.load, "device", "did you mean engine?"),
        (graft.load, "nothing_of_the_kind", "it takes run, engine, precision, singles"),
    ],
)
def test_an_argument_that_is_not_there_is_told_with_its_place(call: Any, name: str, place: str) -> None:
    with pytest.raises(TypeError, match=rf"{call.__name__}\(\) has no argument '{name}': ") as raised:
        call("photos", **{name: 1})
    assert str(raised.value).endswith(place)


def test_the_columns_of_a_data_frame_are_named_where_it_is_read() -> None:
    frame = pandas.DataFrame({"file": ["a.jpg"], "class": ["a"], "patient": [1]})
    for name, place in (
        ("label_column", "data=graft.Dataset.from_frame(FRAME, label=...)"),
        ("group", "data=graft.DataOptions(DATA, group=...)"),
    ):
        with pytest.raises(TypeError, match=rf"give it as {re.escape(place)}"):
            graft.train(frame, **{name: "patient"})


def test_what_such_a_message_advises_can_be_written() -> None:
    for name in GIVEN_AS:
        assert dataclasses.is_dataclass(getattr(graft, name))
    options = graft.DataOptions("photos", table=graft.TableOptions(label_column="species"))
    assert options.table.label_column == "species" and graft.Recipe(augment="none").augment == "none"


def test_an_empty_text_is_not_the_current_folder() -> None:
    with pytest.raises(InputError, match="got an empty string"):
        graft.train("", quiet=True)
    with pytest.raises(InputError, match="expected an image or several, got an empty string"):
        next(iter(one_by_one("")))
