"""A quiz of the textbook's worked examples: drawn from a seed, graded, and printed as a class handout."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from graft.errors import InputError, did_you_mean
from graft.given import whole_number
from graft.workflows.drawn import TOPICS
from graft.workflows.question import LETTERS, Question
from graft.workflows.worked.questions import TEXTBOOK, worked_questions

ALL_TOPICS = (*TOPICS, TEXTBOOK)
MOST_QUESTIONS = 200
# Attempts at drawing a new question; some topics, like stacked layers and levels, have few.
TRIES = 50


@dataclass(frozen=True)
class Answered:
    """A question, the answer entered (None if there was none), and whether it is right."""

    question: Question
    entered: str | None = None
    right: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that `graft quiz --json` prints."""
        asked = self.question
        return {
            "id": asked.id,
            "topic": asked.topic,
            "question": asked.text,
            "choices": list(asked.choices),
            "unit": asked.unit,
            "answer": list(asked.answer),
            "formula": asked.formula,
            "textbook": asked.textbook,
            "entered": self.entered,
            "right": self.right,
        }


def draw_quiz(questions: int = 10, topics: Sequence[str] = (), seed: int = 0) -> tuple[Question, ...]:
    """Draw questions from each of these topics in turn, or from all; the same seed draws the same ones.

    Part of a name, like `shapes`, is enough to identify a topic. No question is repeated, so there are fewer when
    topics run out. Raises InputError for an unknown topic or a number of questions out of range.
    """
    count = whole_number(questions, "--questions", 1, MOST_QUESTIONS, "10 is usual")
    chosen = [_topic(each) for each in topics] or list(ALL_TOPICS)
    chosen = list(dict.fromkeys(chosen))
    random, drawn = Random(seed), dict[str, Question]()
    worked = list(worked_questions()) if TEXTBOOK in chosen else []
    random.shuffle(worked)
    exhausted = set[str]()
    while len(drawn) < count and len(exhausted) < len(chosen):
        for topic in chosen:
            question = worked.pop() if topic == TEXTBOOK and worked else _new(topic, random, drawn)
            if question is None:
                exhausted.add(topic)
            elif len(drawn) < count:
                drawn[question.id] = question
    return tuple(drawn.values())


def _new(topic: str, random: Random, drawn: dict[str, Question]) -> Question | None:
    """Draw a new question from a topic; None if none is found."""
    for _ in range(TRIES if topic in TOPICS else 0):
        question = random.choice(TOPICS[topic])(random)
        if question.id not in drawn:
            return question
    return None


def _topic(named: str) -> str:
    wanted = named.strip().lower().replace("-", " ")
    found = [topic for topic in ALL_TOPICS if wanted and wanted in topic]
    if len(found) != 1:
        known = ", ".join(repr(topic) for topic in ALL_TOPICS)
        raise InputError(
            f"expected a topic of the quiz ({known}), got {named!r}{did_you_mean(wanted, ALL_TOPICS)}: choose one"
        )
    return found[0]


def sheet(questions: Sequence[Question], seed: int) -> str:
    """Return the questions, then on a separate page the answers with their formulas, as Markdown."""
    lines = ["# Convolutional networks and transfer learning: a quiz", "", f"Seed {seed}. Name:", ""]
    for number, each in enumerate(questions, start=1):
        unit = f" ({each.unit})" if each.unit not in ("", "shape") else ""
        lines.append(f"{number}. {_sentence(each.text)}{unit}")
        lines += [f"    - {letter}: {choice}" for letter, choice in zip(LETTERS, each.choices, strict=False)]
        lines += ["", "    Answer:", ""]
    lines += ['<div style="break-before: page"></div>', "", "# Answers", ""]
    for number, each in enumerate(questions, start=1):
        lines += [f"{number}. **{each.shown_answer()}**. {_sentence(each.formula)}.", ""]
        lines += [f"    {_sentence(each.textbook)}", ""] if each.textbook else []
    return "\n".join(lines)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
