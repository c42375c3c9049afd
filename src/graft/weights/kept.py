"""Cache bases in memory, so that folds and searches over the same base read and check its weights once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from threading import Lock

from graft.weights.base import Base

# The number of bases kept, the most recently requested ones.
MOST = 2


class KeptBases:
    """Loaded bases, by what decides them.

    Each is handed out as a copy, since its network will be changed. Threads may share it.
    """

    def __init__(self) -> None:
        self._bases: dict[tuple[object, ...], Base] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[KeptBases], tuple[()]]:
        return KeptBases, ()

    def loaded(self, name: str, others: tuple[object, ...], load: Callable[[], Base]) -> Base:
        """Return the base `name`, read by `load` unless already read with the same `others` from the same files.

        A base on a hub may change and is not kept here.
        """
        if name.startswith("hf:"):
            return load()
        key = (name, *_stamps(Path(name).expanduser()), *others)
        with self._lock:
            base = self._bases.pop(key, None)
        if base is None:
            base = load()
        with self._lock:
            self._bases[key] = base
            while len(self._bases) > MOST:
                self._bases.pop(next(iter(self._bases)))
        return replace(base, network=copy.deepcopy(base.network))


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Return names, sizes and times of a file, or of everything below a folder; empty if there is nothing."""
    found = []
    for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
        try:
            facts = each.stat()
        except OSError:
            continue
        found.append((str(each), facts.st_size, facts.st_mtime_ns))
    return found


_KEPT: ContextVar[KeptBases | None] = ContextVar("kept bases", default=None)


def kept_bases() -> KeptBases | None:
    """Return what `keeping_bases` set for the enclosing block."""
    return _KEPT.get()


@contextmanager
def keeping_bases(bases: KeptBases) -> Iterator[None]:
    """Within the block, read no base twice."""
    token = _KEPT.set(bases)
    try:
        yield
    finally:
        _KEPT.reset(token)
