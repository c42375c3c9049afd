"""Audits of real images, as they are and with faults planted in copies of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from patterns import PATTERNS, pattern, saved
from PIL import Image, ImageFilter

from graft.audit import auditing, fine_copies
from graft.audit.auditing import Audit, Copies, Ranking, audit_features, held_out_probabilities, look_over, rank_labels
from graft.audit.contact_sheets import _Album, audit_page
from graft.audit.fix_list import without_faults
from graft.data.dataset import Dataset, Images, together
from graft.data.opening import open_dataset
from graft.data.table_options import TableOptions
from graft.errors import FetchError
from graft.features.engine import choose
from graft.features.extraction import extract
from graft.images.preprocessing import Preprocessing
from graft.progress import NOBODY
from graft.transfer.streamed_head import StoredRows
from graft.weights.base import load_base
from graft.workflows.audit import _size_to_see, audit
from graft.workflows.prepare import BaseOptions


@pytest.fixture
def planted(shared: Path, tmp_path: Path) -> Path:
    """Some photographs of ants and bees, with a fault of every kind that files can have."""
    root = tmp_path / "data"
    for place in ("train/ants", "train/bees", "val/ants", "val/bees"):
        (root / place).mkdir(parents=True)
        for path in sorted((shared / "datasets" / "ants_bees" / place).glob("*.jpg"))[:15]:
            shutil.copyfile(path, root / place / path.name)
    ants = sorted((root / "train" / "ants").iterdir())
    shutil.copyfile(ants[0], root / "train/ants/copy.jpg")
    shutil.copyfile(ants[1], root / "val/ants/leak.jpg")
    shutil.copyfile(ants[2], root / "train/bees/conflict.jpg")
    Image.open(ants[3]).save(root / "train/ants/near.jpg", quality=60)
    Image.open(ants[7]).filter(ImageFilter.GaussianBlur(12)).save(root / "train/ants/blurred.jpg")
    Image.open(ants[5]).save(root / "train/ants/other.jpg", format="png")
    (root / "train/bees/empty.jpg").write_bytes(b"")
    (root / "train/bees/cut.jpg").write_bytes(ants[6].read_bytes()[:2000])
    shutil.copyfile(shared / "datasets/ants_bees/train/ants/imageNotFound.gif", root / "val/bees/gone.gif")
    (root / "notes.txt").write_text("of this and that")
    return root


def names(found: Audit, kind: str) -> set[str]:
    return {Path(path).name for finding in found.findings if finding.kind == kind for path in finding.paths}


def test_every_planted_fault_is_named(planted: Path) -> None:
    found = audit(planted, with_features=False)
    assert names(found, "unreadable") == {"empty.jpg", "cut.jpg"}
    assert names(found, "placeholder") == {"gone.gif"}
    assert names(found, "blurry") == {"blurred.jpg"}
    assert names(found, "wrong_extension") == {"other.jpg"}
    assert names(found, "left_out") == {"notes.txt"}
    assert {"copy.jpg", "leak.jpg", "conflict.jpg"} < names(found, "exact_duplicates")
    assert "near.jpg" in names(found, "near_duplicates")
    assert "leak.jpg" in names(found, "split_leakage") and len(names(found, "split_leakage")) == 2
    assert "conflict.jpg" in names(found, "label_conflict") and len(names(found, "label_conflict")) == 2
    severities = [finding.severity for finding in found.findings]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)


def test_copies_are_in_one_group_afterwards(planted: Path) -> None:
    found = audit(planted, with_features=False)
    groups = {
        Path(part.name(row)).name: int(part.groups[row])
        for part in found.dataset.splits.values()
        if part.groups is not None
        for row in range(len(part))
    }
    first, second = sorted(path.name for path in (planted / "train/ants").iterdir())[:2]
    assert groups["copy.jpg"] == groups[first] != groups["leak.jpg"] == groups[second]


def test_the_audit_as_json_has_what_the_design_says(planted: Path) -> None:
    found = json.loads(json.dumps(audit(planted, with_features=False).to_dict()))
    assert found["items"] == sum(found["classes"].values()) == 69
    assert list(found["classes"]) == ["ants", "bees"]
    for finding in found["findings"]:
        assert {"kind", "severity", "paths", "message"} <= set(finding) <= {*finding, "groups"}


def test_the_page_shows_images_of_every_finding(planted: Path) -> None:
    found = audit(planted, with_features=False)
    page = audit_page(found).decode()
    assert page.count("<section") == len(found.findings)
    assert page.count('class="group"') == sum(len(finding.groups) for finding in found.findings)
    assert "notes.txt" in page and "gone.gif" in page
    assert "expected an image" in page  # why one cannot be decoded


def test_of_the_untouched_photographs_the_placeholder_is_named_and_nothing_absurd(shared: Path) -> None:
    found = audit(shared / "datasets" / "ants_bees", with_features=False)
    assert names(found, "placeholder") == {"imageNotFound.gif"}
    kinds = {finding.kind for finding in found.findings}
    assert kinds <= {"placeholder", "low_information", "odd_aspect_ratio", "odd_size", "grey"}
    assert sum(len(finding.paths) for finding in found.findings) <= 8


@pytest.mark.parametrize("data", ["pacs_sketch"])
def test_sketches_are_not_all_called_light_grey_or_empty(data: str, shared: Path) -> None:
    found = audit(shared / "datasets" / data, with_features=False)
    assert {finding.kind for finding in found.findings} == {"missing_class"}


def test_drawn_members_of_a_class_are_a_hint_and_the_fix_list_keeps_them(shared: Path) -> None:
    found = audit(shared / "datasets" / "textures", with_features=False)
    assert not [finding for finding in found.findings if finding.severity == "error"]
    assert len(names(found, "possible_placeholder")) == 6
    assert len(without_faults(found.dataset, found.findings)) == len(found.dataset)


def test_blood_cells_have_one_cell_under_two_labels_and_nothing_else_that_is_dropped(
    shared: Path, tmp_path: Path
) -> None:
    folder = shared / "datasets" / "blood_cells"
    with (folder / "Class Labels.csv").open() as file:
        rows = [line.strip().split(",") for line in list(file)[1:]]
    table = tmp_path / "cells.csv"
    lines = [f"{folder.resolve()}/images/{int(number):03d}.bmp,{label}" for number, label in rows]
    table.write_text("\n".join(["path,label", *lines]))
    found = audit(table, with_features=False)
    errors = {finding.kind for finding in found.findings if finding.severity == "error"}
    assert errors == {"label_conflict"} and names(found, "label_conflict") == {"060.bmp", "090.bmp"}
    # A file that has another's content is all that goes: near copies under two labels stay.
    assert len(without_faults(found.dataset, found.findings)) == len(found.dataset) - 1


def test_single_strokes_that_cannot_be_told_apart_are_no_copies(shared: Path) -> None:
    opened = open_dataset(shared / "datasets" / "mnist")
    train = opened.splits["train"]
    ones = train.take(np.flatnonzero(train.labels == 1)[:700])
    looked = look_over(replace(opened, splits={"train": ones}), Preprocessing(28, (0.5,) * 3, (0.5,) * 3), NOBODY)
    assert not {"near_duplicates", "label_conflict", "split_leakage"} & {each.kind for each in looked.findings}


def test_without_the_weights_at_hand_the_audit_goes_on_and_says_so(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **options: object) -> None:
        raise FetchError("expected weights, got no network: fetch them")

    monkeypatch.setattr("graft.workflows.prepare.load_base", offline)
    found = audit(planted)
    assert names(found, "placeholder") == {"gone.gif"}
    assert any("likely wrong labels and outliers were not looked for" in note for note in found.notes)


@pytest.fixture(scope="module")
def cifar(request: pytest.FixtureRequest) -> tuple[Dataset, np.ndarray]:
    """CIFAR-10's first 1,500 images and ResNet-20's features of them."""
    shared = request.getfixturevalue("shared")
    opened = open_dataset(shared / "datasets" / "cifar10")
    some = replace(opened, splits={"all": opened.splits["train"].take(np.arange(1500))})
    base = load_base(str(shared / "weights" / "resnet20-12fca82f.th"))
    trunk, _ = base.network.split(base.network.cuts[-2])
    found = extract(trunk.eval(), some.splits, base.preprocessing, choose("torch", "float32"), use_cache=False)
    return some, found["all"].values.numpy()


def with_labels(data: Dataset, labels: np.ndarray, groups: np.ndarray | None = None) -> Dataset:
    return replace(data, splits={"all": replace(data.splits["all"], labels=labels, groups=groups)})


def test_most_labels_that_were_flipped_are_among_the_first_suspects(cifar: tuple[Dataset, np.ndarray]) -> None:
    data, features = cifar
    labels = data.splits["all"].labels.copy()
    random = np.random.default_rng(0)
    flipped = random.choice(1500, 75, replace=False)
    labels[flipped] = (labels[flipped] + random.integers(1, 10, 75)) % 10
    findings, suspects = audit_features(with_labels(data, labels), np.arange(1500), features, seed=0)
    wrong = {data.splits["all"].name(row) for row in flipped.tolist()}
    assert len({suspect.path for suspect in suspects[:75]} & wrong) >= 0.75 * 75
    (named,) = (finding for finding in findings if finding.kind == "likely_wrong_label")
    assert len(set(named.paths) & wrong) >= 0.9 * len(named.paths)
    assert len(named.paths) > 20
    assert [suspect.confidence for suspect in suspects] == sorted(suspect.confidence for suspect in suspects)


def test_of_few_images_those_whose_labels_are_least_likely_are_shown(cifar: tuple[Dataset, np.ndarray]) -> None:
    data, features = cifar
    few = np.arange(300)
    labels = data.splits["all"].labels[few].copy()
    flipped = np.random.default_rng(1).choice(300, 24, replace=False)
    labels[flipped] = (labels[flipped] + 3) % 10
    some = replace(data, splits={"all": replace(data.splits["all"].take(few), labels=labels)})
    findings, suspects = audit_features(some, few, features[few], seed=0)
    wrong = {some.splits["all"].name(row) for row in flipped.tolist()}
    named = {finding.kind: finding for finding in findings}
    shown = named["doubtful_label"]
    certain = named["likely_wrong_label"].paths if "likely_wrong_label" in named else ()
    assert shown.severity == "info" and not {*shown.paths} & {*certain}
    # Worst first, as in the ranking.
    assert [*shown.paths] == [each.path for each in suspects if each.confidence <= 0.2 and not each.contradicted][:100]
    assert len(wrong & {*shown.paths[:24], *certain}) >= 12


def test_of_untouched_labels_few_are_named(cifar: tuple[Dataset, np.ndarray]) -> None:
    data, features = cifar
    findings, _ = audit_features(data, np.arange(1500), features, seed=0)
    assert sum(len(finding.paths) for finding in findings if finding.kind == "likely_wrong_label") <= 0.005 * 1500


def test_a_copy_of_a_wrongly_labelled_image_does_not_vouch_for_it(cifar: tuple[Dataset, np.ndarray]) -> None:
    data, features = cifar
    images, features = data.splits["all"].take(np.arange(300)), features[:300]
    first = int(np.flatnonzero(images.labels == 1)[0])
    # Thirty copies of an automobile, all labelled so that every fold has some, say that it is a frog.
    rows = np.concatenate([np.arange(300), np.full(30, first)])
    labels = np.where(np.arange(330) < 300, images.labels[rows], 6)
    groups = np.where(np.arange(330) < 300, np.arange(330), first)
    labels[first] = 6

    def confidence(given: np.ndarray | None) -> float:
        shown = Images(images.source, rows, labels, given)
        judged, probabilities = held_out_probabilities(features[rows], shown, 0)
        return float(probabilities[judged == first, 6][0])

    assert confidence(groups) < 0.1 < 0.5 < confidence(None)


def test_a_class_that_is_in_one_fold_is_not_judged_and_an_image_without_label_neither(
    cifar: tuple[Dataset, np.ndarray],
) -> None:
    data, features = cifar
    images = data.splits["all"].take(np.arange(200))
    labels, groups = images.labels.copy(), np.arange(200)
    rare = np.flatnonzero(labels == 3)
    groups[rare] = rare[0]
    labels[np.flatnonzero(labels == 4)[0]] = -1
    labels[np.flatnonzero(labels == 5)[1:]] = 6
    judged, probabilities = held_out_probabilities(features[:200], replace(images, labels=labels, groups=groups), 0)
    assert not np.isin(labels[judged], [-1, 3, 5]).any()
    assert len(judged) == (~np.isin(labels, [-1, 3, 5])).sum() == len(probabilities)
    alone = replace(images, labels=np.zeros(200, np.int64), groups=None)
    assert not len(held_out_probabilities(features[:200], alone, 0)[0])


def test_features_in_storage_are_judged_as_in_memory(cifar: tuple[Dataset, np.ndarray]) -> None:
    data, features = cifar
    labels = data.splits["all"].labels.copy()
    labels[::20] = (labels[::20] + 1) % 10
    stored = StoredRows((torch.from_numpy(features[:700]), torch.from_numpy(features[700:])))
    flipped, every = with_labels(data, labels), np.arange(1500)
    findings, suspects = audit_features(flipped, every, features, seed=0)
    assert audit_features(flipped, every, stored, seed=0) == (findings, suspects)
    assert {finding.kind for finding in findings} >= {"likely_wrong_label"}


def test_labels_are_ranked_the_same_in_blocks(
    cifar: tuple[Dataset, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, features = cifar
    labels = data.splits["all"].labels.copy()
    labels[::20] = (labels[::20] + 1) % 10
    shown = with_labels(data, labels).splits["all"]
    whole = rank_labels(shown, data.classes, features, 0)
    monkeypatch.setattr("graft.transfer.held_out.BLOCK", 10_000)
    parts = rank_labels(shown, data.classes, features, 0)
    assert parts.rows == whole.rows and sum(each.contradicted for each in whole.suspects) > 20
    assert [each.contradicted for each in parts.suspects] == [each.contradicted for each in whole.suspects]
    assert parts.share_wrong == pytest.approx(whole.share_wrong, abs=1e-4)


def test_images_without_a_label_among_the_others_change_no_judgement(cifar: tuple[Dataset, np.ndarray]) -> None:
    data, features = cifar
    labels = data.splits["all"].labels.copy()
    labels[::20] = (labels[::20] + 1) % 10
    labels[5::6] = -1
    labelled = np.flatnonzero(labels >= 0)
    shown = with_labels(data, labels).splits["all"]
    mixed, alone = (
        rank_labels(images, data.classes, x, 0)
        for images, x in ((shown, features), (shown.take(labelled), features[labelled]))
    )
    assert mixed.suspects == alone.suspects and mixed.rows == tuple(labelled[list(alone.rows)].tolist())
    assert sum(each.contradicted for each in mixed.suspects) > 10


def test_images_of_one_group_are_not_judged_and_of_few_only_by_others(cifar: tuple[Dataset, np.ndarray]) -> None:
    data, features = cifar
    labels = data.splits["all"].labels
    alone = with_labels(data, labels, np.zeros(1500, np.int64)).splits["all"]
    assert rank_labels(alone, data.classes, features, 0) == Ranking((), (), 0.0)
    # Features that tell the group, and labels that are the group's: nobody else knows them.
    groups = np.arange(1500) // 500
    told = np.eye(3, dtype=np.float32)[groups]
    judged, _ = held_out_probabilities(told, with_labels(data, groups, groups).splits["all"], 0)
    assert not len(judged)


def test_that_no_label_can_be_judged_is_noted(shared: Path) -> None:
    data = open_dataset(shared / "datasets" / "ants_bees")
    images = together(data.splits.values()).take(np.arange(0, 300, 25))
    base = BaseOptions(str(shared / "weights" / "mobilenet_v1_025_imagenet.safetensors"), image_size=64)
    noted = []
    for groups in (None, np.zeros(len(images), np.int64)):
        given = replace(data, splits={"all": replace(images, groups=groups)})
        noted.append(any("likely wrong labels are not looked for" in each for each in audit(given, base).notes))
    assert noted == [False, True]


@pytest.mark.parametrize(("side", "seen"), [(28, 96), (32, 96), (60, 192), (500, 224)])
def test_small_images_are_not_enlarged_more_than_tells_anything(side: int, seen: int) -> None:
    # The last one could not be decoded.
    looks = SimpleNamespace(
        width=np.array([side] * 4 + [0]), height=np.array([2 * side] * 4 + [0]), decoded=np.arange(5) < 4
    )
    assert _size_to_see(224, looks) == seen  # type: ignore[arg-type]


def test_deep_images_are_shown_as_a_network_sees_them(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for number in range(4):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        # 12 bits in 16, of which nothing but the high byte would be nearly black.
        Image.fromarray(noise.integers(0, 4096, (40, 40), np.uint16)).save(path)
    found = audit(tmp_path, with_features=False)
    assert found.levels == (("uint16", 0, 4095),)
    shown = _Album(found.dataset, found.levels).tile(0).pixels
    assert shown is not None and np.abs(shown.astype(float).mean() - 127.5) < 20


def test_copies_that_join_groups_are_named_and_look_alikes_join_none(tmp_path: Path) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (12, 7, 7, 3), dtype=np.uint8)
    images = [Image.fromarray(each).resize((96, 96), Image.Resampling.BICUBIC) for each in coarse]
    rows = ["path,label,plate"]
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]},{number % 3}")
    (tmp_path / "plates.csv").write_text("\n".join(rows))
    asked, plain = TableOptions(group_column="plate"), Preprocessing(32, (0.5,) * 3, (0.5,) * 3)
    alone = look_over(open_dataset(tmp_path / "plates.csv", table=asked), plain, NOBODY)
    assert not any("join" in note for note in alone.dataset.notes)
    # A copy of an image of plate 0 in plate 1, and a drawing that looks alike in both.
    images[0].save(tmp_path / "copy.png")
    rows.append("copy.png,a,1")
    (tmp_path / "plates.csv").write_text("\n".join(rows))
    found = look_over(open_dataset(tmp_path / "plates.csv", table=asked), plain, NOBODY)
    (note,) = (note for note in found.dataset.notes if "join" in note)
    assert "2 images with copies in other groups" in note and "join 3 groups to 2" in note and "copy.png" in note
    (split,) = found.dataset.splits.values()
    assert len(np.unique(split.groups)) == 2
    copies = Copies(np.empty((0, 2), np.int64), np.array([[0, 1], [0, 3]]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auditing, "find_copies", lambda *_: copies)
        found = look_over(open_dataset(tmp_path / "plates.csv", table=asked), plain, NOBODY)
    (split,) = found.dataset.splits.values()
    assert len(np.unique(split.groups)) == 3


def test_copies_of_fine_patterns_are_found_and_those_not_compared_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, content in enumerate([*PATTERNS, saved(pattern(2), 60)]):
        file = tmp_path / "ab"[number % 2] / f"{number}.jpg"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else b"")
    plain = Preprocessing(32, (0.5,) * 3, (0.5,) * 3)
    found = look_over(open_dataset(tmp_path), plain, NOBODY)
    (finding,) = (each for each in found.findings if each.kind == "near_duplicates")
    assert {Path(path).name for path in finding.paths} == {"2.jpg", "8.jpg"}
    assert not any("not compared" in note for note in found.dataset.notes)
    monkeypatch.setattr(fine_copies, "MOST_IMAGES", 7)
    found = look_over(open_dataset(tmp_path), plain, NOBODY)
    (note,) = (note for note in found.dataset.notes if "not compared" in note)
    assert note.startswith("2 images with nothing but fine detail, such as ")
