"""Images as they arrive in a folder."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graft.errors import InputError
from graft.serving.watching import arrivals


def looks(folder: Path, steps: list[Callable[[], object]]) -> Iterator[list[str]]:
    """The names that each look reports, with one step between two looks."""
    upcoming = iter(steps)
    for ready in arrivals(folder, lambda seconds: None):
        yield [str(file.relative_to(folder)) for file in ready]
        step = next(upcoming, None)
        if step is None:
            return
        step()


def nothing() -> None:
    pass


def test_a_file_is_told_of_once_when_it_is_whole_and_again_when_it_has_changed(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    file = folder / "below" / "a.png"
    steps = [
        lambda: file.write_bytes(b"ha"),
        lambda: file.write_bytes(b"half of it, and the rest"),  # not whole yet
        nothing,
        nothing,
        lambda: file.write_bytes(b"another"),
        nothing,
        nothing,
    ]
    name = str(Path("below", "a.png"))
    assert list(looks(folder, steps)) == [[], [], [], [name], [], [], [name], []]


def test_what_is_there_is_told_of_at_first_but_not_what_is_hidden_or_under_way(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", ".c.png", "d.png.part", "e.jpg.crdownload", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    assert list(looks(tmp_path, [nothing, nothing])) == [[], ["a.jpg", "b.png"], []]


def test_a_file_that_is_gone_before_it_was_told_of_is_none(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"x")
    assert list(looks(tmp_path, [file.unlink, nothing])) == [[], [], []]


def test_what_is_no_folder_is_refused_even_later(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place, words in ((tmp_path / "file", "which is a file"), (tmp_path / "none", "which is not there")):
        with pytest.raises(InputError, match=words):
            next(arrivals(place))
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(InputError, match="not there"):
        list(looks(folder, [lambda: shutil.rmtree(folder)]))
