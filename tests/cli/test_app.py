"""What every command has in common: errors in one sentence, exit codes, help, completion, and the one way to print."""

import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

import graft.cli.models
from graft.cli.app import app, main
from graft.cli.other_names import RENAMED
from graft.data.table_options import TableOptions, option_name

CLI = Path(graft.cli.models.__file__).parent


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The exit code, stdout and stderr of a call."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["graft", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "data", "--epoch", "3"], ["`graft train -h`", "no such option: --epoch", "--epochs"]),
        (["train", "data", "--learning-rate", "0.1"], ["no such option: --learning-rate (here it is --lr)"]),
        (["predict", "run", "a.jpg", "--conf", "0.5"], ["no such option: --conf (here it is --error-budget)"]),
        (["train", "data", "--device", "cuda"], ["a GPU is used if there is one"]),
        (["train", "data", "--workers", "4"], ["by threads, one per core"]),
        (["train", "data", "--epochs", "many"], ["`graft train -h`", "--epochs", "integer"]),
        (["train", "data", "--epochs"], ["--epochs"]),
        (["train"], ["`graft train -h`", "missing argument"]),
        (["trian"], ["`graft -h`", "'trian'", "'train'"]),
        (["audit", "data", "more"], ["`graft audit -h`", "more"]),
        (["demo", "--seeds", "1"], ["`graft demo -h`", "--seeds", "2"]),
    ],
)
def test_a_call_that_cannot_be_read_is_one_line(called, arguments: list[str], words: list[str]) -> None:
    code, out, errors = called(*arguments)
    assert (code, out) == (2, "")
    assert errors.startswith("error: expected a call as ") and errors.count("\n") == 1
    assert all(word in errors for word in words)


def test_a_run_without_images_to_evaluate_it_on_is_told_where_its_own_figures_are(called) -> None:
    code, out, errors = called("evaluate", "runs/letters")
    assert (code, out) == (2, "")
    assert errors.startswith("error: expected labelled images to evaluate runs/letters on, got none: ")
    assert "`graft report runs/letters`" in errors and errors.count("\n") == 1


def test_every_option_that_another_tool_calls_otherwise_is_one_of_some_command() -> None:
    commands = get_command(app).commands.values()  # type: ignore[attr-defined]
    own = {name for command in commands for each in command.params for name in each.opts}
    assert set(RENAMED.values()) <= own and not set(RENAMED) & own


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("stem"), ["unexpected KeyError: 'stem'. This is a bug in graft; rerun with --debug and report the"]),
        (RecursionError("maximum recursion depth exceeded"), ["unexpected RecursionError: maximum", "--debug"]),
        (ValueError("one\nmore \x1b[31m"), ["unexpected ValueError: one. This is a bug"]),
        (MemoryError(), ["expected the work to fit in memory"]),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 bytes"), ["to fit in memory"]),
        (OSError(12, "Cannot allocate memory"), ["to fit in memory"]),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), ["to fit in memory"]),
        (PermissionError(13, "Permission denied", "a\x1b.png"), [r"Permission denied (a\x1b.png)"]),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    called, error: Exception, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(graft.cli.models, "_list", fail)
    code, out, errors = called("models")
    assert (code, out) == (1, "")
    assert errors.startswith("error: ") and errors.count("\n") == 1
    assert all(word in errors for word in words)
    code, _, errors = called("models", "--debug")
    assert code == 1
    assert errors.startswith("Traceback") and errors.splitlines()[-1].startswith("error: ")


def test_help_explains_the_words_of_its_own_and_needs_no_argument(called, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, errors = called()
    assert (code, errors) == (0, "")
    assert out.rstrip() == called("-h")[1].rstrip()
    assert all(re.search(f"(?m)^ {word} ", out) for word in ("A level", "A cut", "Shift"))
    assert "--install-completion" in out
    assert max(map(len, out.splitlines())) <= 80


def test_every_command_takes_the_options_that_all_take(called) -> None:
    commands = [[command.name or command.callback.__name__] for command in app.registered_commands]
    for command in [*commands, ["cache"], ["cache", "list"], ["cache", "clear"]]:
        code, out, _ = called(*command, "--help")
        assert code == 0 and all(option in out for option in ("--json", "--quiet", "--seed", "--debug")), command


def test_a_shell_completes_commands(called, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_GRAFT_COMPLETE", "complete_bash"), ("COMP_WORDS", "graft tra"), ("COMP_CWORD", "1")):
        monkeypatch.setenv(name, value)
    assert called()[:2] == (0, "train\n")


def test_a_table_fits_80_columns_with_all_its_letters(called, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in (["models"], ["models", "resnet18", "--cut", "stage3"], ["models", "inception_v3"]):
        code, out, _ = called(*arguments)
        tables = out[: out.rindex("\n\n")]
        assert code == 0
        assert max(map(len, tables.splitlines())) <= 80
        assert "…" not in out


def test_all_that_is_printed_goes_one_way() -> None:
    for path in CLI.glob("*.py"):
        if path.name not in ("output.py", "app.py"):
            used = re.findall(r"(?<!_)\b(?:print|echo|Console|sys\.stdout\.write)\(", path.read_text(encoding="utf-8"))
            assert not used, f"{path.name} prints without `cli.output`"


@pytest.mark.parametrize("command", ["train", "audit", "advise", "compare", "evaluate"])
def test_commands_that_take_data_take_what_may_be_said_of_a_table(command: str) -> None:
    found: Any = typer.main.get_command(app)
    found = found.commands[command]
    options = {option for parameter in found.params for option in parameter.opts}
    assert options >= {option_name(each.name) for each in fields(TableOptions)}
