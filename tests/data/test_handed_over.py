"""Images and labels passed as objects: what is accepted, and the errors for what is not."""

import io
import re
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

import graft
from graft.data.content import content_digest
from graft.data.depths import levels_of
from graft.data.handed_over import HandedOver
from graft.errors import DataError, ImageError, InputError
from graft.images.decoding import decode
from graft.images.handed_over import as_read
from graft.workflows import prepare

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)


def file_of(pixels: np.ndarray, form: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


FORMS = {
    "bytes": lambda: file_of(PIXELS),
    "bytearray": lambda: bytearray(file_of(PIXELS)),
    "an open file": lambda: io.BytesIO(file_of(PIXELS)),
    "PIL": lambda: Image.open(io.BytesIO(file_of(PIXELS))),
    "uint8": lambda: PIXELS,
    "float32": lambda: PIXELS.astype(np.float32) / 255,
    "float16": lambda: (PIXELS / 255).astype(np.float16),
    "tensor of bytes": lambda: torch.from_numpy(PIXELS).permute(2, 0, 1),
    "tensor of floats": lambda: torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
    "alpha": lambda: np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_is_the_same_image(form: str) -> None:
    data = graft.Dataset.from_arrays([FORMS[form]()], ["a"]).splits["all"].read(0)
    found = decode(data) if isinstance(data, bytes) else data
    assert (found == PIXELS).all() and found.dtype == np.uint8


def test_labels_in_bytes_are_read_as_utf_8() -> None:
    """As HDF5 and arrays of numpy keep texts."""
    labels = np.array(["кот".encode(), b"dog", b"dog"])
    for given in (labels, labels.tolist()):
        assert graft.Dataset.from_arrays([PIXELS] * 3, given).classes == ("dog", "кот")
    frame = {"path": [PIXELS] * 3, "label": labels.tolist()}
    assert graft.Dataset.from_frame(frame).classes == ("dog", "кот")
    assert graft.Dataset.from_arrays([PIXELS] * 2, [[b"a", b"b"], []], multi_label=True).classes == ("a", "b")
    with pytest.raises(DataError, match=r"label of image 1, got b'\\xff'"):
        graft.Dataset.from_arrays([PIXELS] * 2, [b"a", b"\xff"])


def test_what_is_printed_of_images_is_one_line_of_counts_and_names() -> None:
    dataset = graft.Dataset.from_arrays([PIXELS] * 7, ["b", "a", "f", "c", "d", "e", "e"])
    assert repr(dataset) == "Dataset('images', 7 images (all 7), 6 classes: 'a', 'b', 'c', 'd' and 2 more)"
    assert repr(dataset.splits["all"]) == "Images(7 of HandedOver)"
    with pytest.raises(DataError, match=r"one label for image 0, got a list of 2: give one, or .* multi_label=True"):
        graft.Dataset.from_arrays([PIXELS] * 2, [["a", "b"], []])
    several = graft.Dataset.from_arrays([PIXELS] * 2, [["a", "b"], []], multi_label=True)
    assert "2 images (all 2), several labels each, 2 classes: 'a', 'b'" in repr(several)


def test_transparent_pixels_lie_over_white_as_in_files() -> None:
    seen_through = np.dstack([PIXELS, np.arange(63, dtype=np.uint8).reshape(9, 7) * 4])
    assert (as_read(seen_through) == decode(file_of(seen_through))).all()


def test_an_image_of_pil_deeper_than_8_bits_is_as_deep_as_its_file(tmp_path: Path) -> None:
    deep = Image.fromarray((np.arange(48).reshape(6, 8) * 1000).astype(np.uint16))
    deep.save(tmp_path / "deep.png")
    data = as_read(Image.open(tmp_path / "deep.png"))
    levels = (("uint16", 0.0, 4095.0),)
    assert isinstance(data, bytes)
    assert (decode(data, levels=levels) == decode((tmp_path / "deep.png").read_bytes(), levels=levels)).all()


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1)])
def test_gray_pixels_of_16_bits_are_as_deep_as_their_file(shape: tuple[int, ...], tmp_path: Path) -> None:
    deep = (np.arange(48).reshape(6, 8) * 80).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    data = as_read(deep.reshape(shape).astype(">u2") if len(shape) == 2 else deep.reshape(shape))
    levels = (("uint16", 0.0, 4095.0),)
    assert isinstance(data, bytes)
    assert (decode(data, levels=levels) == decode((tmp_path / "deep.png").read_bytes(), levels=levels)).all()
    dataset = graft.Dataset.from_arrays([deep.reshape(shape)] * 4, ["a", "b"] * 2)
    assert levels_of(dataset)[0] == levels_of(graft.Dataset.from_arrays([Image.fromarray(deep)] * 4, ["a", "b"] * 2))[0]


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (None, "got a NoneType"),
        (5, "got an int"),
        (np.zeros((3, 8, 9), np.uint8), "put the channels last"),
        (np.zeros((8, 9, 2), np.uint8), r"shape \(8, 9, 2\)"),
        (np.zeros((8, 9, 3), np.uint16), "uint16"),
        (np.zeros((8, 9), np.int16), "int16"),
        (np.zeros((8, 9), bool), "bool"),
        (np.full((8, 9, 3), 7.5), "from 7.5 to 7.5: convert it to uint8"),
        (np.full((8, 9, 3), -2.0), "undo what normalised it"),
        (np.full((8, 9, 3), np.nan), "nan"),
        (torch.zeros(8, 9, 3), "tensor"),
        (torch.full((3, 4, 4), 2.0), "from 2 to 2"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
    ],
)
def test_what_is_no_image_is_named_with_its_place(thing: object, said: str) -> None:
    with pytest.raises(DataError, match=rf"^image 1: expected .*{said}.*2 more images"):
        graft.Dataset.from_arrays([PIXELS, thing, thing, None], ["a", "b", "a", "b"])
    with pytest.raises(ImageError, match="expected"):
        HandedOver([thing]).read(0)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        ([PIXELS] * 3, ["a", "b"], "a label for each of 3 images, got 2 labels"),
        ([PIXELS], [None], "label of image 0, got None"),
        ([PIXELS], [float("nan")], "label of image 0, got nan"),
        ([PIXELS], [1.5], "got 1.5"),
        ([PIXELS], [" "], "got ' '"),
        ([PIXELS], "a", "got a str"),
        ([PIXELS], np.zeros((1, 4)), r"of shape \(1, 4\)"),
        ("folder", ["a"], "several images"),
        (PIXELS[0, 0, 0], ["a"], "several images"),
        (np.zeros((2, 2, 2, 2, 3), np.uint8), ["a", "b"], "an array"),
        ([], [], "got none"),
        (io.BytesIO(b"x"), ["a"], "several images"),
    ],
)
def test_what_cannot_be_labelled_images_is_one_sentence(images: object, labels: object, said: str) -> None:
    with pytest.raises(DataError, match=rf"^expected .*{said}"):
        graft.Dataset.from_arrays(images, labels)


def test_labels_of_any_kind_are_classes_in_the_order_of_numbers_or_text() -> None:
    for labels in ([10, 9, 10], np.array([[10], [9], [10]]), torch.tensor([10, 9, 10]), pandas.Series([10.0, 9, 10])):
        dataset = graft.Dataset.from_arrays([PIXELS] * 3, labels)
        assert dataset.classes == ("9", "10") and dataset.splits["all"].labels.tolist() == [1, 0, 1]


def test_whole_numbers_are_places_in_the_classes_that_are_named() -> None:
    for labels in ([0, 2, 0], np.array([[0], [2], [0]]), torch.tensor([0, 2, 0]), iter([0, 2, 0])):
        dataset = graft.Dataset.from_arrays([PIXELS] * 3, labels, classes=["wasp", "bee", "ant"])
        assert dataset.classes == ("ant", "wasp") and dataset.splits["all"].labels.tolist() == [1, 0, 1]
        assert any("no image is of 'bee'" in note for note in dataset.notes)
    for labels, said in (([0, 3], "0 to 2, .* got 3 for image 1"), ([-1, 0], "got -1"), (["0", "1"], "leave the cla")):
        with pytest.raises(DataError, match=said):
            graft.Dataset.from_arrays([PIXELS] * 2, labels, classes=["wasp", "bee", "ant"])
    with pytest.raises(DataError, match="twice"):
        graft.Dataset.from_arrays([PIXELS] * 2, [0, 1], classes=["a", "a"])


def test_a_generator_is_gone_through_once_which_a_note_says() -> None:
    dataset = graft.Dataset.from_arrays((PIXELS for _ in range(3)), iter("aba"))
    assert len(dataset) == 3 and any("read only once" in note for note in dataset.notes)
    assert not graft.Dataset.from_arrays([PIXELS] * 3, list("aba")).notes


def test_stacked_arrays_and_tensors_are_as_many_images() -> None:
    stacked = np.stack([PIXELS, PIXELS // 2])
    for images in (stacked, torch.from_numpy(stacked).permute(0, 3, 1, 2), stacked[:, :, :, 0]):
        assert len(graft.Dataset.from_arrays(images, ["a", "b"])) == 2


def test_pixels_that_are_changed_have_another_stamp_and_equal_ones_the_same() -> None:
    own = PIXELS.copy()
    source = HandedOver([own, PIXELS, "missing.png", b"no image"])
    before = source.stamp(0)
    assert before == source.stamp(1) and content_digest(PIXELS).any()
    own[0, 0, 0] ^= 1
    assert len({before, *(source.stamp(row) for row in (0, 2, 3))}) == 4


def test_a_frame_is_read_by_its_columns_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(file_of(PIXELS))
    frame = pandas.DataFrame(
        {
            "file": ["a.png", "b.png", None, "c.png", "gone.png"],
            "what": ["ant", "bee", "ant", None, "bee"],
            "part": ["train", "test", "train", "train", "train"],
        }
    )
    dataset = graft.Dataset.from_frame(frame, path="file", label="what", split="part", root=tmp_path, name="insects")
    assert {name: len(images) for name, images in dataset.splits.items()} == {"train": 1, "test": 1}
    assert dataset.name == "insects" and len(dataset.left_out) == 3
    with pytest.raises(DataError, match="expected the column 'label' in the frame, got 'file', 'what', 'part'"):
        graft.Dataset.from_frame(frame, path="file")
    pixels = pandas.DataFrame({"path": [PIXELS, PIXELS], "label": pandas.Categorical(["x", "y"])})
    assert graft.Dataset.from_frame(pixels).splits["all"].labels.tolist() == [0, 1]


def test_a_dataset_of_torch_has_the_names_of_its_classes() -> None:
    class Insects(torch.utils.data.Dataset):
        classes = ("bee", "ant")

        def __len__(self) -> int:
            return 3

        def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
            return torch.full((3, 4, 4), number / 3), number % 2

    dataset = graft.Dataset.from_torch(Insects())
    assert dataset.classes == ("ant", "bee") and dataset.splits["all"].labels.tolist() == [1, 0, 1]
    assert dataset.name == "insects"
    part = torch.utils.data.Subset(torch.utils.data.Subset(Insects(), [0, 1, 2]), [2, 1])
    assert graft.Dataset.from_torch(part).classes == ("ant", "bee")
    first, _ = torch.utils.data.random_split(Insects(), [2, 1])
    assert set(graft.Dataset.from_torch(first).classes) <= {"ant", "bee"}
    with pytest.raises(DataError, match="a torch dataset"):
        graft.Dataset.from_torch(iter([]))


def test_a_dataset_or_a_loader_of_torch_is_refused_with_the_way_to_give_it() -> None:
    pairs = torch.utils.data.TensorDataset(torch.rand(4, 3, 8, 8), torch.arange(4))
    with pytest.raises(InputError, match=r"got a TensorDataset: give a torch dataset as graft\.Dataset\.from_torch"):
        graft.train(pairs)
    with pytest.raises(InputError, match=r"got a DataLoader: give graft\.Dataset\.from_torch\(loader\.dataset\)"):
        graft.train(torch.utils.data.DataLoader(pairs))


def test_what_an_audit_finds_can_be_left_out(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    images = [random.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(5)]
    images += [images[0], np.zeros((32, 32, 3), np.uint8)]
    audit = graft.audit((images, list("ababaab")), with_features=False, quiet=True)
    cleaned = audit.dataset.without(audit.findings)
    assert len(cleaned) == 6 and any("found but kept" in note for note in cleaned.notes)
    kinds = {finding.kind for finding in audit.findings if finding.images} - {"exact_duplicates"}
    dark = next(kind for kind in ("dark", "low_information", "possible_placeholder") if kind in kinds)
    assert len(audit.dataset.without(audit.findings, also=dark)) == 5
    with pytest.raises(InputError, match="did you mean 'dark'"):
        audit.dataset.without(audit.findings, also=["darc"])
    with pytest.raises(InputError, match="about these 2 images"):
        graft.Dataset.from_arrays(images[:2], ["a", "b"]).without(audit.findings)


@pytest.fixture
def patients(tmp_path: Path) -> pandas.DataFrame:
    """A table of 24 images of 12 patients in 3 folds."""
    rows = []
    for number in range(24):
        path = tmp_path / f"{number:02}.png"
        Image.fromarray(PIXELS + number).save(path)
        rows.append((str(path), "ab"[number // 2 % 2], f"p{number // 2}", number % 3))
    return pandas.DataFrame(rows, columns=["path", "label", "patient_id", "fold"])


def test_a_frame_gets_the_notes_of_the_same_table_on_what_it_leaves_unused(
    patients: pandas.DataFrame, tmp_path: Path
) -> None:
    patients.to_csv(tmp_path / "table.csv", index=False)
    of_table = [note for note in graft.Dataset.from_table(tmp_path / "table.csv").notes if "not used" in note]
    of_frame = list(prepare.open_images(patients).notes)
    assert len(of_table) == 2 and of_frame == [re.sub("-column '", " '", note) for note in of_table]
    # A column of any name, and one that a table would use.
    renamed = patients.rename(columns={"patient_id": "slide", "fold": "weather"})
    renamed["is_valid"] = [number > 15 for number in range(24)]
    notes = graft.Dataset.from_frame(renamed).notes
    assert ["--group 'slide'" in note for note in notes] == [False, True] and "--split 'is_valid'" in notes[0]
    # What is used, and what cannot be read as text, is no news.
    others = renamed.drop(columns="is_valid").assign(mask=[PIXELS, 1] * 12, made=pandas.Timestamp("2020-01-01"))
    assert graft.Dataset.from_frame(others, group="slide").notes == ()
    in_memory = graft.Dataset.from_frame(patients.assign(path=[PIXELS] * 24))
    assert list(in_memory.notes) == of_frame


def test_a_column_of_a_frame_says_which_images_belong_together(patients: pandas.DataFrame) -> None:
    for name in ("patient_id", "Patient ID"):
        dataset = prepare.open_images(graft.DataOptions(patients, group=name))
        assert set(dataset.group_names) == {f"p{number}" for number in range(12)}
        assert not any("patient_id" in note for note in dataset.notes)
    by_rule = prepare.open_images(graft.DataOptions(patients, group=r"/(\d)\d\.png"))
    assert set(by_rule.group_names) == {"0", "1", "2"}
    assert len(prepare.open_images(graft.DataOptions(patients, group="folder")).group_names) == 1
    with pytest.raises(InputError, match="a column of the manifest"):
        prepare.open_images(graft.DataOptions(patients, group="nobody"))
    options = graft.DataOptions(patients[:12], group="patient_id", val=patients[12:])
    assert set(prepare.open_images(options).group_names) == {f"p{number}" for number in range(12)}


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        ([10**30 + each for each in range(4)], True),
        (["\udcff"] * 4, True),
        ([b"x"] * 4, False),
        ([None] * 4, False),
        ([PIXELS] * 4, False),
        ([{"a": 1}] * 4, False),
        (5, False),
        (["a"], False),
    ],
)
def test_a_column_that_nobody_uses_may_hold_anything(cells: object, read: bool, tmp_path: Path) -> None:
    for each in range(4):
        Image.fromarray(PIXELS).save(tmp_path / f"{each}.png")
    frame = {"path": [f"{each}.png" for each in range(4)], "label": ["a", "b"] * 2, "split": cells, "meta": cells}
    found = graft.Dataset.from_frame(frame, root=tmp_path)
    assert len(found) == 4 and bool([note for note in found.notes if "'split'" in note]) == read


def test_images_of_one_group_are_named_by_a_text_or_a_number():
    images, labels = [np.full((8, 8), shade, np.uint8) for shade in range(6)], [*"ababab"]
    for given in (["p", "p", "q", "q", "p", None], np.array([7, 7, 8, 8, 7, np.nan]), torch.tensor([7, 7, 8, 8, 7, 9])):
        dataset = graft.Dataset.from_arrays(images, labels, groups=given)
        (whole,) = dataset.splits.values()
        assert (whole.groups[:, None] == whole.groups).sum(1).tolist() == [3, 3, 2, 2, 3, 1]
        assert dataset.group_names[:2] in (("p", "q"), ("7", "8"))
    for wrong in ("pqpqpq", ["p"], [["p"]] * 6, 5, {"p": 1}):
        with pytest.raises(DataError, match="expected a group for each of 6 images, got"):
            graft.Dataset.from_arrays(images, labels, groups=wrong)
