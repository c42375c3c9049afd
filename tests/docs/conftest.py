"""The scripts of `docs/` are no package: tests find them beside the repository's sources."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
sys.path.insert(0, str(DOCS))
