"""Files that unpack to far more than they are: refused by how far. A module of the ground floor, for all formats."""

from pathlib import Path

from graft.errors import DataError

# No image has more bytes than this.
MAX_BYTES = 256 * 2**20
# Content of more than this and a hundred times its file is a bomb.
BOMB_BYTES, BOMB_RATIO = 2**30, 100


def bomb_limit(path: Path) -> int:
    """Bytes of content beyond which a compressed file is a bomb."""
    return max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)


def bomb(path: Path) -> DataError:
    return DataError(
        f"expected content of at most {BOMB_RATIO} times the size of {path.name}, got more than {bomb_limit(path):,} "
        "bytes: it is damaged or a bomb, do not trust it"
    )
