"""Several labels for each image: read from cells, columns, rows, lists and matrices, and divided into splits."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graft.data.dataset import TRAIN, VAL, WHOLE, Dataset
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
from graft.data.table_options import TableOptions
from graft.errors import DataError, InputError

SEVERAL = TableOptions(multi_label=True)
NAMES = [f"{letter}.png" for letter in "abcd"]
# What all of the forms below say: the last of four images has no label.
MEANT = {"a.png": {"cat", "dog"}, "b.png": {"cat"}, "c.png": {"cat", "hot dog"}, "d.png": set()}


def table(folder: Path, text: str, name: str = "x.csv") -> Path:
    for image in NAMES:
        (folder / image).write_bytes(b"image")
    (folder / name).write_text(text)
    return folder / name


def said(dataset: Dataset) -> dict[str, set[str]]:
    assert dataset.label_sets is not None
    return {
        Path(images.key(index)).name: {dataset.classes[each] for each in dataset.label_sets[label]}
        for images in dataset.splits.values()
        for index, label in enumerate(images.labels.tolist())
    }


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,cat|dog\nb.png,cat\nc.png,cat | hot dog\nd.png,\n",
        "path,label\na.png,cat;dog\nb.png,cat\nc.png,hot dog;cat\nd.png,\n",
        'path,label\na.png,"cat, dog"\nb.png,cat\nc.png,"cat, hot dog"\nd.png,""\n',
        'path,label\na.png,"[""cat"", ""dog""]"\nb.png,"[""cat""]"\nc.png,"[""cat"", ""hot dog""]"\nd.png,[]\n',
        "path,label\na.png,\"['dog', 'cat']\"\nb.png,['cat']\nc.png,\"['cat', 'hot dog']\"\nd.png,[]\n",
        "filename,cat,dog,hot dog\na.png,1,1,0\nb.png,1,0,0\nc.png,1,0,1\nd.png,0,0,0\n",
        "path,label\na.png,cat\na.png,dog\nb.png,cat\nc.png,hot dog\nc.png,cat\nd.png,\n",
        "path,tags\na.png,cat|dog\nb.png,cat\nc.png,cat|hot dog|cat\nd.png,\n",
    ],
    ids=["bars", "semicolons", "commas", "json", "python", "one-hot", "rows", "synonym"],
)
def test_a_table_says_several_labels_in_any_of_the_usual_forms(text: str, tmp_path: Path) -> None:
    dataset = open_dataset(table(tmp_path, text), table=SEVERAL)
    assert said(dataset) == MEANT
    assert dataset.classes == ("cat", "dog", "hot dog")
    assert "1 image has no label: an example of none of the classes" in dataset.notes
    assert dataset.item(WHOLE, 0).label == "cat|dog"


def test_records_of_json_and_a_folder_with_roboflows_table_are_read(tmp_path: Path) -> None:
    records = [{"path": name, "label": sorted(labels)} for name, labels in MEANT.items()]
    assert said(open_dataset(table(tmp_path, json.dumps(records), "x.json"), table=SEVERAL)) == MEANT
    for split in ("train", "valid"):
        (tmp_path / "set" / split).mkdir(parents=True)
        table(tmp_path / "set" / split, "filename, cat, dog, hot dog\na.png,1,1,0\nb.png,1,0,0\n", "_classes.csv")
    dataset = open_dataset(tmp_path / "set", table=SEVERAL)
    assert set(dataset.splits) == {TRAIN, VAL}
    assert said(dataset) == {name: MEANT[name] for name in ("a.png", "b.png")}


def test_a_table_with_several_labels_is_refused_by_the_name_of_the_option_without_it(tmp_path: Path) -> None:
    for text in (
        "path,label\na.png,cat|dog\nb.png,cat\nc.png,dog\n",
        "path,cat,dog\na.png,1,1\nb.png,0,1\nc.png,1,0\n",
    ):
        with pytest.raises(DataError, match="`multi_label`"):
            open_dataset(table(tmp_path, text))


def test_arrays_frames_and_matrices_say_the_same() -> None:
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    lists = [sorted(labels) for labels in MEANT.values()]
    matrix = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0]])
    classes = ("cat", "dog", "hot dog")
    found = [
        Dataset.from_arrays(pixels, lists, multi_label=True),
        Dataset.from_arrays(pixels, matrix, multi_label=True, classes=classes),
        Dataset.from_arrays(pixels, [set(each) for each in lists], multi_label=True),
        Dataset.from_frame({"image": list(pixels), "tags": lists}, "image", "tags", multi_label=True),
        Dataset.from_frame(
            {"image": list(pixels), **{name: matrix[:, place] for place, name in enumerate(classes)}},
            "image",
            classes,
            multi_label=True,
        ),
    ]
    for dataset in found:
        assert dataset.classes == classes
        np.testing.assert_array_equal(dataset.label_matrix(dataset.splits[WHOLE].labels), matrix)
    with pytest.raises(DataError, match="0 or 1 for each class of each image, got 2"):
        Dataset.from_arrays(pixels, matrix * 2, multi_label=True)
    with pytest.raises(DataError, match="images with a label"):
        Dataset.from_arrays(pixels, [[], [], [], []], multi_label=True)


def test_one_label_for_each_image_works_and_says_that_a_plain_training_is_meant_for_it(tmp_path: Path) -> None:
    dataset = open_dataset(table(tmp_path, "path,label\na.png,cat\nb.png,dog\nc.png,cat\nd.png,dog\n"), table=SEVERAL)
    assert dataset.label_sets == ((0,), (1,))
    assert any("train such data without --multi-label" in note for note in dataset.notes)


def test_two_spellings_of_a_label_are_told(tmp_path: Path) -> None:
    dataset = open_dataset(
        table(tmp_path, "path,label\na.png,Cat|dog\nb.png,cat\nc.png,dog\nd.png,cat\n"), table=SEVERAL
    )
    assert any("'Cat' and 'cat'" in note for note in dataset.notes)


def test_val_is_carved_by_labels_and_what_cannot_be_learned_is_told() -> None:
    random = np.random.default_rng(0)
    matrix = (random.random((60, 4)) < (0.5, 0.2, 0.1, 1.0)).astype(int)
    groups = np.repeat(np.arange(30), 2)
    pixels = np.zeros((60, 4, 4), np.uint8)
    dataset = Dataset.from_arrays(pixels, matrix, multi_label=True)
    whole = dataset.splits[WHOLE]
    grouped = replace(dataset, splits={WHOLE: replace(whole, groups=groups)})
    done = with_validation(grouped)
    train, val = done.splits[TRAIN], done.splits[VAL]
    assert not set(train.groups.tolist()) & set(val.groups.tolist())
    for part in (train, val):
        assert done.label_matrix(part.labels).any(0).all()
    assert any(note.startswith("every image to train on is labelled '3'") for note in done.notes)
    assert any("stratified by label" in note for note in done.notes)
    alike = Dataset.from_arrays(pixels, np.ones((60, 2), int), multi_label=True)
    with pytest.raises(DataError, match="some images of images have and others do not"):
        with_validation(alike)


def test_a_label_that_val_alone_has_is_refused_by_name(tmp_path: Path) -> None:
    text = "path,label,split\na.png,cat|dog,train\nb.png,cat,train\nc.png,cat|bird,val\nd.png,,val\n"
    with pytest.raises(DataError, match="'bird' as well"):
        with_validation(open_dataset(table(tmp_path, text), table=SEVERAL))


@pytest.mark.parametrize("cell", ["2", "nan"])
def test_a_slip_in_a_column_of_yes_and_no_is_named(cell: str, tmp_path: Path) -> None:
    rows = "a.png,1,1,0\nb.png,1,0,0\nc.png,0,0,1\nd.png,0,CELL,0\na.png,1,1,0\n".replace("CELL", cell)
    with pytest.raises(DataError, match=f"'dog' of x.csv, .*got '{cell}' in row 3, .*d.png"):
        open_dataset(table(tmp_path, f"path,cat,dog,hot dog\n{rows}"), table=SEVERAL)
    two = "".join(f"{row.rpartition(',')[0]}\n" for row in rows.splitlines())
    with pytest.raises(DataError, match="'dog' of x"):
        open_dataset(table(tmp_path, f"path,cat,dog\n{two}"), table=SEVERAL)


def test_cells_that_may_not_mean_no_are_counted(tmp_path: Path) -> None:
    text = "path,cat,dog\na.png,1,1\nb.png,1,-1\nc.png,,1\nd.png,0,\n"
    dataset = open_dataset(table(tmp_path, text), table=SEVERAL)
    assert "3 cells are -1 or blank and count as no: 'cat' 1, 'dog' 2" in dataset.notes
    plain = open_dataset(table(tmp_path, "path,cat,dog\na.png,1,1\nb.png,1,-1\nc.png,-1,1\n"), table=SEVERAL)
    assert not any("count as no" in note for note in plain.notes)


def test_a_class_that_two_columns_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'cat' twice"):
        open_dataset(table(tmp_path, "path,cat,cat,dog\na.png,1,0,1\nb.png,0,1,0\nc.png,0,0,1\n"), table=SEVERAL)
    pixels, matrix = np.zeros((2, 8, 8), np.uint8), np.array([[1, 0, 1], [0, 1, 0]])
    with pytest.raises(DataError, match="'a' twice"):
        Dataset.from_arrays(pixels, matrix, multi_label=True, classes=["a", "a ", "b"])


def task(name: str, *said: tuple[str, ...], **more: bool) -> dict[str, object]:
    """A task of Label Studio with the choices of each person."""
    results = [[{"type": "choices", "value": {"choices": [*each]}}] if each else [] for each in said]
    return {"data": {"image": name}, "annotations": [{"result": result, **more} for result in results]}


def labelbox(name: str, *said: tuple[str, ...], skipped: bool = False) -> dict[str, object]:
    """A row of Labelbox with the answers of each person."""
    labels = [
        {
            "annotations": {
                "classifications": [{"name": "kind", "checklist_answers": [{"name": label} for label in each]}]
            },
            "performance_details": {"skipped": skipped},
        }
        for each in said
    ]
    return {"data_row": {"external_id": name}, "projects": {"p": {"labels": labels}}}


@pytest.mark.parametrize(
    "tasks",
    [
        [
            task("a.png", ("cat", "dog"), ("dog", "cat")),
            task("b.png"),
            task("c.png", (), was_cancelled=True),
            task("d.png", ()),
        ],
        [
            labelbox("a.png", ("cat", "dog"), ("dog", "cat")),
            labelbox("b.png"),
            labelbox("c.png", ("cat",), skipped=True),
            labelbox("d.png", ()),
        ],
        [
            {"External ID": "a.png", "Label": {"objects": [{"title": "cat"}, {"title": "dog"}]}},
            {"External ID": "b.png", "Label": "Skip"},
            {"External ID": "c.png", "Label": "Skip"},
            {"External ID": "d.png", "Label": {"objects": []}},
        ],
    ],
    ids=["label studio", "labelbox", "labelbox before"],
)
def test_an_image_that_nobody_labelled_is_left_out_unlike_one_found_to_have_no_label(
    tasks: list[dict[str, object]], tmp_path: Path
) -> None:
    dataset = open_dataset(table(tmp_path, json.dumps(tasks), "x.json"), table=SEVERAL)
    assert said(dataset) == {"a.png": {"cat", "dog"}, "d.png": set()}
    assert {Path(name).name: why for name, why in dataset.left_out.items()} == dict.fromkeys(
        ("b.png", "c.png"), "it has no label"
    )
    assert any("2 of " in note and "left out: no label" in note for note in dataset.notes)
    assert "1 image has no label: an example of none of the classes" in dataset.notes
    assert not any("differently" in note for note in dataset.notes)


@pytest.mark.parametrize("kind", [task, labelbox])
def test_what_several_people_say_differently_counts_and_is_told(kind, tmp_path: Path) -> None:
    tasks = [kind("a.png", ("cat",), ("dog",)), kind("b.png", ("cat",), ("cat",)), kind("c.png", ("dog",), ("cat",))]
    dataset = open_dataset(table(tmp_path, json.dumps(tasks), "x.json"), table=SEVERAL)
    assert said(dataset) == {"a.png": {"cat", "dog"}, "b.png": {"cat"}, "c.png": {"cat", "dog"}}
    told = "2 images were labelled differently by several people: every label that any of them gave counts (a.png, "
    assert any(note.startswith(told) for note in dataset.notes)


def test_several_named_columns_of_0_and_1_are_the_classes(tmp_path: Path) -> None:
    text = "path,label,cat,dog,big\na.png,x,1,1,1\nb.png,x,1,0,0\nc.png,y,0,1,1\nd.png,y,0,0,1\n"
    path = table(tmp_path, text)
    several = TableOptions(label_column=["cat", "dog"], multi_label=True)
    assert several == TableOptions(label_column=("cat", "dog"), multi_label=True)
    assert TableOptions(label_column=["cat"]) == TableOptions(label_column="cat")
    assert TableOptions(label_column=[]) == TableOptions()
    dataset = open_dataset(path, table=several)
    assert said(dataset) == {"a.png": {"cat", "dog"}, "b.png": {"cat"}, "c.png": {"dog"}, "d.png": set()}
    (tmp_path / "x.csv").replace(tmp_path / "train.csv")
    (tmp_path / "test.csv").write_text((tmp_path / "train.csv").read_text())
    apart = open_dataset(tmp_path / "train.csv", table=several, test=tmp_path / "test.csv")
    assert said(apart) == said(dataset)


@pytest.mark.parametrize(
    ("columns", "several", "told"),
    [
        (("cat", "dog"), False, r"expected one `label_column`, got 2 \('cat' and 'dog'\): .* with `multi_label`"),
        (("cat", "label"), True, "expected 0 or 1 in each column .* got 'x' in the column 'label' of x.csv, row 0"),
        (("cat", "cat"), True, "got 'cat' twice"),
        (("cat", "cow"), True, "for `label_column`, got 'cow', which is not among 'path', 'label', 'cat', 'dog'"),
    ],
)
def test_several_named_columns_are_refused_where_they_cannot_be_the_classes(
    columns: tuple[str, ...], several: bool, told: str, tmp_path: Path
) -> None:
    path = table(tmp_path, "path,label,cat,dog\na.png,x,1,1\nb.png,y,0,1\n")
    with pytest.raises(InputError, match=told):
        open_dataset(path, table=TableOptions(label_column=columns, multi_label=several))
