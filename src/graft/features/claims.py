"""Which of many processes does which part of a work, told by files in a folder that all of them see.

Only what every file system of a network promises is relied on: a file can be made by one process alone (O_EXCL), and a
rename is seen whole. A claim is a file that its process touches while it lives; the claim of a process that is gone is
not taken away, which two could do at once, but followed by one of the next generation, which only one can make.
Clocks are never compared: what is old is judged by the time that the file system itself gives a file touched now.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

# A claim is touched every so often, and its process taken for gone after so much longer. A file system of a network may
# show the time of a file a minute late.
BEAT_SECONDS, GONE_AFTER_SECONDS = 5.0, 120.0


class Claims:
    """The claims of this process in a folder, kept alive by a thread while the block runs and released at its end."""

    def __init__(self, folder: Path, facts: Mapping[str, Any] | None = None) -> None:
        """`facts`, in JSON, are told to the others."""
        self._folder, self._facts = folder, dict(facts or {})
        # Touched by this process alone, to learn the time of the file system.
        self._clock = folder / f"worker-{uuid.uuid4().hex[:8]}"
        self._held: dict[str, Path] = {}
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._keep_alive, name="claims", daemon=True)

    def __enter__(self) -> Claims:
        self._write_new(self._clock)
        self._heart.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        self._heart.join()
        for name in [*self._held]:
            self.release(name)
        _remove(self._clock)

    def take(self, name: str, done: Path) -> bool:
        """Whether the part `name` is now this process's to do: not `done`, a file, and nobody's who is alive.

        Raises OSError where no claim can be written.
        """
        if done.exists():
            return False
        generation, last = self._last(name)
        if last is not None and not self._is_gone(last):
            return False
        claim = self._folder / f"{name}.claim{generation + 1}"
        try:
            self._write_new(claim)
        except FileExistsError:
            return False
        self._held[name] = claim
        # Whoever did it may have released it between the two looks.
        if done.exists():
            self.release(name)
            return False
        return True

    def release(self, name: str) -> None:
        """Take away a claim with those that it followed, the oldest first, so that the last is there to the end."""
        own = self._held.pop(name, None)
        if own is None:
            return
        number = int(own.suffix.removeprefix(".claim"))
        for generation in range(number + 1):
            _remove(own.with_suffix(f".claim{generation}"))

    def others_alive(self, facts: Mapping[str, Any]) -> bool:
        """Whether another process that tells these facts works in this folder now."""
        for each in self._folder.glob("worker-*"):
            with suppress(OSError, ValueError):
                told = json.loads(each.read_bytes())
                if each != self._clock and told.items() >= facts.items() and not self._is_gone(each):
                    return True
        return False

    def _last(self, name: str) -> tuple[int, Path | None]:
        """The latest generation of a claim, -1 where there is none, and its file."""
        found = {int(path.suffix.removeprefix(".claim")): path for path in self._folder.glob(f"{name}.claim*")}
        generation = max(found, default=-1)
        return generation, found.get(generation)

    def _is_gone(self, claim: Path) -> bool:
        try:
            # Opened, as a file system of a network then asks for its time again.
            with claim.open("rb") as file:
                text, touched = file.read(), os.fstat(file.fileno()).st_mtime
            os.utime(self._clock)
            now = self._clock.stat().st_mtime
        except FileNotFoundError:
            # Released just now: look again later.
            return False
        with suppress(ValueError, KeyError, TypeError):
            owner = json.loads(text)
            if owner["place"] == _place() and _began(int(owner["pid"])) != owner["began"]:
                return True
        return now - touched > GONE_AFTER_SECONDS

    def _write_new(self, path: Path) -> None:
        """Raises FileExistsError where there is a file."""
        with path.open("x", encoding="utf-8") as file:
            json.dump({**me(), **self._facts}, file)

    def _keep_alive(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            for path in (self._clock, *self._held.copy().values()):
                # A disk may be away for a while; a claim that another followed is nobody's any more.
                with suppress(OSError):
                    os.utime(path)


def me() -> dict[str, Any]:
    """Who this process is: a machine as people call it, the place where its number means something, and the number."""
    return {"host": platform.node(), "place": _place(), "pid": os.getpid(), "began": _began(os.getpid())}


@cache
def _place() -> str:
    """A running system, and the space of numbers of processes in it, of which containers have their own."""
    boot, space = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    return f"{platform.node()} {boot} {space}"


def _began(pid: int) -> str | None:
    """When a process of this place began, in ticks; None for one that is gone. The same for all where that is not told.

    Numbers of processes are used again, which the time tells.
    """
    if not Path("/proc/self/stat").exists():
        return ""
    try:
        # After the name in brackets, which may hold anything: the state, and the time as the twentieth.
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else words[19]


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
