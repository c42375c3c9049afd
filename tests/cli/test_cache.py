"""graft cache as a user meets it."""

import json
from pathlib import Path

import pytest
from calling import graft

from graft.errors import InputError
from graft.files import number_of_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, size in (("activations/a", 3000), ("compiled/b", 500), ("weights/w.pth", 200), ("mine/kept", 9)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"x" * size)
    return tmp_path


def test_what_is_kept_is_listed_and_cleared_and_nothing_else(folder: Path) -> None:
    variables = {"GRAFT_CACHE": str(folder), "GRAFT_CACHE_BYTES": "10MB"}
    for arguments in (["cache", "--json"], ["cache", "list", "--json"]):
        found = json.loads(graft(*arguments, **variables).stdout)
        assert (found["bytes"], found["budget"], found["folder"]) == (3500, 10_000_000, str(folder))
        assert found["kinds"]["activations"]["entries"] == 1 and found["kinds"]["weights"]["bytes"] == 200
    assert "activations" in graft("cache", **variables).stdout
    cleared = json.loads(graft("cache", "clear", "--json", **variables).stdout)
    assert (cleared["removed"], cleared["bytes"]) == (2, 3500)
    left = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert left == ["kept", "w.pth"]
    assert "1 entry removed" in graft("cache", "clear", "--weights", **variables).stdout
    assert (folder / "mine" / "kept").exists()


def test_an_empty_cache_is_no_failure(tmp_path: Path) -> None:
    for arguments in (["cache"], ["cache", "clear"]):
        assert graft(*arguments, GRAFT_CACHE=str(tmp_path / "none")).returncode == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("123", 123),
        ("10MB", 10**7),
        ("10 MiB", 10 * 2**20),
        ("2G", 2 * 10**9),
        ("500k", 500_000),
        ("1.5gb", 15 * 10**8),
    ],
)
def test_a_size_is_written_as_people_write_it(text: str, number: int) -> None:
    assert number_of_bytes(text, "for --max-bytes") == number


@pytest.mark.parametrize("text", ["ten", "-5", "10XB", "MB", "1e9", "1,000"])
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InputError, match="GRAFT_CACHE_BYTES, got"):
        number_of_bytes(text, "in GRAFT_CACHE_BYTES")
    done = graft("cache", GRAFT_CACHE_BYTES=text)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "or unset it" in done.stderr
    served = graft("serve", "no run", "--max-bytes", text)
    expected = f"10GiB for --max-bytes, got {text!r}: write it like these\n"
    assert served.returncode == 2 and served.stderr.endswith(expected)
