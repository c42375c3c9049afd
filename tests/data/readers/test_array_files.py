"""Arrays and tables of pixels are read as they are published, alone or several together, and nothing in them is run."""

import io
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from graft.array_files import load_arrays
from graft.data.dataset import Dataset, counts
from graft.data.opening import open_dataset
from graft.data.table_options import TableOptions
from graft.errors import DataError

RAMP = np.add.outer(np.arange(28), np.arange(28)).astype(np.uint8)
GREY = np.stack([RAMP + number for number in range(6)])
COLOURS = np.stack([np.stack([RAMP[:16, :16] * each for each in (1, 3, 5)], axis=2) + number for number in range(6)])
DIGITS = ["0", "1", "2", "0", "1", "2"]


def table(images: np.ndarray, labels: list[str], header: bool = True, name: str = "pixel") -> str:
    rows = images.reshape(len(images), -1)
    first = ["label", *(f"{name}{number}" for number in range(rows.shape[1]))]
    lines = [",".join([label, *map(str, row)]) for label, row in zip(labels, rows.tolist(), strict=True)]
    return "\n".join([",".join(first)] * header + lines) + "\n"


def understood(dataset: Dataset) -> dict[str, dict[str, int]]:
    return {split: counts(images, dataset.classes) for split, images in dataset.splits.items()}


def pixels(dataset: Dataset, split: str = "all") -> np.ndarray:
    return np.stack([np.asarray(dataset.splits[split].read(index)) for index in range(len(dataset.splits[split]))])


@pytest.mark.parametrize("header", [True, False])
def test_a_row_of_pixels_is_an_image(tmp_path: Path, header: bool) -> None:
    (tmp_path / "mnist.csv").write_text(table(GREY, DIGITS, header))
    dataset = open_dataset(tmp_path / "mnist.csv")
    assert understood(dataset) == {"all": {"0": 2, "1": 2, "2": 2}}
    assert np.array_equal(pixels(dataset), GREY)
    assert any("images of 28x28 from its pixels" in note for note in dataset.notes)


@pytest.mark.parametrize("planes", [False, True])
def test_colours_lie_together_or_in_planes_as_neighbours_are_alike(tmp_path: Path, planes: bool) -> None:
    rows = COLOURS.transpose(0, 3, 1, 2) if planes else COLOURS
    (tmp_path / "x.csv").write_text(table(rows, DIGITS, name="p"))
    assert np.array_equal(pixels(open_dataset(tmp_path / "x.csv")), COLOURS)


def test_a_label_that_may_be_the_first_or_the_last_number_is_asked_for(tmp_path: Path) -> None:
    grey = np.tile(GREY, (2, 1, 1))
    grey[:, 0, 0] = np.arange(len(grey)) % 2
    halves = [str(int(number >= len(grey) // 2)) for number in range(len(grey))]
    lines = table(grey, halves, header=False).splitlines()
    last = "\n".join(f"{rest},{label}" for label, _, rest in (line.partition(",") for line in lines))
    (tmp_path / "x.csv").write_text(last)
    with pytest.raises(
        DataError, match=r"one column of x\.csv that could be the label, got the first and the last"
    ) as told:
        open_dataset(tmp_path / "x.csv")
    assert "1" in str(told.value) and "785" in str(told.value)
    dataset = open_dataset(tmp_path / "x.csv", table=TableOptions(label_column="785"))
    assert dataset.classes == ("0", "1") and np.array_equal(pixels(dataset), grey)
    other = open_dataset(tmp_path / "x.csv", table=TableOptions(label_column="1"))
    assert other.classes == ("0", "1") and not np.array_equal(pixels(other), grey)


@pytest.mark.parametrize("label_first", [True, False])
def test_what_counts_further_than_a_pixel_that_is_black_or_white_is_the_label(
    tmp_path: Path, label_first: bool
) -> None:
    grey = np.tile(GREY, (2, 1, 1))
    grey[:, 0, 0] = grey[:, -1, -1] = np.arange(len(grey)) % 2
    lines = table(grey, [str(number % 3) for number in range(len(grey))], header=False).splitlines()
    behind = [f"{rest},{label}" for label, _, rest in (line.partition(",") for line in lines)]
    (tmp_path / "x.csv").write_text("\n".join(lines if label_first else behind))
    dataset = open_dataset(tmp_path / "x.csv")
    assert dataset.classes == ("0", "1", "2") and np.array_equal(pixels(dataset), grey)


@pytest.mark.parametrize("labels", [("3", "8"), ("cat", "dog")])
def test_a_label_behind_the_pixels_is_no_pixel(tmp_path: Path, labels: tuple[str, str]) -> None:
    grey = GREY.copy()
    grey[:, 0, 0] = np.arange(len(grey)) % 2 if labels[0] == "cat" else 0
    lines = table(grey, [labels[number % 2] for number in range(len(grey))], header=False).splitlines()
    (tmp_path / "x.csv").write_text(
        "\n".join(f"{rest},{label}" for label, _, rest in (line.partition(",") for line in lines))
    )
    dataset = open_dataset(tmp_path / "x.csv")
    assert dataset.classes == labels and np.array_equal(pixels(dataset), grey)


def test_a_column_of_pixels_in_splits(tmp_path: Path) -> None:
    cells = [" ".join(map(str, each.ravel())) for each in GREY]
    usage = ["Training"] * 3 + ["PublicTest"] * 2 + ["PrivateTest"]
    rows = [f"{label},{cell},{use}" for label, cell, use in zip(DIGITS, cells, usage, strict=True)]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]))
    for path in (tmp_path, tmp_path / "fer2013.csv"):
        dataset = open_dataset(path)
        assert {split: len(images) for split, images in dataset.splits.items()} == {"train": 3, "val": 2, "test": 1}
        assert np.array_equal(pixels(dataset, "val"), GREY[3:5])


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_tables_of_pixels_are_splits_by_name_and_one_without_labels_is_left_out(tmp_path: Path, kind: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "fashion_train.csv").write_text(table(GREY, DIGITS))
    (data / "fashion_test.csv").write_text(table(GREY[:2], ["2", "0"]))
    unlabelled = "\n".join(line.partition(",")[2] for line in table(GREY, DIGITS).splitlines())
    (data / "extra.csv").write_text(unlabelled)
    dataset = open_dataset(data if kind == "folder" else Path(shutil.make_archive(str(tmp_path / "p"), "zip", data)))
    assert understood(dataset) == {"train": {"0": 2, "1": 2, "2": 2}, "test": {"0": 1, "1": 0, "2": 1}}
    assert any("extra.csv was left out, since it has no labels" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("\n1,1,", "\n1,999,"), "numbers from 0 to 255"),
        (lambda text: text.replace("\n1,1,", "\n1,,"), "a number for every pixel .*an empty cell in row 1, .*'pixel0'"),
        (lambda text: text.replace("\n1,1,", "\n1,grey,"), "'grey' in row 1, .*'pixel0'"),
        (lambda text: text.replace("\n1,1,", "\n1,1,1,"), "as many cells in every row"),
    ],
)
def test_what_is_no_pixel_is_said(tmp_path: Path, change: Callable[[str], str], said: str) -> None:
    (tmp_path / "x.csv").write_text(change(table(GREY, DIGITS)))
    with pytest.raises(DataError, match=f"(?s)^expected .*{said}"):
        open_dataset(tmp_path / "x.csv")


def test_images_and_labels_may_lie_in_files_of_their_own(tmp_path: Path) -> None:
    for split, images in (("train", GREY), ("test", GREY[:2])):
        np.savez(tmp_path / f"k49-{split}-imgs.npz", images)
        np.save(tmp_path / f"k49-{split}-labels.npy", np.arange(len(images)) % 2)
    dataset = open_dataset(tmp_path)
    assert understood(dataset) == {"train": {"0": 3, "1": 3}, "test": {"0": 1, "1": 1}}
    with pytest.raises(DataError, match="give the folder of both"):
        open_dataset(tmp_path / "k49-train-labels.npy")


def test_matlab_has_the_number_of_images_last(tmp_path: Path) -> None:
    for name, count in (("train_32x32.mat", 6), ("test_32x32.mat", 2)):
        savemat(tmp_path / name, {"X": COLOURS[:count].transpose(1, 2, 3, 0), "y": np.arange(count)[:, None] % 2})
    dataset = open_dataset(tmp_path)
    assert understood(dataset) == {"train": {"0": 3, "1": 3}, "test": {"0": 1, "1": 1}}
    assert np.array_equal(pixels(dataset, "train"), COLOURS)


def test_lists_of_matlab_are_tables(tmp_path: Path) -> None:
    records = np.zeros((1, 4), [("relative_im_path", "O"), ("class", "O"), ("test", "O")])
    for number in range(4):
        (tmp_path / "car_ims").mkdir(exist_ok=True)
        (tmp_path / "car_ims" / f"{number}.jpg").write_bytes(b"x")
        records[0, number] = (f"car_ims/{number}.jpg", 1 + number // 2, number % 2)
    names = np.array([["Acura", "BMW"]], object)
    savemat(tmp_path / "cars_annos.mat", {"annotations": records, "class_names": names})
    for path in (tmp_path, tmp_path / "cars_annos.mat"):
        found = {split: {"Acura": 1, "BMW": 1} for split in ("train", "test")}
        assert understood(open_dataset(path)) == found


def test_hdf5_is_read_and_its_links_are_not_followed(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["y"] = np.ones(6)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["train_set_x"], file["train_set_y"] = COLOURS, [0, 1, 0, 1, 0, 1]
        file["list_classes"] = np.array([b"other", b"cat"])
        file["elsewhere"] = h5py.ExternalLink("secret.h5", "y")
    assert sorted(load_arrays(tmp_path / "x.h5")) == ["list_classes", "train_set_x", "train_set_y"]
    assert understood(open_dataset(tmp_path / "x.h5")) == {"train": {"cat": 3, "other": 3}}


class Hostile:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch was_run",)


def test_hostile_files_run_nothing_and_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "x_train.npy", np.array([Hostile()], object), allow_pickle=True)
    (tmp_path / "y.mat").write_bytes(pickle.dumps(Hostile()))
    savemat(memory := io.BytesIO(), {"x": GREY})
    (tmp_path / "cut.mat").write_bytes(memory.getvalue()[:200])
    (tmp_path / "v73.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(600))
    for name in ("x_train.npy", "y.mat", "cut.mat", "v73.mat"):
        with pytest.raises(DataError, match="expected arrays of numbers in"):
            load_arrays(tmp_path / name)
    assert not (tmp_path / "was_run").exists()


def test_a_bomb_of_matlab_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.bombs.BOMB_BYTES", 2**16)
    savemat(tmp_path / "x.mat", {"x": np.zeros((1024, 1024))}, do_compression=True)
    with pytest.raises(DataError, match="a bomb"):
        load_arrays(tmp_path / "x.mat")


def test_columns_of_a_table_of_pixels_are_chosen_by_options(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(table(GREY, DIGITS).replace("label", "kind"))
    assert len(open_dataset(tmp_path / "x.csv", table=TableOptions(label_column="kind"))) == 6


@pytest.mark.parametrize("blank", [0, 4])
def test_a_blank_cell_of_pixels_is_named_by_its_row(tmp_path: Path, blank: int) -> None:
    cells = ["" if row == blank else " ".join(map(str, each.ravel())) for row, each in enumerate(GREY)]
    rows = [f"{label},{cell}" for label, cell in zip(DIGITS, cells, strict=True)]
    (tmp_path / "fer.csv").write_text("\n".join(["emotion,pixels", *rows]))
    with pytest.raises(DataError, match=f"an empty cell in row {blank}, .*'pixels'"):
        open_dataset(tmp_path / "fer.csv")


def test_labels_that_are_no_number_and_arrays_of_nothing_are_refused(tmp_path: Path) -> None:
    labels = np.array([1.0, 2.0, np.nan, 1.0, 2.0, 1.0])
    for shape in (labels, labels[:, None]):
        np.savez(tmp_path / "x.npz", images=GREY, labels=shape)
        with pytest.raises(DataError, match="got nan for image 2"):
            open_dataset(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", images=GREY[:0], labels=np.zeros(0, int))
    with pytest.raises(DataError, match="images with labels in x, got none"):
        open_dataset(tmp_path / "x.npz")


def test_two_data_sets_in_one_folder_are_refused_by_name(tmp_path: Path) -> None:
    for name, side in (("pathmnist", 4), ("pathmnist_64", 8)):
        pixels = np.zeros((4, side, side, 3), np.uint8)
        np.savez(tmp_path / f"{name}.npz", train_images=pixels, train_labels=np.array([[0], [1], [0], [1]]))
    with pytest.raises(DataError, match=r"images of train in .*, got pathmnist_train_images and pathmnist_64_train_im"):
        open_dataset(tmp_path)
    assert len(open_dataset(tmp_path / "pathmnist.npz")) == 4
    np.savez(tmp_path / "both.npz", x=pixels, fine_labels=np.arange(4), coarse_labels=np.arange(4) % 2)
    with pytest.raises(DataError, match=r"one array of the labels in both\.npz, got fine_labels and coarse_labels"):
        open_dataset(tmp_path / "both.npz")


def test_a_matrix_of_labels_is_several_for_each_image(tmp_path: Path) -> None:
    pixels, matrix = np.zeros((3, 4, 4), np.uint8), np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    np.savez(tmp_path / "chest.npz", train_images=pixels, train_labels=matrix)
    with pytest.raises(DataError, match=r"one label for each image .* `multi_label`"):
        open_dataset(tmp_path / "chest.npz")
    dataset = open_dataset(tmp_path / "chest.npz", table=TableOptions(multi_label=True))
    assert dataset.label_matrix(dataset.splits["train"].labels).tolist() == matrix.tolist()
