"""The quiz: its answers against figures that graft's code did not produce, and what counts as an answer."""

import json
import math
from pathlib import Path
from random import Random
from typing import Any

import pytest

from graft.errors import InputError
from graft.workflows.drawn import TOPICS
from graft.workflows.question import Question
from graft.workflows.quiz import draw_quiz, sheet
from graft.workflows.worked.questions import ASKED, Asked, flat, worked_questions


@pytest.fixture(scope="module")
def reference(shared: Path) -> dict[str, dict[str, Any]]:
    entries = json.loads((shared / "reference" / "worked_examples.json").read_text())
    return {f"textbook-{entry['id']}": entry for entry in entries}


@pytest.fixture(scope="module")
def worked() -> dict[str, Question]:
    return {each.id: each for each in worked_questions()}


def entered(answer: tuple[Any, ...]) -> str:
    return " ".join(map(str, answer))


def evaluated(formula: str) -> list[float]:
    """The calculations after the colon of a formula."""
    known = {"floor": math.floor, "round": round, "max": max}
    terms = formula.rpartition(": ")[2].replace("·", "*").replace("−", "-").replace("²", "**2")
    return [eval(term, {"__builtins__": {}}, known) for term in terms.split(";")]


def test_every_worked_example_is_asked_and_agrees_with_the_reference(
    worked: dict[str, Question], reference: dict[str, dict[str, Any]]
) -> None:
    assert set(worked) == set(reference) and len(worked) == 54
    for name, question in worked.items():
        read = ASKED.get(name.removeprefix("textbook-"), Asked()).read
        assert question.answer == read(reference[name]["correct_answer"]), name
        assert question.is_right(entered(question.answer)), name


def test_a_wrong_figure_of_the_textbook_is_a_miss_and_is_told_with_the_right_one(
    worked: dict[str, Question], reference: dict[str, dict[str, Any]]
) -> None:
    wrong = [name for name, entry in reference.items() if entry["agrees"] is False]
    assert len(wrong) == 11
    for name in wrong:
        question, entry = worked[name], reference[name]
        assert "which is wrong; right is " in question.textbook, name
        for number in flat(entry["correct_answer"]):
            assert (f"{number:,}" if isinstance(number, int) else str(number)) in question.textbook.replace(
                "5e-05", "5e-05"
            ), name
        read = ASKED.get(name.removeprefix("textbook-"), Asked()).read
        if name in ("textbook-vgg19_more_than_144", "textbook-lenet_lr_schedule_paper"):
            continue  # the textbook's statement is not of the form that is asked for
        assert not question.is_right(entered(read(entry["seed_answer"]))), name


def test_the_formulas_of_worked_examples_give_their_answers(worked: dict[str, Question]) -> None:
    checked = 0
    for name, question in worked.items():
        if ": " in question.formula:
            assert evaluated(question.formula) == pytest.approx(list(question.answer)), name
            checked += 1
    assert checked > 40


@pytest.mark.parametrize("topic", TOPICS)
def test_drawn_questions_are_new_ones_whose_formula_gives_the_answer(topic: str) -> None:
    seen = set()
    for seed in range(6):
        for make in dict.fromkeys(TOPICS[topic]):
            question = make(Random(seed))
            seen.add(question.id)
            assert question.is_right(entered(question.answer)) and question.formula and question.topic == topic
            if topic == "parameters" and len(question.answer) == 1:
                assert evaluated(question.formula.replace(",", ""))[0] == question.answer[0]
            if topic == "receptive fields" and len(question.answer) == 1:
                assert question.formula.endswith(f"= {question.answer[0]}")
            if topic == "multiplications" and len(question.answer) == 2:
                direct, through = question.formula.rpartition(": ")[2].split(", and ")
                assert [evaluated(direct)[0], evaluated(through)[0]] == list(question.answer)
    assert len(seen) > 4


def test_a_seed_draws_the_same_questions_and_another_draws_others() -> None:
    assert draw_quiz(8, seed=3) == draw_quiz(8, seed=3)
    assert draw_quiz(8, ("shapes",), seed=3) != draw_quiz(8, ("shapes",), seed=4)
    assert {each.topic for each in draw_quiz(6)} == {*TOPICS, "the textbook's own"}


def question(*answer: float | str, unit: str = "", choices: tuple[str, ...] = ()) -> Question:
    return Question("q", "t", "text", answer, "formula", unit, choices)


@pytest.mark.parametrize(
    ("asked", "right", "wrong"),
    [
        (
            question(138_357_544),
            ["138357544", "138,357,544", "138 357 544", "138.4M", "138 million"],
            ["138.5M", "140M"],
        ),
        (
            question(6, 28, 28, unit="shape"),
            ["6 28 28", "6x28x28", "(6, 28, 28)", "6 × 28 × 28", "6,28,28"],
            ["28 28 6"],
        ),
        (question(4_608, 656), ["4608 656", "4,608 656", "4,608, 656", "4608;656"], ["656 4608"]),
        (question(44.9), ["44.9", "45", "44,9", "44.90"], ["44", "45.1", "44.8"]),
        (question(0.0, 0.5, 2.0), ["0 0.5 2"], ["0 0.5 1", "0 0 2"]),
        (question(5e-5), ["5e-5", "0.00005"], ["0", "5e-4"]),
        (question("b", choices=("yes", "no")), ["b", "NO", " b "], ["a", "yes"]),
        (question("a", "c", choices=("x", "y", "z")), ["a c", "ac", "a, c"], ["c a"]),
    ],
)
def test_numbers_are_read_as_people_write_them(asked: Question, right: list[str], wrong: list[str]) -> None:
    for each in right:
        assert asked.is_right(each), each
    for each in wrong:
        assert not asked.is_right(each), each


@pytest.mark.parametrize("text", ["", "abc", "6 28", "6 28 28 28", "six"])
def test_what_is_no_answer_in_form_is_told(text: str) -> None:
    with pytest.raises(InputError, match="expected 3 sizes"):
        question(6, 28, 28, unit="shape").is_right(text)


def test_the_sheet_has_every_question_and_its_answer() -> None:
    drawn = draw_quiz(6, seed=1)
    text = sheet(drawn, 1)
    questions, _, answers = text.partition("# Answers")
    for each in drawn:
        assert each.text[1:] in questions
        assert each.shown_answer() in answers and each.shown_answer() not in questions.replace(each.text[1:], "")
