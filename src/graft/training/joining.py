"""How this process joins those that torchrun started together, and leaves them."""

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

# How long processes may take to start, one after the other: machines of a cluster are not ready at once.
START_SECONDS = 600.0
# How long one that cannot go on waits for the first to end, and to say why.
TELLING_SECONDS = 30.0
# Where each process says in the store which versions it has.
VERSIONS = "versions"


@contextmanager
def joined() -> Iterator[Processes]:
    """This process among those that torchrun started together; alone where it started none.

    Within the block, one of the others that fails tells the first why. Raises InputError in the first where another
    has other versions of graft or its libraries.
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
    # The agent's store outlives a restart, and with it what was said before.
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
    # It holds nothing that could be lost, and must not wait for a sum to be done when it is told to stop.
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
    """Whether this process is one of several that torchrun started, and not the first."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("RANK", 0)) > 0


def _ended(processes: Processes) -> bool:
    """Whether the first process has ended in good order, or does so before long."""
    until = time.monotonic() + TELLING_SECONDS
    with suppress(RuntimeError):
        while time.monotonic() < until:
            if processes.store.check([ENDED]):
                return True
            time.sleep(LOOK_SECONDS)
    return False


def _tell(processes: Processes, error: Exception) -> None:
    """Let the first say why this one failed, which ends them all."""
    store = processes.store
    code = error.exit_code if isinstance(error, GraftError) else GraftError.exit_code
    sentence = str(error) if isinstance(error, GraftError) else f"unexpected {type(error).__name__}: {error}"
    with suppress(RuntimeError):
        store.set(FAILED, json.dumps({"rank": processes.rank, "sentence": sentence, "code": code}))
    # The first may be in a sum that this process has no part in any more.
    disconnect()


def _check_versions(processes: Processes) -> None:
    keys = [f"{VERSIONS}/{rank}" for rank in range(processes.count)]
    with processes.exchange():
        processes.store.wait(keys, timedelta(seconds=START_SECONDS))
        refuse_other_versions([json.loads(processes.store.get(key)) for key in keys])


def _use_own_gpu(processes: Processes) -> None:
    """Let each process of a machine have a GPU of its own. Raises InputError where there are too few."""
    import torch

    if not torch.cuda.is_available():
        return
    own, there = int(os.environ.get("LOCAL_RANK", processes.rank)), torch.cuda.device_count()
    if own >= there:
        raise InputError(
            f"expected at most a process for each of the {there} GPUs of this machine, got process {own + 1} on it: "
            "lower --processes, or hide the GPUs with CUDA_VISIBLE_DEVICES= to train on processors"
        )
    torch.cuda.set_device(own)


def _job() -> str:
    """What the processes of one start have in common; torchrun without a rendezvous has no name for it."""
    named = os.environ["TORCHELASTIC_RUN_ID"]
    return named if named != "none" else f"{platform.node()}, process {os.getppid()}, {_started(os.getppid())}"


def _started(process: int) -> str:
    """When a process was started, where the system tells: numbers of processes are used again."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
