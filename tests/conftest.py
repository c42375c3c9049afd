"""Fixtures shared by all rooms."""

import gc
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from graft.cli.process import keep_freed_memory

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data, weights and reference figures beside the repository; tests that need the folder skip without it."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder `shared` (real data, weights and reference figures) beside the repository")
    return SHARED


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep every test and fixture away from the user's cache."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("GRAFT_CACHE", str(tmp_path_factory.getbasetemp() / "graft-cache"))
        yield


@pytest.fixture
def limited_files() -> Callable[[int | None], AbstractContextManager[None]]:
    """Limit the size of files to `most` bytes during a block, as if the disk were full; None is no limit."""

    @contextmanager
    def limited(most: int | None) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, before if most is None else (most, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Use one thread: for small networks it is as fast as two, and far faster when the cores have other work."""
    # Not above: the process that only hands out tests would import it first, while the others wait.
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def memory_kept() -> None:
    """Reuse freed pages without clearing them, as the command does."""
    keep_freed_memory()


def pytest_configure() -> None:
    """Leave garbage alone while everything is imported and collected: that is a few million objects, all of which stay.

    It takes a fifth of the time that collecting the tests would take.
    """
    gc.disable()


def pytest_collection_finish() -> None:
    """Freeze what is imported and collected by now: it lives to the end, so the garbage collector need not look at it.

    Later objects are looked at rarely: networks are many objects, hardly any of them in cycles.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(10_000, 20, 20)


# The files that take longest: they start first, so that no worker is left alone with one at the end.
LONGEST = (
    *("models/test_network.py", "workflows", "models/test_outputs.py", "cli", "images/test_hostile.py", "serving"),
    *("weights", "training", "audit", "features"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files that take longest first; otherwise the order stays."""

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        return next((number for number, start in enumerate(LONGEST) if path.startswith(start)), len(LONGEST))

    items.sort(key=place)
