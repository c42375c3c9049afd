"""The class map as a file."""

from pathlib import Path

import pytest

from graft.errors import InputError
from graft.transfer.class_names.class_map import LARGEST_CLASS_MAP_BYTES, read_class_map


def test_a_class_map_is_read_from_json(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text('{"ants": "ant", "Hündin": ["beagle", 207], "x": 3}', encoding="utf-8")
    assert read_class_map(path) == {"ants": ("ant",), "Hündin": ("beagle", 207), "x": (3,)}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"3", b"null", b"\xff\xfe\x00\x80", b"[" * 200_000, b'{"a":' * 200_000, b'{"a": []}',
        b'{"a": {}}', b'{"a": null}', b'{"a": true}', b'{"a": [1.0]}', b'{"a": [["b"]]}',
        b'{"a": ' + b"1" * 5000 + b"}", b'{"a": "b"}' + b" " * LARGEST_CLASS_MAP_BYTES,
    ],
    ids=lambda content: content[:16].decode(errors="replace"),
)  # fmt: skip
def test_a_file_that_is_no_class_map_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"expected a class map, JSON like .*map\.json: correct the file"):
        read_class_map(path)


def test_a_class_map_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(InputError, match=f"expected a class map in {path}"):
            read_class_map(path)
