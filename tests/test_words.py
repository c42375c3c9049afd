"""Messages count as a person would."""

import pytest

from graft.words import counted


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (1, ("image",), "1 image"),
        (2, ("image",), "2 images"),
        (0, ("image",), "0 images"),
        (1, ("class", "classes"), "1 class"),
        (1024, ("class", "classes"), "1,024 classes"),
        (1, ("image is", "images are"), "1 image is"),
        (3, ("image is", "images are"), "3 images are"),
    ],
)
def test_a_noun_agrees_with_its_number(number, words, expected):
    assert counted(number, *words) == expected
