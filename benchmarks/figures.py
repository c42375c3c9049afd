"""The figures of a benchmark with several parts, printed and stored as they come."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Record:
    """The figures so far, printed and stored as they come; no part starts after `deadline`."""

    out: Path | None
    deadline: float
    facts: dict[str, Any]
    figures: list[dict[str, Any]] = field(default_factory=list)

    def tell(self, what: str, value: float | None, unit: str, *, bound: str = "", note: str = "") -> None:
        shown = "-" if value is None else f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
        print(f"{what:68} {shown:>10} {unit:10} {bound:10} {note}".rstrip(), flush=True)
        self.figures.append({"what": what, "value": value, "unit": unit, "bound": bound, "note": note})
        if self.out is not None:
            self.out.write_text(json.dumps({**self.facts, "figures": self.figures}, indent=2) + "\n")

    def part(self, title: str, work: Callable[[], None]) -> None:
        """Run a part that may fail: the reason is recorded as a sentence, and the other parts go on."""
        print(f"\n{title}", flush=True)
        try:
            if time.perf_counter() > self.deadline:
                raise Left("no time is left for it: raise --minutes")
            work()
        except Left as why:
            self.tell(title, None, "", note=f"left out: {why}")
        except Exception as error:
            self.tell(title, None, "", note=f"left out: {type(error).__name__}: {str(error)[:300]}")


class Left(Exception):
    """The reason why a part is left out."""
