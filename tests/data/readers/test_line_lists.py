"""Paths and labels line by line: a line more or less in one list never shifts the labels."""

from pathlib import Path

import pytest

from graft.data.opening import open_dataset
from graft.errors import DataError


def lists(root: Path, paths: list[str], labels: list[str]) -> Path:
    (root / "images.txt").write_text("".join(f"{each}\n" for each in paths))
    (root / "labels.txt").write_text("".join(f"{each}\n" for each in labels))
    return root


@pytest.mark.parametrize("head", [[], ["path"]])
def test_a_column_name_above_the_labels_is_no_label_of_the_first_image(tmp_path: Path, head: list[str]) -> None:
    paths = [f"{row}.png" for row in range(13)]
    for path in paths[:12]:
        (tmp_path / path).write_bytes(path.encode())
    labels = ["cat", "dog"] * 6
    with pytest.raises(DataError, match=r"a line in labels\.txt for each of 13 in images\.txt, got 12"):
        open_dataset(lists(tmp_path, [*head, *paths], ["label", *labels]))
    dataset = open_dataset(lists(tmp_path, [*head, *paths[:12]], ["label", *labels]))
    images = dataset.splits["all"]
    assert [dataset.item("all", row).label for row in range(len(images))] == labels
    # A class may have the name of a column.
    dataset = open_dataset(lists(tmp_path, [*head, *paths[:12]], ["character", "dog"] * 6))
    assert dataset.classes == ("character", "dog") and len(dataset) == 12
