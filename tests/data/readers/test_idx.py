"""IDX, the format of MNIST."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from graft.data.dataset import counts
from graft.data.loading import load_image
from graft.data.opening import open_dataset
from graft.data.readers.idx import read_idx
from graft.errors import DataError
from graft.images.preprocessing import Preprocessing


def save(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    data = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def save_pair(folder: Path, split: str, labels: list[int], ending: str = "", shape: tuple[int, ...] = (4, 5)) -> None:
    pixels = np.arange(len(labels) * int(np.prod(shape))).reshape(len(labels), *shape)
    save(folder / f"{split}-images-idx{pixels.ndim}-ubyte{ending}", pixels)
    save(folder / f"{split}-labels-idx1-ubyte{ending}", np.array(labels))


def test_mnist(shared: Path) -> None:
    dataset = open_dataset(shared / "datasets" / "mnist")
    assert dataset.classes == tuple("0123456789") and dataset.notes == ()
    train, test = dataset.splits["train"], dataset.splits["test"]
    # As published with the data: ones are the most frequent digit, fives the rarest.
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.labels[:6].tolist() == [5, 0, 4, 1, 9, 2] and test.labels[:4].tolist() == [7, 2, 1, 0]
    assert counts(train, dataset.classes)["1"] == 6742 and counts(test, dataset.classes)["5"] == 892
    pixels = train.read(0)
    assert isinstance(pixels, np.ndarray) and pixels.shape == (28, 28) and pixels.dtype == np.uint8


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_plain_and_gzipped(tmp_path: Path, ending: str) -> None:
    save_pair(tmp_path, "train", [7, 3, 7], ending)
    save_pair(tmp_path, "t10k", [3], ending)
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("3", "7")
    assert [dataset.item("train", index).label for index in range(3)] == ["7", "3", "7"]
    assert dataset.item("test", 0).label == "3"
    assert np.array_equal(dataset.splits["train"].read(1), np.arange(20, 40).reshape(4, 5))


def test_a_gzipped_file_without_the_ending(tmp_path: Path) -> None:
    save_pair(tmp_path, "train", [1, 2])
    for path in tmp_path.iterdir():
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert len(open_dataset(tmp_path)) == 2


def test_one_file_brings_its_partner_only(tmp_path: Path) -> None:
    save_pair(tmp_path, "train", [1, 2])
    save_pair(tmp_path, "t10k", [1])
    assert list(open_dataset(tmp_path / "t10k-labels-idx1-ubyte").splits) == ["test"]


def test_colour_images_and_names_without_a_split(tmp_path: Path) -> None:
    save(tmp_path / "images-idx4-ubyte", np.zeros((2, 4, 4, 3)))
    save(tmp_path / "labels-idx1-ubyte", np.array([1, 0]))
    images = open_dataset(tmp_path).splits["all"]
    assert load_image(images, 0, Preprocessing(8, (0.5,) * 3, (0.5,) * 3)).shape == (3, 8, 8)


@pytest.mark.parametrize("shape", [(4, 4, 2), (0, 4), (4, 0)])
def test_images_that_are_none_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    save_pair(tmp_path, "train", [0, 1], shape=shape)
    with pytest.raises(DataError, match="expected images of shape"):
        open_dataset(tmp_path)


def test_no_images_at_all(tmp_path: Path) -> None:
    save_pair(tmp_path, "train", [])
    with pytest.raises(DataError, match="got none"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("which", ["images-idx3", "labels-idx1"])
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("keep", [0, 3, 6, -1])
def test_a_file_cut_off_is_refused_by_name(tmp_path: Path, which: str, ending: str, keep: int) -> None:
    save_pair(tmp_path, "train", [1, 2, 3], ending)
    path = tmp_path / f"train-{which}-ubyte{ending}"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=path.name):
        open_dataset(tmp_path)


def test_more_data_than_the_header_says_is_refused(tmp_path: Path) -> None:
    save_pair(tmp_path, "train", [1, 2, 3])
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match=path.name):
        open_dataset(tmp_path)


@pytest.mark.parametrize("header", [b"\1\0\x08\x03", b"\0\0\x0d\x03", b"\0\0\x08\x01", b"\x89PNG"])
def test_a_wrong_beginning_is_refused(tmp_path: Path, header: bytes) -> None:
    save_pair(tmp_path, "train", [1, 2])
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(header + path.read_bytes()[4:])
    with pytest.raises(DataError, match="which begins with"):
        open_dataset(tmp_path)


def test_counts_that_differ_are_refused(tmp_path: Path) -> None:
    save_pair(tmp_path, "train", [1, 2, 3])
    save(tmp_path / "train-labels-idx1-ubyte", np.array([1, 2]))
    with pytest.raises(DataError, match="got 2 in train-labels-idx1-ubyte and 3 in train-images-idx3-ubyte"):
        open_dataset(tmp_path)


def test_a_file_without_its_partner_is_refused(tmp_path: Path) -> None:
    save_pair(tmp_path, "train", [1, 2])
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="train-images-idx3-ubyte alone: add its labels file"):
        open_dataset(tmp_path)


def test_two_pairs_of_one_split_are_refused(tmp_path: Path) -> None:
    save_pair(tmp_path, "t10k", [1, 2])
    save_pair(tmp_path, "test", [3])
    with pytest.raises(DataError, match="one pair of files for the split 'test'"):
        read_idx(tmp_path)


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    save_pair(tmp_path, "train", [1, 2])
    (tmp_path / "._train-images-idx3-ubyte").write_bytes(b"\0\5\x16\7")
    assert len(open_dataset(tmp_path)) == 2


@pytest.mark.parametrize(
    ("prefix", "split"),
    [("emnist-letters-train", "train"), ("validation", "val"), ("T10K", "test"), ("Test", "test"), ("fold1", "fold1")],
)
def test_splits_by_the_names_of_files(tmp_path: Path, prefix: str, split: str) -> None:
    save_pair(tmp_path, prefix, [1, 2])
    assert list(open_dataset(tmp_path).splits) == [split]
