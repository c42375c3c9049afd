"""graft quiz"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graft.cli.output import Debug, Json, Overwrite, Quiet, Seed, check_new, note, print_json, say
from graft.errors import InputError
from graft.progress import Stderr
from graft.words import counted

if TYPE_CHECKING:
    from graft.workflows.question import Question
    from graft.workflows.quiz import Answered

HOW = "enter your answer, ? to see it, or q to stop"
SKIP, STOP = "?", "q"


def quiz(
    questions: Annotated[int, typer.Option(help="Number of questions to ask.", min=1)] = 10,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            help="Topic to ask about: shapes, parameters, multiplications, receptive fields, levels or textbook "
            "(its own 54 examples); may be repeated."
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write the questions and answers to this Markdown file instead of asking.")
    ] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Ask the textbook's worked examples with new numbers, and explain the formula after a wrong answer."""
    if export is not None:
        export = export.expanduser()
        check_new(export, "--export", overwrite)
    from graft.workflows.quiz import Answered, draw_quiz, sheet

    drawn = draw_quiz(questions, topic or (), seed)
    if len(drawn) < questions:
        note(f"these topics have {counted(len(drawn), 'question')}, not {questions:,}", quiet)
    if export is not None:
        from graft.files import write_aside

        text = sheet(drawn, seed)
        write_aside(export, lambda file: file.write(text.encode()))
        note(f"wrote {counted(len(drawn), 'question')} with answers to {export}", quiet)
        if json:
            print_json({"seed": seed, "questions": [Answered(each).to_dict() for each in drawn]})
        return
    if not json:
        say(f"{counted(len(drawn), 'question')}; {HOW}")
    answered: list[Answered] = []
    try:
        for number, question in enumerate(drawn, start=1):
            told = _ask(question, f"{number} of {len(drawn)}", json, quiet)
            if told is None:
                break
            answered.append(told)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {_score(answered)}") from None
    right = sum(each.right is True for each in answered)
    if json:
        rest = [Answered(each) for each in drawn[len(answered) :]]
        rows = [each.to_dict() for each in [*answered, *rest]]
        print_json({"seed": seed, "asked": len(answered), "right": right, "questions": rows})
    elif not answered:
        raise InputError(
            "expected answers on stdin, got none: run it in a terminal, or write the questions with --export FILE"
        )
    else:
        say(f"{_score(answered)}; `graft quiz --seed {seed + 1}` asks others")


def _ask(question: Question, place: str, json: bool, quiet: bool) -> Answered | None:
    """Ask until the answer is well formed; None if the student stops or the input ends. With `json`, ask on stderr."""
    from graft.workflows.question import LETTERS
    from graft.workflows.quiz import Answered

    def tell(sentence: str = "") -> None:
        if json:
            note(sentence, quiet)
        else:
            say(sentence)

    tell()
    tell(f"{place}, {question.topic}: {question.text}")
    for letter, choice in zip(LETTERS, question.choices, strict=False):
        tell(f"  {letter}  {choice}")
    while True:
        prompt = Stderr() if json else sys.stdout
        if not (json and quiet):
            prompt.write(f"{question.asked_for()}{_unit(question)}: ")
            prompt.flush()
        line = sys.stdin.readline()
        if line and not sys.stdin.isatty():
            # A terminal already echoes the input, including the newline.
            tell(line.rstrip("\n"))
        if not line or line.strip().lower() == STOP:
            tell()
            return None
        if not line.strip():
            continue
        if line.strip() == SKIP:
            tell(f"it is {question.shown_answer()}: {question.formula}")
            right = False
            break
        try:
            right = question.is_right(line)
        except InputError as error:
            tell(str(error))
            continue
        if right:
            tell(f"right: {question.shown_answer()}")
        else:
            tell(f"not quite: it is {question.shown_answer()}, from {question.formula}")
        break
    if question.textbook:
        tell(question.textbook)
    return Answered(question, line.strip(), right)


def _unit(question: Question) -> str:
    return f" ({question.unit})" if question.unit not in ("", "shape") else ""


def _score(answered: list[Answered]) -> str:
    right = sum(each.right is True for each in answered)
    return f"{right} of {counted(len(answered), 'answer')} right"
