"""A numeric or multiple-choice question, and the interpretation of a student's answer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graft.errors import InputError

UNITS = {"": 1, "k": 10**3, "thousand": 10**3, "m": 10**6, "million": 10**6, "g": 10**9, "b": 10**9, "billion": 10**9}
# Separators between the groups of three digits of one number.
_GROUPED = re.compile(r"(?<=\d)[\s,_'’](?=\d{3}(?!\d))")
_NUMBER = re.compile(r"([-+−]?\d+(?:\.(\d+))?(?:e([-+]?\d+))?)\s*(thousand|million|billion|[kmgb])?", re.IGNORECASE)
LETTERS = "abcdefgh"


@dataclass(frozen=True)
class Question:
    """A question, whose `answer` holds what to enter, in order: numbers, or the letters of `choices`.

    `formula` is the rule with the question's numbers inserted, shown after a wrong answer. `textbook` says what the
    textbook prints, if anything, and whether it is right.
    """

    id: str
    topic: str
    text: str
    answer: tuple[int | float | str, ...]
    formula: str
    unit: str = ""
    choices: tuple[str, ...] = ()
    textbook: str = ""

    def shown_answer(self) -> str:
        """Return the answer for people: `6 × 28 × 28`, `138,357,544 parameters`, `b (head)`."""
        if self.choices:
            said = [f"{each} ({self.choices[LETTERS.index(str(each))]})" for each in self.answer]
            return ", ".join(said)
        numbers = [_shown(each) for each in self.answer]
        if self.unit == "shape":
            return " × ".join(numbers)
        return f"{', '.join(numbers)}{f' {self.unit}' if self.unit else ''}"

    def asked_for(self) -> str:
        """Describe in words what to enter."""
        if self.choices:
            letters = ", ".join(LETTERS[: len(self.choices)])
            return f"one of {letters}" if len(self.answer) == 1 else f"{len(self.answer)} letters of {letters}"
        if self.unit == "shape":
            return f"{len(self.answer)} sizes such as {' '.join('8' * len(self.answer))}"
        return "a number" if len(self.answer) == 1 else f"{len(self.answer)} numbers with blanks between them"

    def is_right(self, entered: str) -> bool:
        """Return whether `entered` is the answer. Raises InputError if it does not have the form of one.

        Numbers with a magnitude, like 61 M, and numbers with decimals need to be right only to the digits given.
        """
        readings = list(self._readings(entered))
        if not readings:
            raise InputError(f"expected {self.asked_for()}, got {entered.strip()!r}: enter it again")
        if self.choices:
            return self.answer in readings
        return any(all(map(_agrees, reading, self.answer)) for reading in readings)

    def _readings(self, entered: str) -> Iterator[tuple[Any, ...]]:
        """Yield the possible readings of the text: a comma separates numbers, or groups of digits within one."""
        text = entered.strip().strip("()[]").strip().lower()
        if self.choices:
            letters = re.sub(r"[\s,;()]", "", text)
            if len(letters) == len(self.answer) and set(letters) <= set(LETTERS[: len(self.choices)]):
                yield tuple(letters)
            elif len(self.answer) == 1 and text in [each.lower() for each in self.choices]:
                yield (LETTERS[[each.lower() for each in self.choices].index(text)],)
            return
        text = re.sub(r"(?<=\d)\s*[x×*]\s*(?=\d)", " ", text).replace("%", " ").replace("px", " ")
        if len(self.answer) == 1:
            alone = re.sub(r"(?<=\d),(?=\d)", ".", _GROUPED.sub("", text))
            whole = _NUMBER.fullmatch(alone.strip())
            if whole:
                yield (whole,)
            return
        for separators in (r"\s+|[;,]\s+|;", r"[\s,;]+"):
            parts = [_GROUPED.sub("", part) for part in re.split(separators, text.strip(" ,;")) if part]
            found = [_NUMBER.fullmatch(part) for part in parts]
            if len(found) == len(self.answer) and all(found):
                yield tuple(found)


def _agrees(entered: re.Match[str], right: Any) -> bool:
    written, decimals, exponent, unit = entered.groups()
    factor = UNITS[(unit or "").lower()]
    number = float(written.replace("−", "-")) * factor
    last = factor * 10.0 ** (int(exponent or 0) - len(decimals or ""))
    if unit:
        # The textbook rounds in some places and truncates in others.
        return abs(number - right) < last
    if isinstance(right, int):
        return number == right
    return abs(number - right) <= (last / 2 if abs(right) >= 1 else 1e-9) * (1 + 1e-9)


def _shown(number: int | float | str) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:.10g}"
