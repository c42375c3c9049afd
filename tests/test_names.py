"""Names that are not text are written by one rule, and found again."""

import os

import pytest
from hypothesis import given, strategies

from graft.errors import GraftError
from graft.names import plain, readable, restored


@pytest.mark.parametrize(
    ("name", "written"),
    [
        (b"caf\xe9", r"caf\xe9"),
        ("café".encode(), "café"),
        (b"\x1b[31mred\x1b[0m\n.jpg", r"\x1b[31mred\x1b[0m\x0a.jpg"),
        ("a\u202egpj.exe".encode(), r"a\xe2\x80\xaegpj.exe"),
        ("one\u2028two\x85".encode(), r"one\xe2\x80\xa8two\xc2\x85"),
        # Blanks of all kinds, joiners and letters newer than this Python are text.
        ("9.41\u202fPM 👩\u200d🌾\u00a0\U0003fffd.png".encode(), "9.41\u202fPM 👩\u200d🌾\u00a0\U0003fffd.png"),
        (rb"C:\photos\x.jpg", r"C:\photos\x.jpg"),
    ],
)
def test_what_is_no_text_is_written_byte_by_byte(name: bytes, written: str) -> None:
    assert plain(os.fsdecode(name)) == written
    assert plain(written) == written
    assert os.fsencode(restored(written)) == name


@given(strategies.binary().filter(lambda name: b"\\x" not in name))
def test_every_name_without_that_escape_of_its_own_is_found_again(name: bytes) -> None:
    written = plain(os.fsdecode(name))
    assert os.fsencode(restored(written)) == name
    written.encode()
    assert len(written.splitlines()) <= 1


def test_a_sentence_has_names_in_quotes_written_alike() -> None:
    name = os.fsdecode(b"caf\xe9\x1b")
    assert readable(f"no {name!r} but {name}") == r"no 'caf\xe9\x1b' but caf\xe9\x1b"


def test_what_is_no_byte_of_a_name_is_written_all_the_same() -> None:
    # Half of a surrogate pair, which JSON allows.
    assert plain("\ud83d") == r"\xed\xa0\xbd"


@pytest.mark.parametrize("quoted", [repr, str], ids=["repr", "str"])
def test_a_sentence_shows_the_beginning_of_a_file_that_it_quotes_and_all_of_its_own_words(quoted) -> None:
    content = os.fsdecode(b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)) * 200)
    for said in (readable, lambda sentence: str(GraftError(sentence))):
        short = said(f"there is no {quoted('/home/' + content)}, nor {quoted(content)}: correct it")
        assert len(short) < 300 and short.startswith("there is no ") and short.endswith(": correct it")
        assert "/home/" in short and "JFIF" in short
        assert len(said(f"no '{'abc+/' * 10_000}' here")) < 300
        # Many names of files are longer together than any one of them.
        names = ", ".join(f"photographs of bees/{number}.jpg" for number in range(100))
        assert said(names) == names
