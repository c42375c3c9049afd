"""The page on accuracy beside other tools is made from the recorded runs."""

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_is_what_the_recorded_runs_give() -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "accuracy.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
