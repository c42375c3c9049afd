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


def class_folders(root: Path, count: int = 10) -> list[str]:
    names = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(count)]
    for path in names:
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(path.encode())
    return names


@pytest.mark.parametrize("name", ["split.csv", "train_test_split.csv", "partition.csv"])
def test_a_table_of_splits_is_used_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    images = class_folders(tmp_path)
    rows = [f"{path},{'test' if number % 5 == 0 else 'train'}" for number, path in enumerate(images)]
    (tmp_path / name).write_text("\n".join(["filename,split", *rows, ""]))
    dataset = open_dataset(tmp_path)
    assert {split: len(images) for split, images in dataset.splits.items()} == {"train": 16, "test": 4}


def test_a_missing_image_does_not_cost_the_list_that_names_it(tmp_path: Path) -> None:
    images = class_folders(tmp_path, 20)
    (tmp_path / "train.txt").write_text("\n".join([*images[::2], ""]))
    (tmp_path / "test.txt").write_text("\n".join([*images[1::2], "dog/gone.jpg", ""]))
    dataset = open_dataset(tmp_path)
    assert {split: len(images) for split, images in dataset.splits.items()} == {"train": 20, "test": 20}
    assert any("dog/gone.jpg" in note for note in dataset.notes)


def test_what_a_run_wrote_beside_its_images_says_nothing_until_it_is_asked_for(tmp_path: Path) -> None:
    images = class_folders(tmp_path)
    rows = [f"{path},{path[:3]},{'test' if number % 5 == 0 else 'train'}" for number, path in enumerate(images)]
    (tmp_path / "split.csv").write_text("\n".join(["path,label,split", *rows, ""]))
    dataset = open_dataset(tmp_path)
    assert list(dataset.splits) == ["all"]
    assert any(
        note.startswith("split.csv was not used, since it looks like the split file of a run") for note in dataset.notes
    )
