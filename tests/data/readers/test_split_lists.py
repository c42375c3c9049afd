"""Lists of the images of a split: used where nearly all of their lines are images with labels."""

from pathlib import Path

import pytest

from graft.data.opening import open_dataset


@pytest.mark.parametrize(("strangers", "splits"), [(0, ["train", "test"]), (1, ["train", "test"]), (2, ["all"])])
def test_a_list_is_used_where_nearly_all_of_its_images_have_labels(
    tmp_path: Path, strangers: int, splits: list[str]
) -> None:
    # Beside the folders of classes, the strangers have no label.
    others = [f"{number}.jpg" for number in range(strangers)]
    tested = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(5)]
    for path in (*tested, *others, "cat/x.jpg", "dog/x.jpg"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    (tmp_path / "test.txt").write_text("\n".join([*tested, *others, ""]))
    dataset = open_dataset(tmp_path)
    assert list(dataset.splits) == splits
    notes = [note for note in dataset.notes if "test.txt names" in note]
    assert notes == ["1 image that test.txt names is not there, or without a label (0.jpg)"] * (strangers == 1)
