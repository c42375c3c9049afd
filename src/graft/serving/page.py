"""The page at `/`: one self-contained file, with the facts of the service filled in."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("page.html")
# The placeholder for the facts in the file.
PLACE = "{}"


class Page:
    """The page, and the content security policy that keeps it from running or loading anything not in it."""

    def __init__(self) -> None:
        self._text = FILE.read_text(encoding="utf-8")
        styles, scripts = (re.findall(f"<{tag}>(.*?)</{tag}>", self._text, re.DOTALL) for tag in ("style", "script"))
        self._policy = "; ".join(
            (
                "default-src 'none'",
                f"style-src {_digests(styles)}",
                f"script-src {_digests(scripts)}",
                "img-src 'self' blob: data:",
                "connect-src 'self'",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            )
        )

    def filled(self, facts: dict[str, Any]) -> tuple[str, str]:
        """Return the page with `facts` filled in, and its policy."""
        # Inside an HTML element, no text may look like the end of the element.
        text = json.dumps(facts).replace("<", "\\u003c")
        opening = '<script type="application/json" id="facts">'
        return self._text.replace(f"{opening}{PLACE}", f"{opening}{text}", 1), self._policy


def _digests(texts: list[str]) -> str:
    return " ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts)
