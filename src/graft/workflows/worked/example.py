"""One worked calculation of the textbook."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

# `agrees` includes figures that the textbook rounds; `ambiguous` means that it prints none, or several that differ.
Verdict = Literal["agrees", "wrong", "ambiguous"]


@dataclass(frozen=True)
class Example:
    """One calculation: `textbook` is the printed figure, None if there is none, and `right` computes the correct one.

    `unit` is what the figure counts, or `shape` for the sizes of a map. `details` computes further figures.
    """

    id: str
    question: str
    textbook: Any
    right: Callable[[], Any]
    verdict: Verdict = "agrees"
    unit: str = ""
    comment: str | Callable[[], str] = ""
    details: Callable[[], dict[str, Any]] = dict

    def explained(self) -> str:
        """Return the comment with its figures filled in."""
        return self.comment if isinstance(self.comment, str) else self.comment()
