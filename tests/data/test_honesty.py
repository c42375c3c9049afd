"""Whatever the data look like: no label shifts, no group straddles, and nothing is lost without being named."""

import tarfile
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.data.dataset import Dataset, together
from graft.data.grouping import joined
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
from graft.errors import DataError

NAMES = st.text("ab1 .-éß猫,'\";", min_size=1, max_size=4).map(str.strip).filter(lambda name: name.strip("."))
SPLITS = st.sampled_from(["train", "val", "valid", "test", ""])


def quoted(*cells: str) -> str:
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)


def names(dataset: Dataset) -> Counter[tuple[str, str | None]]:
    """Every image with its label, through all splits."""
    found = (dataset.item(split, index) for split, part in dataset.splits.items() for index in range(len(part)))
    return Counter((Path(item.name).name, item.label) for item in found)


def check_split(opened: Dataset, truth: dict[str, set[str]]) -> None:
    """Check that carved splits keep the files' labels, and have no group on both sides."""
    try:
        split = with_validation(opened, seed=1)
    except DataError as error:
        assert str(error).startswith("expected")
        return
    for name, label in names(split):
        assert label in truth[name]
    assert sum(names(split).values()) + _of_other_splits(opened, split) == len(opened)
    carved = "val" not in opened.splits or not len(opened.splits["val"])
    train, val = split.splits["train"], split.splits["val"]
    if carved and train.groups is not None and val.groups is not None:
        assert not set(train.groups.tolist()) & set(val.groups.tolist())


def _of_other_splits(opened: Dataset, split: Dataset) -> int:
    return sum(len(part) for name, part in opened.splits.items() if name not in ("all", *split.splits))


ROWS = st.lists(
    st.tuples(
        st.integers(0, 9),  # the file
        st.sampled_from(["a", "b", "B", "1", "", " a "]),
        SPLITS,
        st.sampled_from(["", "p", "q", "r"]),
        st.booleans(),  # whether the file is there
    ),
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.booleans(), st.booleans(), st.lists(st.tuples(st.integers(0, 13), st.integers(0, 13)), max_size=3))
def test_no_manifest_shifts_a_label_divides_a_group_or_loses_a_row(
    rows: list[tuple[int, str, str, str, bool]], with_split: bool, with_group: bool, copies: list[tuple[int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        header = ["path", "label", *["split"] * with_split, *["group"] * with_group]
        lines, truth = [quoted(*header)], {}
        for number, label, split, group, exists in rows:
            name = f"{number}.jpg"
            if exists:
                (root / name).write_bytes(b"x")
            lines.append(quoted(name, label, *[split] * with_split, *[group] * with_group))
            truth.setdefault(name, set()).add(label.strip())
        (root / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
        try:
            opened = open_dataset(root / "rows.csv")
        except DataError as error:
            assert str(error).startswith("expected")
            return
        told = " ".join((*opened.notes, *opened.left_out))
        held = names(opened)
        for name, label in held:
            assert label in truth[name]
        for name in truth:
            assert any(name == held_name for held_name, _ in held) or name in told
        in_order = together(opened.splits.values())
        pairs = np.array([pair for pair in copies if max(pair) < len(in_order)], dtype=np.int64).reshape(-1, 2)
        with_copies = joined(opened, pairs)
        if with_copies.splits and (with_group or len(pairs)):
            groups = together(with_copies.splits.values()).groups
            assert groups is None or all(groups[first] == groups[second] for first, second in pairs)
        check_split(with_copies, truth)


TREES = st.lists(
    st.lists(st.one_of(st.sampled_from(["train", "val", "a", "b"]), NAMES), min_size=1, max_size=3), max_size=10
)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@settings(max_examples=60, deadline=None)
@given(tree=TREES)
def test_no_tree_shifts_a_label_or_loses_a_file(kind: str, tree: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "tree"
        root.mkdir()
        files = {}
        for number, parts in enumerate(tree):
            parent = root.joinpath(*parts[:-1])
            if any(above.is_file() for above in [parent, *parent.parents]):
                continue
            parent.mkdir(parents=True, exist_ok=True)
            name = f"{number}.jpg"
            (parent / name).write_bytes(b"x")
            files[name] = parent.relative_to(root).parts
        data = root
        if kind == "zip" and files:
            data = Path(folder) / "tree.zip"
            with zipfile.ZipFile(data, "w") as archive:
                for path in sorted(root.rglob("*")):
                    archive.write(path, path.relative_to(root))
        elif kind == "tar" and files:
            data = Path(folder) / "tree.tar"
            with tarfile.open(data, "w") as archive:
                archive.add(root, ".")
        try:
            opened = open_dataset(data)
        except DataError as error:
            assert str(error).startswith("expected")
            return
        held = names(opened)
        for name, label in held:
            assert label in files[name][:2]
        told = {Path(name).name for name in opened.left_out}
        visible = {name for name, parts in files.items() if not any(part.startswith(".") for part in parts)}
        assert visible <= {name for name, _ in held} | told
        check_split(opened, {name: set(parts[:2]) for name, parts in files.items()})
