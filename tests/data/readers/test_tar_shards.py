"""WebDataset shards: every sample gets the label beside its image, in whatever form labels are written."""

import io
import json
import random
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from graft import expanding
from graft.data.dataset import Dataset
from graft.data.readers.folder import read_folder
from graft.data.readers.tar_shards import is_tar_shards, read_tar_shards
from graft.errors import DataError


def shard(path: Path, members: dict[str, bytes | str], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode, format=form) as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def labelled(dataset: Dataset) -> dict[str, list[tuple[bytes, str | None]]]:
    """Bytes and class of every image, in order, by split."""
    return {
        split: [(bytes(images.read(row)), dataset.item(split, row).label) for row in range(len(images))]
        for split, images in dataset.splits.items()
    }


def labels(path: Path) -> list[str | None]:
    (images,) = labelled(read_tar_shards(path)).values()
    return [label for _, label in images]


SIX = {"1.jpg": "one", "1.cls": "0", "2.jpg": "two", "2.cls": "1", "3.jpg": "three", "3.cls": "0"}


def test_shards_of_a_folder_are_read_as_the_folder(tmp_path: Path, shared: Path) -> None:
    folder = read_folder(shared / "datasets" / "ants_bees")
    for split, images in folder.splits.items():
        for number in range(0, len(images), 100):
            members: dict[str, bytes | str] = {}
            for row in range(number, min(number + 100, len(images))):
                members[f"{row:06}.jpg"] = bytes(images.read(row))
                members[f"{row:06}.cls"] = str(images.labels[row])
            shard(tmp_path / "x" / f"{split}-{number // 100:06}.tar", members)
    (tmp_path / "x" / "classes.txt").write_text("ants\nbees\n")
    before = sorted((tmp_path / "x").iterdir())
    assert is_tar_shards(tmp_path / "x")
    dataset = read_tar_shards(tmp_path / "x")
    assert dataset.classes == folder.classes and list(dataset.splits) == list(folder.splits)
    assert labelled(dataset) == labelled(folder)
    assert dataset.name == "x" and dataset.notes == () and not dataset.left_out
    assert dataset.splits["val"].name(101) == dataset.splits["val"].key(101) == "val-000001.tar/000101.jpg"
    assert len(set(dataset.splits["train"].stamps())) == 245
    assert sorted((tmp_path / "x").iterdir()) == before


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_one_shard(tmp_path: Path, ending: str) -> None:
    path = shard(tmp_path / f"x.{ending}", SIX)
    assert is_tar_shards(path)
    dataset = read_tar_shards(path)
    assert dataset.name == "x" and dataset.classes == ("0", "1")
    assert labelled(dataset) == {"all": [(b"one", "0"), (b"two", "1"), (b"three", "0")]}


@pytest.mark.parametrize(
    ("ending", "content", "label"),
    [
        ("cls", "7", "7"),
        ("cls", " 007\n", "7"),
        ("cls", "bee", "bee"),
        ("cls", "Ünï 猫\n", "Ünï 猫"),
        ("txt", "ant\n", "ant"),
        ("json", {"label": 3}, "3"),
        ("json", {"class": "bee", "width": 3}, "bee"),
        ("json", {"cls": 4, "__key__": "a"}, "4"),
        ("json", {"label": None, "class": "ant"}, "ant"),
        ("json", "ant", "ant"),
        ("json", 5, "5"),
    ],
)
def test_ways_to_write_a_label(tmp_path: Path, ending: str, content: object, label: str) -> None:
    text = json.dumps(content) if ending == "json" else str(content)
    assert labels(shard(tmp_path / "x.tar", {f"a.{ending}": text, "a.png": b"p", "b.cls": "z", "b.png": b"q"})) == [
        label,
        "z",
    ]


def test_of_several_labels_the_class_counts(tmp_path: Path) -> None:
    members = {"a.txt": "a photograph", "a.json": '{"label": "j"}', "a.cls": "c", "a.jpg": b"p"}
    assert labels(shard(tmp_path / "x.tar", members)) == ["c"]
    del members["a.cls"]
    assert labels(shard(tmp_path / "x.tar", members)) == ["j"]
    members["a.json"] = '{"caption": "a photograph"}'
    assert labels(shard(tmp_path / "x.tar", members)) == ["a photograph"]


def test_the_plain_one_of_several_labels_of_a_kind_counts(tmp_path: Path) -> None:
    members = {"a.color.cls": "red", "a.cls": "ball", "a.shape.cls": "round", "a.jpg": b"p"}
    assert labels(shard(tmp_path / "x.tar", members)) == ["ball"]


def test_labels_of_one_kind_that_say_the_same_are_one(tmp_path: Path) -> None:
    members = {"a.first.cls": "07", "a.second.cls": "7", "a.jpg": b"p", "b.left.cls": "8", "b.left.jpg": b"q"}
    assert labels(shard(tmp_path / "x.tar", members)) == ["7", "8"]


@pytest.mark.parametrize(
    ("ending", "first", "second"), [("cls", "round", "red"), ("txt", "3", "4"), ("json", '{"label": 3}', '{"cls": 4}')]
)
def test_different_labels_of_one_kind_in_a_sample_are_refused(
    tmp_path: Path, ending: str, first: str, second: str
) -> None:
    path = shard(tmp_path / "x.tar", {f"a.shape.{ending}": first, f"a.Color.{ending.upper()}": second, "a.jpg": b"p"})
    got = rf"got \.color\.{ending} .* and \.shape\.{ending} .*: pack the one to learn as \.{ending}"
    with pytest.raises(DataError, match=rf"one label for the sample 'a' in x\.tar, {got}"):
        read_tar_shards(path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("classes.txt", "zebra\nant\n\n"),
        ("labels.txt", "\ufeffzebra\r\nant\r\n"),
        ("classnames.txt", "zebra\nant"),
        ("classes.json", '["zebra", "ant"]'),
        ("_info.json", '{"splits": {}, "classes": ["zebra", "ant"]}'),
        ("dataset_info.json", '{"features": {"label": {"names": ["zebra", "ant"]}}}'),
    ],
)
def test_numbers_are_places_in_a_list(tmp_path: Path, file: str, content: str) -> None:
    shard(tmp_path / "x" / "train-0.tar", SIX)
    (tmp_path / "x" / file).write_text(content)
    for path in (tmp_path / "x", tmp_path / "x" / "train-0.tar"):
        assert labels(path) == ["zebra", "ant", "zebra"]
        assert read_tar_shards(path).classes == ("zebra", "ant")


def test_a_list_that_is_too_short_is_noted_and_not_used(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", SIX | {"4.jpg": "four", "4.cls": "10"})
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    dataset = read_tar_shards(path)
    assert dataset.classes == ("0", "1", "10")
    assert dataset.notes == ("classes.txt lists 2 classes but the labels go up to 10: it was not used",)


def test_a_list_beside_names_is_not_used(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", {"1.jpg": "p", "1.cls": "bee", "2.jpg": "q", "2.cls": "0"})
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    assert labels(path) == ["bee", "0"]


def test_two_classes_of_one_name_stay_two(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", SIX)
    (tmp_path / "classes.txt").write_text("crane\ncrane\n")
    assert read_tar_shards(path).classes == ("crane (0)", "crane (1)")


@pytest.mark.parametrize("names", [("train-000.tar", "val-000.tar"), ("train/000.tar", "valid/000.tar")])
def test_splits_by_file_and_by_folder(tmp_path: Path, names: tuple[str, str]) -> None:
    train, val = names
    shard(tmp_path / train, {"1.jpg": "a", "1.cls": "x"})
    shard(tmp_path / train.replace("000", "001"), {"1.jpg": "b", "1.cls": "y"})
    shard(tmp_path / val, {"1.jpg": "c", "1.cls": "y"})
    assert is_tar_shards(tmp_path)
    assert labelled(read_tar_shards(tmp_path)) == {"train": [(b"a", "x"), (b"b", "y")], "val": [(b"c", "y")]}


def test_the_split_may_stand_within_the_name(tmp_path: Path) -> None:
    shard(tmp_path / "imagenet1k-train-0000.tar", {"1.jpg": "a", "1.cls": "x"})
    shard(tmp_path / "imagenet1k-validation-00.tar", {"1.jpg": "c", "1.cls": "x"})
    assert set(read_tar_shards(tmp_path).splits) == {"train", "val"}


def test_a_shard_named_after_no_split_among_others_is_refused(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", SIX)
    shard(tmp_path / "more.tar", SIX)
    with pytest.raises(DataError, match=r"named after its split, got more\.tar: rename or move"):
        read_tar_shards(tmp_path)


@pytest.mark.parametrize(
    "members",
    [
        {"train/ants/1.jpg": "p", "train/bees/2.jpg": "q"},
        {"ants/1.jpg": "p", "readme.txt": "x", "meta.json": "{}"},
        {"1.cls": "0", "2.cls": "1"},
        {"1.jpg": "p", "2.cls": "1"},
        {},
    ],
)
def test_a_tar_of_something_else_is_no_shard(tmp_path: Path, members: dict[str, bytes | str]) -> None:
    assert not is_tar_shards(shard(tmp_path / "x.tar", members))


def test_what_is_no_shard_is_told_without_reading_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1200):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    (tmp_path / "train").mkdir()
    (tmp_path / "x.tar").write_bytes(b"no tar file " * 100)
    (tmp_path / "empty.tar").write_bytes(b"")
    opened = []
    opening = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *args, **kwargs: (opened.append(self), opening(self, *args, **kwargs))[1]
    )
    assert not any(map(is_tar_shards, [tmp_path, tmp_path / "0.jpg", tmp_path / "x.tar", tmp_path / "empty.tar"]))
    assert all(path.suffix == ".tar" for path in opened) and len(opened) < 20


def test_a_shard_beside_folders_of_images_does_not_hide_them(tmp_path: Path) -> None:
    shard(tmp_path / "backup.tar", SIX)
    (tmp_path / "train" / "ants").mkdir(parents=True)
    (tmp_path / "train" / "ants" / "1.jpg").write_bytes(b"p")
    assert not is_tar_shards(tmp_path)


def test_what_is_no_sample_is_left_out_by_name(tmp_path: Path) -> None:
    path = shard(
        tmp_path / "x.tar",
        {
            "a/1.jpg": "p",
            "a/1.cls": "x",
            "a/2.jpg": "no label",
            "a/3.cls": "x",
            "a/4.jpg": "label empty",
            "a/4.txt": " \n",
            "a/5.jpg": "bad json",
            "a/5.json": "{",
            "a/6.jpg": "deep json",
            "a/6.json": "[" * 100_000,
            "a/7.jpg": "unlabelled",
            "a/7.cls": "-1",
            "a/8.jpg": "label is a list",
            "a/8.json": '{"label": [1]}',
            "readme": "no extension",
            "._a/9.jpg": "hidden",
            "a/1.npy": "not beside its image",
        },
    )
    dataset = read_tar_shards(path)
    assert labelled(dataset) == {"all": [(b"p", "x")]}
    assert dataset.left_out == {
        "x.tar/a/2.jpg": "it has no label",
        "x.tar/a/3.cls": "there is no image with this key",
        "x.tar/a/4.jpg": "it has no label",
        "x.tar/a/5.jpg": "its label in JSON cannot be read",
        "x.tar/a/6.jpg": "its label in JSON cannot be read",
        "x.tar/a/7.jpg": "it has no label",
        "x.tar/a/8.jpg": "it has no label",
        "x.tar/readme": "its name has no extension, so it belongs to no sample",
        "x.tar/a/1.npy": "there is no image with this key",
    }
    assert len(dataset.notes) == 1 and "9 files in shards left out" in dataset.notes[0]


def test_of_several_images_the_first_by_name_counts(tmp_path: Path) -> None:
    members = {"1.right.jpg": "r", "1.left.jpg": "l", "1.cls": "x", "1.npy": "n", "2.jpg": "p", "2.cls": "x"}
    dataset = read_tar_shards(shard(tmp_path / "x.tar", members))
    assert labelled(dataset) == {"all": [(b"l", "x"), (b"p", "x")]}
    assert dataset.notes == ("1 sample has several images, of which the first by name is used: x.tar/1.left.jpg",)


def test_nothing_to_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images beside their labels .* got none in 1 shard \(it has no label\)"):
        read_tar_shards(shard(tmp_path / "x.tar", {"1.jpg": "p"}))


def test_a_path_that_leads_out_is_refused_by_name(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", SIX | {"../evil.jpg": "p", "../evil.cls": "1"})
    assert is_tar_shards(path)
    with pytest.raises(DataError, match=r"expected paths inside x\.tar, got '\.\./evil\.jpg'"):
        read_tar_shards(path)


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
@pytest.mark.parametrize("cut", range(100, 16_000, 900))
def test_a_shard_that_is_cut_off_gives_its_whole_samples(tmp_path: Path, ending: str, cut: int) -> None:
    noise = {f"{number:02}": random.Random(number).randbytes(700) for number in range(8)}
    members: dict[str, bytes | str] = {}
    for key, data in noise.items():
        members |= {f"{key}.jpg": data, f"{key}.cls": f"c{int(key) % 2}"}
    path = shard(tmp_path / "train" / f"1.{ending}", members)
    shard(tmp_path / "train" / f"0.{ending}", SIX)
    path.write_bytes(path.read_bytes()[:cut])
    dataset = read_tar_shards(tmp_path)
    found = labelled(dataset)["train"]
    whole = [(data, f"c{int(key) % 2}") for key, data in noise.items()]
    assert found[:3] == [(b"one", "0"), (b"two", "1"), (b"three", "0")] and found[3:] == whole[: len(found) - 3]
    if ending == "tar":
        # A sample takes five blocks of 512 bytes; the last begins with the two bytes of its label.
        assert len(found) - 3 == sum(cut >= 2560 * number + 2048 + 2 for number in range(8))
    if len(found) < 11:
        assert any(f"train/1.{ending} is not whole" in note and "fetch it again" in note for note in dataset.notes)
        assert all(name.startswith(f"train/1.{ending}") for name in dataset.left_out)


def test_a_shard_that_is_no_tar_among_others_is_named(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", SIX)
    (tmp_path / "train-1.tar").write_bytes(b"")
    (tmp_path / "train-2.tar").write_bytes(b"<html>not found</html>" * 100)
    dataset = read_tar_shards(tmp_path)
    assert len(dataset) == 3
    assert dataset.left_out == {
        f"train-{number}.tar": "the shard is not whole: it is not a tar file" for number in (1, 2)
    }
    assert [note.split(" (")[0] for note in dataset.notes[:2]] == [
        f"train-{number}.tar is not whole" for number in (1, 2)
    ]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names(tmp_path: Path, form: int) -> None:
    key = "/".join(["folder" * 5] * (4 if form == tarfile.USTAR_FORMAT else 20)) + "/" + "k" * 60
    dataset = read_tar_shards(shard(tmp_path / "x.tar", {f"{key}.jpg": "p", f"{key}.cls": "x"} | SIX, form))
    assert dataset.splits["all"].key(0) == f"x.tar/{key}.jpg" and dataset.splits["all"].read(0) == b"p"


def test_an_image_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expanding, "MAX_BYTES", 1000)
    images = read_tar_shards(shard(tmp_path / "x.tar", SIX | {"4.jpg": bytes(1001), "4.cls": "0"})).splits["all"]
    assert images.read(0) == b"one"
    with pytest.raises(OSError, match="at most 1,000 bytes"):
        images.read(3)


def test_compressed_shards_that_the_cache_has_no_room_for_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GRAFT_CACHE_BYTES", "25000")
    for number in range(3):
        shard(tmp_path / "x" / f"{number}.tar.gz", {f"{number}.jpg": f"{number}", f"{number}.cls": "1"})
    with pytest.raises(DataError, match=r"room in the cache for the content of 2\.tar\.gz"):
        read_tar_shards(tmp_path / "x")
    monkeypatch.setenv("GRAFT_CACHE_BYTES", "35000")
    assert len(read_tar_shards(tmp_path / "x")) == 3


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.xz"])
def test_threads_read_several_shards_in_any_order(tmp_path: Path, ending: str) -> None:
    for number in range(4):
        members: dict[str, bytes | str] = {}
        for row in range(20):
            key = f"{number}{row:02}"
            members |= {f"{key}.cls": str(row % 3), f"{key}.jpg": random.Random(key).randbytes(3000)}
        shard(tmp_path / f"train-{number}.{ending}", members)
    images = read_tar_shards(tmp_path).splits["train"]
    rows = list(range(80)) * 2
    random.Random(0).shuffle(rows)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(images.read, rows))
    for row, data in zip(rows, found, strict=True):
        assert data == random.Random(Path(images.key(row)).stem).randbytes(3000)
