"""The command in a report asks for the run again."""

import shlex

from typer.main import get_command

from graft.cli.app import app
from graft.training.recipe import Recipe
from graft.workflows.arguments import Arguments
from graft.workflows.provenance import command_of


def test_the_command_of_a_run_is_one_that_graft_takes() -> None:
    arguments = Arguments(
        "/photos of mine/birds & bees",
        level="stages:2",
        group=r"patient (\d+)",
        time_limit=600.0,
        audit=False,
        recipe=Recipe(warmup=0.1, learning_rate=0.001, flip=False, augment="light"),
    )
    told = command_of(arguments)
    assert told is not None and "'birds & bees'" in told
    words = shlex.split(told)
    with (
        get_command(app)
        .commands["train"]
        .make_context(  # type: ignore[attr-defined]
            "train", words[2:]
        ) as context
    ):
        given = context.params
    assert given["data"] == "birds & bees" and given["group"] == r"patient (\d+)" and given["level"] == "stages:2"
    assert (given["learning_rate"], given["flip"], given["audit"], given["settings"]) == (
        0.001,
        False,
        False,
        ["warmup=0.1"],
    )


def test_images_in_memory_have_no_command() -> None:
    assert command_of(Arguments("images", in_memory=True)) is None


def test_an_expression_that_begins_like_a_path_is_kept_whole() -> None:
    told = command_of(Arguments("/photos/birds", group=r"/ward/(\d+)", val="/photos/others.csv"))
    assert told == r"graft train birds --group '/ward/(\d+)' --val others.csv"
