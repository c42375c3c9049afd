"""Which column has which role: of columns with one name, those that differ are told of."""

from pathlib import Path

import pytest

from graft.data.opening import open_dataset
from graft.data.table_options import TableOptions


@pytest.mark.parametrize("head", ["path,label,label", "path,label,Label ", "path,species,species"])
def test_a_second_column_of_the_same_name_is_told_of_if_it_differs(tmp_path: Path, head: str) -> None:
    for row in range(4):
        (tmp_path / f"{row}.png").write_bytes(b"%d" % row)
    (tmp_path / "x.csv").write_text(f"{head}\n0.png,a,c\n1.png,b,d\n2.png,a,d\n3.png,b,c\n")
    dataset = open_dataset(tmp_path / "x.csv")
    assert dataset.classes == ("a", "b")
    (note,) = (note for note in dataset.notes if "are called" in note)
    assert "columns 2 and 3 of x.csv" in note and "column 2 was read" in note
    dataset = open_dataset(tmp_path / "x.csv", table=TableOptions(label_column="3"))
    assert dataset.classes == ("c", "d") and not any("are called" in note for note in dataset.notes)
    # Equal cells need no note.
    (tmp_path / "x.csv").write_text(f"{head}\n0.png,a,a\n1.png,b,b\n2.png,a,a\n3.png,b,b\n")
    assert not any("are called" in note for note in open_dataset(tmp_path / "x.csv").notes)


def test_a_second_column_of_paths_or_splits_is_told_of_if_it_differs(tmp_path: Path) -> None:
    for row in range(4):
        (tmp_path / f"{row}.png").write_bytes(b"%d" % row)
    (tmp_path / "x.csv").write_text(
        "path,label,split,split,path\n0.png,a,train,val,3.png\n1.png,b,val,val,2.png\n2.png,a,train,train,1.png\n"
    )
    notes = open_dataset(tmp_path / "x.csv").notes
    assert any("columns 3 and 4 of x.csv are called 'split'" in note for note in notes)
    assert any("columns 1 and 5 of x.csv are called 'path'" in note for note in notes)
