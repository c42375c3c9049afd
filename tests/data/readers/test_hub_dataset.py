"""Datasets of the Hub as the package `datasets` gives them, here from local files, never from a network."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from graft.data.dataset import Dataset
from graft.data.opening import open_dataset
from graft.data.readers.hub_dataset import arrange_splits
from graft.data.table_options import TableOptions
from graft.errors import DataError, FetchError

datasets = pytest.importorskip("datasets")


def rows(labels: list[Any], feature: Any = None, **more: list[Any]) -> Any:
    """A split whose "images" have the bytes `0`, `1`, … and cannot be decoded."""
    cells = [{"bytes": str(row).encode(), "path": None} for row in range(len(labels))]
    kinds = {"image": datasets.Image(), "label": feature or datasets.Value("string")}
    kinds |= {name: datasets.Value("string") for name in more}
    return datasets.Dataset.from_dict({"image": cells, "label": labels, **more}, features=datasets.Features(kinds))


def undecoded(split: Any) -> list[dict[str, Any]]:
    return list(split.cast_column("image", datasets.Image(decode=False))["image"])


def labelled(dataset: Dataset) -> dict[str, list[tuple[bytes, str | None]]]:
    return {
        split: [(bytes(images.read(row)), dataset.item(split, row).label) for row in range(len(images))]
        for split, images in dataset.splits.items()
    }


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments of `load_dataset`, which is replaced and returns two splits."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    names = datasets.ClassLabel(names=["zebra", "ant"])
    splits = datasets.DatasetDict(validation=rows([1], names), train=rows([0, 1, -1], names))

    def load(*arguments: Any, **named: Any) -> Any:
        calls.append((arguments, named))
        return splits

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def test_bytes_are_read_as_they_were_stored_and_never_decoded(asked: list[Any]) -> None:
    dataset = open_dataset("hf:owner/beasts")
    assert dataset.name == "beasts" and dataset.classes == ("zebra", "ant")
    assert labelled(dataset) == {"train": [(b"0", "zebra"), (b"1", "ant")], "val": [(b"0", "ant")]}
    assert dataset.splits["train"].name(1) == "hf:owner/beasts/train[1]"
    assert dataset.left_out == {"hf:owner/beasts/train[2]": "it has no label"}


def test_revision_and_configuration_are_asked_for_and_no_code_or_token(asked: list[Any]) -> None:
    open_dataset("hf:owner/beasts@v1.0:large")
    open_dataset(Path("hf:owner/beasts"))
    assert asked == [
        (("owner/beasts", "large"), {"revision": "v1.0", "token": False}),
        (("owner/beasts", None), {"revision": None, "token": False}),
    ]


@pytest.mark.parametrize("address", ["hf:", "hf:beasts", "hf:a/b/c", "hf:a/b@", "hf:a/b:", "hf:../b c"])
def test_an_address_that_is_none_is_one_sentence(address: str, asked: list[Any]) -> None:
    with pytest.raises(DataError, match="expected hf:owner/dataset"):
        open_dataset(address)
    assert not asked


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"graft-vision\[datasets\]"):
        open_dataset("hf:owner/beasts")


def test_what_cannot_be_fetched_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **named: Any) -> Any:
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'owner/beasts' doesn't exist\non the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(FetchError, match=r"hf:owner/beasts, got DatasetNotFoundError \(Dataset 'owner/beasts' doesn't"):
        open_dataset("hf:owner/beasts")


def test_words_as_labels_and_columns_of_groups() -> None:
    splits = {"train": rows(["b", "a", "b"], patient=["p", "q", "p"]), "test": rows(["a"], patient=["q"])}
    dataset = arrange_splits("x", splits, group="patient")
    assert labelled(dataset) == {"train": [(b"0", "b"), (b"1", "a"), (b"2", "b")], "test": [(b"0", "a")]}
    train, test = dataset.splits["train"].groups, dataset.splits["test"].groups
    assert train is not None and test is not None and train[0] == train[2] != train[1] == test[0]


def test_rows_that_were_chosen_or_shuffled_keep_their_labels() -> None:
    names = datasets.ClassLabel(names=["a", "b", "c"])
    shuffled = rows([0, 1, 2, 0, 1, 2], names).shuffle(seed=1).select(range(4))
    found = labelled(arrange_splits("x", {"train": shuffled}))["train"]
    assert [int(data) for data, _ in found] == [int(cell["bytes"]) for cell in undecoded(shuffled)]
    assert len(found) == 4 and all(label == "abc"[int(data) % 3] for data, label in found)


def test_columns_by_what_they_hold() -> None:
    splits = {
        "train": rows([0, 1], datasets.ClassLabel(names=["a", "b"])).rename_columns({"image": "img", "label": "fine"})
    }
    assert labelled(arrange_splits("x", splits)) == {"train": [(b"0", "a"), (b"1", "b")]}


def test_labels_of_another_column_are_told_of_and_taken_by_name() -> None:
    fine, coarse = datasets.ClassLabel(names=["a", "b"]), datasets.ClassLabel(names=["x", "y"])
    split = rows([0, 1], fine, coarse=["0", "1"]).cast_column("coarse", coarse)
    dataset = arrange_splits("pets", {"train": split, "test": split})
    assert dataset.classes == ("a", "b")
    said = "pets: label from label, not from coarse: if it should be, name it with --label-column"
    assert [note for note in dataset.notes if "coarse" in note] == [said]
    given = arrange_splits("pets", {"train": split}, options=TableOptions(label_column="coarse"))
    assert given.classes == ("x", "y") and not [note for note in given.notes if "not from" in note]
    with pytest.raises(DataError, match=r"one column of labels in pets, got fine, coarse: say which with `label_col"):
        arrange_splits("pets", {"train": split.rename_column("label", "fine")})


@pytest.mark.parametrize("missing", ["image", "label"])
def test_a_dataset_without_images_or_labels_is_one_sentence(missing: str) -> None:
    with pytest.raises(DataError, match="expected a column"):
        arrange_splits("x", {"train": rows(["a"]).remove_columns(missing)})


@pytest.mark.parametrize("layout", ["parquet", "imagefolder"])
def test_what_datasets_makes_of_real_files(tmp_path: Path, shared: Path, layout: str) -> None:
    cache = str(tmp_path / "cache")
    if layout == "parquet":
        files = {"train": str(shared / "datasets" / "cifar10" / "test.parquet")}
        splits = datasets.load_dataset("parquet", data_files=files, cache_dir=cache)
        dataset = arrange_splits("x", splits.cast_column("image", datasets.Image()))
        reference = open_dataset(files["train"])
        assert np.array_equal(dataset.splits["train"].labels, [int(each) for each in reference_numbers(files["train"])])
        same = [(dataset.splits["train"].read(row), reference.splits["test"].read(row)) for row in (0, 5000, 9999)]
        assert all(first == second for first, second in same)
    else:
        for split, label in (("train", "a"), ("train", "b"), ("test", "a")):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "data" / split / label / "1.png")
        splits = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "data"), cache_dir=cache)
        dataset = arrange_splits("x", splits)
        assert {split: images.labels.tolist() for split, images in dataset.splits.items()} == {
            "train": [0, 1],
            "test": [0],
        }
        assert dataset.splits["train"].read(1) == (tmp_path / "data" / "train" / "b" / "1.png").read_bytes()
    assert len(set(dataset.splits["train"].stamps())) == len(dataset.splits["train"])


def reference_numbers(path: str) -> list[int]:
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["label"])["label"].to_pylist()


def test_a_dataset_on_the_disk(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["ant", "bee"])
    datasets.DatasetDict({"train": rows([0, 1], names), "test": rows([1], names)}).save_to_disk(tmp_path / "pets")
    dataset = open_dataset(tmp_path / "pets")
    assert labelled(dataset) == {"train": [(b"0", "ant"), (b"1", "bee")], "test": [(b"0", "bee")]}
    assert dataset.name == "pets" and dataset.splits["test"].key(0) == "pets/test[0]"
    rows(["x", "y"]).save_to_disk(tmp_path / "one")
    assert labelled(open_dataset(tmp_path / "one")) == {"all": [(b"0", "x"), (b"1", "y")]}
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(DataError, match="a dataset that save_to_disk wrote in"):
        open_dataset(tmp_path / "one")
