"""The page of a walk through a network: one file that opens offline and requests nothing else.

Its content is a JSON-ready value (`graft.workflows.walk`), which is compressed into `walk_page.html`. The page's script
writes all text as text, never as HTML.
"""

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from graft.html import escaped

FILE = Path(__file__).with_name("walk_page.html")


def draw_walk(walk: Mapping[str, Any], title: str) -> bytes:
    """Return the page as HTML in UTF-8."""
    page = FILE.read_text(encoding="utf-8")
    text = json.dumps(walk, separators=(",", ":"), allow_nan=False)
    # Without a time stamp in the compressed data, so that the same walk gives the same bytes.
    data = b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
    digests = [_digest(each) for each in re.findall("<script>(.*?)</script>", page, re.DOTALL)]
    puts = {"TITLE": escaped(title), "SCRIPTS": " ".join(digests), "DATA": data}
    return re.sub(r"\{\{(TITLE|SCRIPTS|DATA)\}\}", lambda found: puts[found[1]], page).encode()


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
