"""`graft quiz` as a student meets it."""

import json
from pathlib import Path

import pytest
from calling import graft

from graft.workflows.quiz import draw_quiz


def test_right_answers_are_counted_and_misses_explained() -> None:
    first, second = draw_quiz(2, ("parameters",))
    right = " ".join(map(str, first.answer))
    done = graft("quiz", "--topic", "parameters", "--questions", 2, stdin=f"nonsense\n{right}\n?\n")
    assert done.returncode == 0, done.stderr
    assert "got 'nonsense': enter it again" in done.stdout
    assert f"right: {first.shown_answer()}" in done.stdout
    assert f"it is {second.shown_answer()}: {second.formula}" in done.stdout
    assert "1 of 2 answers right" in done.stdout


def test_input_that_ends_early_gives_the_score_and_none_at_all_is_a_wrong_call() -> None:
    done = graft("quiz", "--topic", "shapes", stdin="1 1 1\n")
    assert (done.returncode, "0 of 1 answer right" in done.stdout) == (0, True)
    done = graft("quiz")
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected answers on stdin, got none")


def test_json_is_one_document_with_what_was_entered() -> None:
    (question,) = draw_quiz(1, ("levels",), seed=5)
    done = graft("quiz", "--topic", "levels", "--questions", 2, "--seed", 5, "--json", stdin=f"{question.answer[0]}\n")
    found = json.loads(done.stdout)
    assert (found["asked"], found["right"], found["seed"]) == (1, 1, 5)
    assert found["questions"][0]["entered"] == question.answer[0] and found["questions"][0]["right"] is True
    assert found["questions"][1]["right"] is None
    assert question.text in done.stderr


def test_the_sheet_is_not_written_over_another_file(tmp_path: Path) -> None:
    path = tmp_path / "sheet.md"
    assert graft("quiz", "--questions", 6, "--export", path).returncode == 0
    before = path.read_text()
    assert "# Answers" in before
    done = graft("quiz", "--seed", 1, "--export", path)
    assert done.returncode == 2 and "exists" in done.stderr and path.read_text() == before


@pytest.mark.parametrize("options", [("--topic", "cooking"), ("--questions", "0"), ("--questions", "1000")])
def test_a_wrong_call_is_one_sentence(options: tuple[str, str]) -> None:
    done = graft("quiz", *options)
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected") and "Traceback" not in done.stderr


def test_ctrl_c_tells_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("graft.cli.quiz._ask", interrupted)
    done = graft("quiz")
    assert (done.returncode, done.stderr) == (130, "stopped; 0 of 0 answers right\n")
