"""Claims that divide work among many processes, as files in a folder that all of them see.

They rely only on what every network file system guarantees: exactly one process can create a file (O_EXCL), and a
rename is atomic. A claim is a file that its process touches while it lives. The claim of a dead process is not removed,
which two processes could do at once, but followed by one of the next generation, which only one can create. Clocks are
never compared: age is judged by the time that the file system itself gives to a file touched now.
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

# How often a claim is touched, and the age at which its process counts as gone. A network file system may show the time
# of a file a minute late.
BEAT_SECONDS, GONE_AFTER_SECONDS = 5.0, 120.0


class Claims:
    """The claims of this process in a folder, kept alive by a thread during a `with` block and released at its end."""

    def __init__(self, folder: Path, facts: Mapping[str, Any] | None = None) -> None:
        """Publish `facts`, which must be serialisable to JSON, to the other processes."""
        self._folder, self._facts = folder, dict(facts or {})
        # Touched only by this process, to learn the time of the file system.
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
        """Claim the part `name`; return whether it is now this process's to do.

        It is not if the file `done` exists or if a live process has claimed the part. Raises OSError if no claim can be
        written.
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
        # Another process may have finished and released the part since the first check.
        if done.exists():
            self.release(name)
            return False
        return True

    def release(self, name: str) -> None:
        """Remove a claim and its earlier generations, oldest first, so that the latest exists to the end."""
        own = self._held.pop(name, None)
        if own is None:
            return
        number = int(own.suffix.removeprefix(".claim"))
        for generation in range(number + 1):
            _remove(own.with_suffix(f".claim{generation}"))

    def others_alive(self, facts: Mapping[str, Any]) -> bool:
        """Return whether another live process in this folder has published these facts."""
        for each in self._folder.glob("worker-*"):
            with suppress(OSError, ValueError):
                told = json.loads(each.read_bytes())
                if each != self._clock and told.items() >= facts.items() and not self._is_gone(each):
                    return True
        return False

    def _last(self, name: str) -> tuple[int, Path | None]:
        """Return the latest generation of a claim, -1 for none, and its file."""
        found = {int(path.suffix.removeprefix(".claim")): path for path in self._folder.glob(f"{name}.claim*")}
        generation = max(found, default=-1)
        return generation, found.get(generation)

    def _is_gone(self, claim: Path) -> bool:
        try:
            # Opening a file makes a network file system refresh its time.
            with claim.open("rb") as file:
                text, touched = file.read(), os.fstat(file.fileno()).st_mtime
            os.utime(self._clock)
            now = self._clock.stat().st_mtime
        except FileNotFoundError:
            # Just released: look again later.
            return False
        with suppress(ValueError, KeyError, TypeError):
            owner = json.loads(text)
            if owner["place"] == _place() and _began(int(owner["pid"])) != owner["began"]:
                return True
        return now - touched > GONE_AFTER_SECONDS

    def _write_new(self, path: Path) -> None:
        """Write this process's facts to a new file. Raises FileExistsError if it exists."""
        # All at once: a process that is killed in between leaves a claim that does not say whose it is, and that others
        # have to wait for until it is old.
        told = json.dumps({**me(), **self._facts}).encode()
        with path.open("xb", buffering=0) as file:
            file.write(told)

    def _keep_alive(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            for path in (self._clock, *self._held.copy().values()):
                # A disk may be unavailable for a while, and a superseded claim may have been removed.
                with suppress(OSError):
                    os.utime(path)


def me() -> dict[str, Any]:
    """Identify this process: its host name, the place in which its pid is valid, its pid and its start time."""
    return {"host": platform.node(), "place": _place(), "pid": os.getpid(), "began": _began(os.getpid())}


@cache
def _place() -> str:
    """Identify the running system and the pid namespace in it, of which each container has its own."""
    boot, space = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    return f"{platform.node()} {boot} {space}"


def _began(pid: int) -> str | None:
    """Return the start time of a process of this place, in ticks; None if it is gone, empty without `/proc`.

    The start time tells apart processes that reuse a pid.
    """
    if not Path("/proc/self/stat").exists():
        return ""
    try:
        # After the name in brackets, which may hold anything: first the state; the start time is the twentieth field.
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else words[19]


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
