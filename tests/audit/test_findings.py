"""Findings that need no look at the images."""

from dataclasses import replace

from looked_at import dataset

from graft.audit.findings import Finding, class_findings, left_out


def kinds(findings) -> dict[str, Finding]:
    return {finding.kind: finding for finding in findings}


def test_classes_of_like_size_are_no_finding() -> None:
    assert not list(class_findings(dataset(train=[0] * 12 + [1] * 15, val=[0, 1])))


def test_a_rare_class_is_named_with_its_figures() -> None:
    found = kinds(class_findings(dataset(all=[0] * 380 + [1] * 20)))
    # A twentieth of the images is a tenth of an equal share: not yet less.
    assert "class_imbalance" not in found
    found = kinds(class_findings(dataset(all=[0] * 381 + [1] * 19)))
    assert "'a' has 20 times as many images as 'b' (381 and 19)" in found["class_imbalance"].message
    assert "tiny_class" not in found


def test_a_tiny_class_is_counted_in_train_and_a_class_missing_from_val_is_named() -> None:
    found = kinds(class_findings(dataset(train=[0] * 20 + [1] * 9, val=[0] * 9)))
    assert "1 class has fewer than 10 images in train: 'b' (9)" in found["tiny_class"].message
    assert "val has no images of 1 class: 'b'" in found["missing_class"].message


def test_what_is_in_no_split_is_named_with_its_reason() -> None:
    data = replace(dataset(all=[0, 1]), left_out={"a.txt": "it is in no class folder", "b.txt": "no such file"})
    (finding,) = left_out(data)
    assert finding.paths == ("a.txt", "b.txt")
    assert "2 files or rows are in no split" in finding.message
    assert "no such file (1)" in finding.message
    assert not list(left_out(dataset(all=[0, 1])))


def test_as_json_groups_are_lists_of_names() -> None:
    finding = Finding("near_duplicates", "warning", "so", ("a", "b", "c", "d"), (0, 1, 2, 3), ((0, 1), (2, 3)))
    assert finding.to_dict() == {
        "kind": "near_duplicates",
        "severity": "warning",
        "paths": ["a", "b", "c", "d"],
        "message": "so",
        "groups": [["a", "b"], ["c", "d"]],
    }
    assert set(Finding("tiny_class", "warning", "so").to_dict()) == {"kind", "severity", "paths", "message"}
