"""The names of folders say which splits they are."""

import pytest

from graft.data.readers.split_names import splits_of


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("training", "validation", "evaluation"), ("train", "val", "test")),
        (("train", "dev", "eval_set"), ("train", "val", "test")),
        (("food_train", "food_val", "food_eval"), ("train", "val", "test")),
        (("trn", "dev", "eval"), ("train", "val", "test")),
        (("trn", "eval", "tst"), ("train", "val", "test")),
        (("train", "eval"), ("train", "val")),
        (("train", "eval", "test"), ("train", "val", "test")),
        (("train", "val", "evaluation", "test"), ("train", "val", "val", "test")),
        (("apprentissage", "validation", "test"), ("train", "val", "test")),
        (("Entraînement", "test"), ("train", "test")),
    ],
)
def test_evaluation_is_test_beside_another_word_for_val(names: tuple[str, ...], splits: tuple[str, ...]) -> None:
    assert splits_of(names) == dict(zip(names, splits, strict=True))
