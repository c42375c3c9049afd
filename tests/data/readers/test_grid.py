"""Tables as written: every row of a file is read, under its own cells, or a sentence says why not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest
from openpyxl import Workbook

from graft.data.dataset import Dataset
from graft.data.opening import open_dataset
from graft.data.readers.grid import open_grid
from graft.data.table_options import TableOptions
from graft.errors import DataError

HEAD = ("path", "label")


def plant(root: Path, *names: str) -> None:
    for name in names:
        (root / name).write_bytes(name.encode())


def labelled(dataset: Dataset) -> dict[str, dict[str, str | None]]:
    """The class of each image, by its path and split."""
    return {
        split: {images.read(row).decode(): dataset.item(split, row).label for row in range(len(images))}
        for split, images in dataset.splits.items()
    }


def book(
    path: Path, sheets: Mapping[str, Sequence[tuple[str, ...]]], hidden: Sequence[str] = (), active: str = ""
) -> Path:
    made = Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
    # A sheet may be hidden from the menus too.
    for name, state in zip(hidden, ("hidden", "veryHidden"), strict=False):
        made[name].sheet_state = state
    made.active = (
        list(sheets).index(active) if active else next(n for n, name in enumerate(sheets) if name not in hidden)
    )
    made.save(path)
    return path


OLD = [HEAD, ("0.png", "b"), ("1.png", "a")]
NEW = [HEAD, ("0.png", "a"), ("1.png", "b")]


def test_hidden_sheets_are_not_read(tmp_path: Path) -> None:
    plant(tmp_path, "0.png", "1.png")
    data = open_dataset(book(tmp_path / "x.xlsx", {"old": OLD, "older": OLD, "new": NEW}, hidden=["old", "older"]))
    assert labelled(data) == {"all": {"0.png": "a", "1.png": "b"}} and not data.notes


def test_sheets_named_after_splits_are_joined(tmp_path: Path) -> None:
    plant(tmp_path, "0.png", "1.png", "2.png")
    data = open_dataset(book(tmp_path / "x.xlsx", {"Train": NEW, "test": [("Path", "label"), ("2.png", "a")]}))
    assert labelled(data) == {"train": {"0.png": "a", "1.png": "b"}, "test": {"2.png": "a"}}
    assert any("the sheets 'Train' and 'test' were read" in note for note in data.notes)
    # Without column names.
    data = open_dataset(book(tmp_path / "x.xlsx", {"train": NEW[1:], "test": [("2.png", "a")]}))
    assert labelled(data) == {"train": {"0.png": "a", "1.png": "b"}, "test": {"2.png": "a"}}


@pytest.mark.parametrize(("active", "read", "other"), [("mine", "mine", "yours"), ("about", "yours", "mine")])
def test_of_several_sheets_the_active_one_is_read_and_the_others_are_told_of(
    tmp_path: Path, active: str, read: str, other: str
) -> None:
    plant(tmp_path, "0.png", "1.png")
    sheets = {"yours": OLD, "mine": NEW, "about": [("made by", "me"), ("on", "Monday")]}
    data = open_dataset(book(tmp_path / "x.xlsx", sheets, active=active))
    assert labelled(data) == {"all": {"0.png": "a" if read == "mine" else "b", "1.png": "b" if read == "mine" else "a"}}
    assert any(f"the sheet '{read}' was read, 1 of 3; '{other}' was not" in note for note in data.notes)


def test_sheets_of_splits_with_different_columns_are_not_joined(tmp_path: Path) -> None:
    plant(tmp_path, "0.png", "1.png", "2.png")
    data = open_dataset(book(tmp_path / "x.xlsx", {"train": NEW, "test": [("label", "path"), ("a", "2.png")]}))
    assert labelled(data) == {"all": {"0.png": "a", "1.png": "b"}}
    assert any("the sheet 'train' was read, 1 of 2; 'test' was not" in note for note in data.notes)


def test_rows_beyond_the_size_that_a_sheet_states_are_read(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(6)]
    plant(tmp_path, *names)
    path = book(tmp_path / "x.xlsx", {"data": [HEAD, *((name, "ab"[row % 2]) for row, name in enumerate(names))]})
    with ZipFile(path) as stored:
        files = {name: stored.read(name) for name in stored.namelist()}
    sheet = next(name for name in files if name.startswith("xl/worksheets/sheet"))
    assert b"A1:B7" in files[sheet]
    files[sheet] = files[sheet].replace(b"A1:B7", b"A1:B4")
    with ZipFile(path, "w") as stored:
        for name, content in files.items():
            stored.writestr(name, content)
    assert len(open_grid(path).column(0)) == 6
    assert len(open_dataset(path)) == 6


@pytest.mark.parametrize("name", ["x.tsv", "x.txt"])
@pytest.mark.parametrize("head", ["", "path\tlabel\n"])
@pytest.mark.parametrize("rows", [4, 3])
def test_double_quotes_that_are_not_in_pairs_are_part_of_cells_between_tabs(
    tmp_path: Path, name: str, head: str, rows: int
) -> None:
    lines = ["0.png\ta", '1.png\t"big', "2.png\ta", '3.png\t"big'][:rows]
    plant(tmp_path, *(f"{row}.png" for row in range(rows)))
    (tmp_path / name).write_text(head + "\n".join(lines) + "\n")
    data = open_dataset(tmp_path / name)
    assert labelled(data) == {"all": {line.split("\t")[0]: line.split("\t")[1] for line in lines}}
    assert any("double quotes were read as part of the cells" in note for note in data.notes)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    "text", ['path,label\n0.png,a\n\n1.png,"big\n2.png,"big\n3.png,a\n', '0.png,a\n\n\n1.png,"big\n2.png,a\n']
)
def test_a_label_that_holds_the_next_row_is_refused(tmp_path: Path, text: str, multi_label: bool) -> None:
    plant(tmp_path, *(f"{row}.png" for row in range(4)))
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=r"a label that goes on in the next line, in line 4 \('.*big"):
        open_dataset(tmp_path / "x.csv", table=TableOptions(multi_label=multi_label))


def test_a_path_and_a_split_that_hold_the_next_row_are_refused(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{row}.png" for row in range(6)))
    for text, role in (
        ('path,label\n0.png,a\n4.png,a\n5.png,b\n"1.png,b\n"2.png,a\n3.png,a\n', "path"),
        ('path,label,split\n0.png,a,train\n1.png,b,"train\n2.png,a,"train\n3.png,a,train\n', "split"),
    ):
        (tmp_path / "x.csv").write_text(text)
        with pytest.raises(DataError, match=rf"a {role} that goes on in the next line, in line"):
            open_dataset(tmp_path / "x.csv")


@pytest.mark.parametrize(("name", "separator"), [("x.csv", ","), ("x.tsv", "\t")])
def test_other_cells_may_have_lines(tmp_path: Path, name: str, separator: str) -> None:
    plant(tmp_path, "0.png", "1.png")
    rows = ["path,label,note", '0.png,a,"two\nlines, or\nthree"', '1.png,b,""']
    (tmp_path / name).write_text("\n".join(rows).replace(",", separator))
    data = open_dataset(tmp_path / name)
    assert labelled(data) == {"all": {"0.png": "a", "1.png": "b"}} and not data.notes


def test_a_group_or_a_label_may_have_lines_too(tmp_path: Path) -> None:
    plant(tmp_path, "0.png", "1.png")
    (tmp_path / "x.csv").write_text(
        'path,label,patient\n0.png,"cat,\nsmall","Main, 3\nCity"\n1.png,b,"Main, 3\nCity"\n'
    )
    data = open_dataset(tmp_path / "x.csv", group="patient")
    assert labelled(data) == {"all": {"0.png": "cat,\\x0asmall", "1.png": "b"}}
    assert data.splits["all"].groups is not None and len(set(data.splits["all"].groups.tolist())) == 1


def test_blanks_before_quoted_cells_are_no_part_of_them(tmp_path: Path) -> None:
    plant(tmp_path, "0.png", "1.png", "2.png")
    for text in (
        'path, label\n"0.png", "a"\n"1.png",  "b"\n"2.png", "a"\n',
        '"path", "label"\n"0.png", "a"\n"1.png", "b" \n"2.png", a\n',
        '"0.png", "a"\n"1.png", "b"\n"2.png", "a"\n',
        'label, path\na, "0.png"\nb, "1.png"\na, "2.png"\n',
    ):
        (tmp_path / "x.csv").write_text(text)
        assert labelled(open_dataset(tmp_path / "x.csv")) == {"all": {"0.png": "a", "1.png": "b", "2.png": "a"}}
    (tmp_path / "x.csv").write_text('path,label\n0.png,"""a"""\n1.png, 5"\n2.png, "b\n')
    assert set(labelled(open_dataset(tmp_path / "x.csv"))["all"].values()) == {'"a"', '5"', '"b'}


@pytest.mark.parametrize("blank", ["\n", "\r\n\n", "  \n", ",\n", "\ufeff\n"])
@pytest.mark.parametrize("head", ["path,label\n", ""])
def test_blank_lines_above_a_table_are_skipped(tmp_path: Path, blank: str, head: str) -> None:
    plant(tmp_path, "0.png", "1.png")
    (tmp_path / "x.csv").write_text(f"{blank}{head}0.png,a\n1.png,b\n", newline="")
    assert labelled(open_dataset(tmp_path / "x.csv")) == {"all": {"0.png": "a", "1.png": "b"}}
