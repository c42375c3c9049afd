"""Two lines say how the data were understood."""

from pathlib import Path

from graft.data.opening import open_dataset
from graft.data.understood import understood


def plant(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def test_splits_and_classes_with_their_numbers(tmp_path: Path) -> None:
    root = plant(tmp_path / "pets", "train/cat/1", "train/dog/2", "train/dog/3", "test_set/cat/4", "notes.txt")
    assert understood(open_dataset(root)) == (
        "pets: 3 images in train, 1 image in test; 1 file left out",
        "2 classes: cat 2, dog 2",
    )


def test_data_without_splits_and_more_classes_than_fit(tmp_path: Path) -> None:
    root = plant(tmp_path / "many", *(f"{number}/x" for number in range(12)), "0/y")
    first, second = understood(open_dataset(root))
    assert first == "many: 13 images in no split"
    assert second == "12 classes: 0 2, 1 1, 2 1, 3 1, 4 1, 5 1, 6 1, 7 1, 8 1, 9 1, and 2 more"
