"""Versions that must match in all processes that train together: graft itself, and the libraries that compute."""

import platform
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from graft import __version__
from graft.errors import InputError


@cache
def versions() -> dict[str, str]:
    """Return the versions of this process; graft's includes a digest of its source, which may change on its own."""
    import numpy
    import torch
    from xxhash import xxh3_64

    digest = xxh3_64()
    folder = Path(__file__).parents[1]
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return {
        "graft": f"{__version__} (source {digest.hexdigest()[:8]})",
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }


def refuse_other_versions(by_rank: Sequence[Mapping[str, str]]) -> None:
    """Raise InputError if a process has other versions than the first; the error names one."""
    for rank, others in enumerate(by_rank):
        for name, version in by_rank[0].items():
            if others.get(name) != version:
                raise InputError(
                    f"expected {name} {version} in every process, as in the first, got {name} {others.get(name)} in "
                    f"process {rank}: install the same on every machine"
                )
