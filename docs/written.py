"""Pages that are written from recorded runs."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path


def write_page(page: Path, made: Callable[[], str], program: str) -> None:
    """Write the text of `made` as `page`; with --check, change nothing, and fail if the page is stale."""
    parser = argparse.ArgumentParser(description=f"Write {page.name} from the recorded runs.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the page is stale")
    if not parser.parse_args().check:
        page.write_text(made(), encoding="utf-8")
    elif page.read_text(encoding="utf-8") != made():
        sys.exit(f"expected {page.name} as its recorded runs give it, got other text: run python docs/{program}")
