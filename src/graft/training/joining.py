"""How this process joins the processes that torchrun started together, and leaves them."""

import json
import os
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from graft.errors import GraftError, InputError
from graft.training.processes import (
    ALONE,
    ENDED,
    FAILED,
    LOOK_SECONDS,
    EndedByFirst,
    LostProcess,
    Processes,
    disconnect,
)
from graft.training.versions import refuse_other_versions, versions

# Seconds that processes may take to start one after another: the machines of a cluster are not ready at once.
START_SECONDS = 600.0
# Seconds that a process that cannot go on waits for the first to end and say why.
TELLING_SECONDS = 30.0
# The store key under which each process reports its versions.
VERSIONS = "versions"


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that torchrun started together; yield a process on its own if it started none.

    Within the block, a process that fails tells the first why. Raises InputError in the first if another has other
    versions of graft or its libraries.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ALONE
        return
    if count == 1:
        yield Processes(job=_job())
        return
    from torch.distributed import PrefixStore, rendezvous

    store, _, _ = next(rendezvous("env://", rank, count, timeout=timedelta(seconds=START_SECONDS)))
    # The agent's store outlives a restart, and so do the messages in it.
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    processes = Processes(rank, count, _job(), PrefixStore(f"graft/{start}", store))
    try:
        yield from _of_many(processes)
    finally:
        disconnect()


def _of_many(processes: Processes) -> Iterator[Processes]:
    store = processes.store
    store.set(f"{VERSIONS}/{processes.rank}", json.dumps(versions()))
    _use_own_gpu(processes)
    if processes.first:
        try:
            _check_versions(processes)
            yield processes
        finally:
            with suppress(RuntimeError):
                store.set(ENDED, "")
        return
    # The process has nothing to lose, and must not wait for a sum to finish when it is told to stop.
    before = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield processes
    except EndedByFirst:
        raise
    except Exception as error:
        if not isinstance(error, LostProcess):
            _tell(processes, error)
        if _ended(processes):
            raise EndedByFirst(str(error)) from error
        raise
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def follows() -> bool:
    """Return whether this process is one of several that torchrun started, and not the first."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("RANK", 0)) > 0


def _ended(processes: Processes) -> bool:
    """Return whether the first process has ended in good order, or does so within `TELLING_SECONDS`."""
    until = time.monotonic() + TELLING_SECONDS
    with suppress(RuntimeError):
        while time.monotonic() < until:
            if processes.store.check([ENDED]):
                return True
            time.sleep(LOOK_SECONDS)
    return False


def _tell(processes: Processes, error: Exception) -> None:
    """Tell the first process why this one failed, which ends them all."""
    store = processes.store
    code = error.exit_code if isinstance(error, GraftError) else GraftError.exit_code
    sentence = str(error) if isinstance(error, GraftError) else f"unexpected {type(error).__name__}: {error}"
    with suppress(RuntimeError):
        store.set(FAILED, json.dumps({"rank": processes.rank, "sentence": sentence, "code": code}))
    # The first may be waiting in a sum that this process no longer takes part in.
    disconnect()


def _check_versions(processes: Processes) -> None:
    keys = [f"{VERSIONS}/{rank}" for rank in range(processes.count)]
    with processes.exchange():
        processes.store.wait(keys, timedelta(seconds=START_SECONDS))
        refuse_other_versions([json.loads(processes.store.get(key)) for key in keys])


def _use_own_gpu(processes: Processes) -> None:
    """Give each process of a machine its own GPU. Raises InputError if there are too few."""
    import torch

    if not torch.cuda.is_available():
        return
    own, there = int(os.environ.get("LOCAL_RANK", processes.rank)), torch.cuda.device_count()
    if own >= there:
        raise InputError(
            f"expected at most one process for each of the {there} GPUs of this machine, got process {own + 1} on it: "
            "lower --processes, or hide the GPUs with CUDA_VISIBLE_DEVICES= to train on the CPU"
        )
    torch.cuda.set_device(own)


def _job() -> str:
    """Return an identifier shared by the processes of one start; torchrun without a rendezvous has no name for it."""
    named = os.environ["TORCHELASTIC_RUN_ID"]
    return named if named != "none" else f"{platform.node()}, process {os.getppid()}, {_started(os.getppid())}"


def _started(process: int) -> str:
    """Return when a process was started, if the system tells: process numbers are reused."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
