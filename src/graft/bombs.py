"""Decompression bombs: files that expand far beyond their size are refused. A ground-floor module for all formats."""

from pathlib import Path

from graft.errors import DataError

# No image is larger than this.
MAX_BYTES = 256 * 2**20
# A file is a bomb if its content exceeds both this size and a hundred times the file's own.
BOMB_BYTES, BOMB_RATIO = 2**30, 100


def bomb_limit(path: Path) -> int:
    """Return the content size in bytes beyond which a compressed file counts as a bomb."""
    return max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)


def bomb(path: Path) -> DataError:
    return DataError(
        f"expected content of at most {BOMB_RATIO} times the size of {path.name}, got more than {bomb_limit(path):,} "
        "bytes: it is damaged or a bomb, do not trust it"
    )
