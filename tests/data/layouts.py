"""Layouts of folders as people have them, and what each must be understood as, or the sentence it must raise.

Paths are written short: `train/cat/*3` is three images in that folder, `cat/` an empty folder, and any other path one
file, an image unless its ending says otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Layout:
    """Paths, and the number of images of each class in each split; `said` is in a note, or in the error if `refused`.

    `left_out` counts the files that are in no split.
    """

    name: str
    paths: tuple[str, ...]
    understood: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    said: str = ""
    left_out: int = 0
    refused: bool = False
    # Archives hide what a Mac adds, and have no links.
    folder_only: bool = False


def image() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), 128, np.uint8)).save(file, "PNG")
    return file.getvalue()


def files_of(paths: tuple[str, ...]) -> dict[str, bytes]:
    """Content by path; a path that ends in a slash is an empty folder."""
    found: dict[str, bytes] = {}
    for path in paths:
        folder, star, count = path.rpartition("*")
        if star and count.isdigit():
            prefix = folder.strip("/").replace("/", "-")
            found |= {f"{folder}{prefix}{number}.png": image() for number in range(int(count))}
        else:
            found[path] = image() if path.endswith((".png", ".jpg", ".bmp", ".JPEG")) else b"text"
    return found


TWO = {"cat": 2, "dog": 2}
BOTH = {"train": TWO, "test": TWO}


def _split(train: str, test: str, meant: str = "test") -> Layout:
    """A layout with two split folders of these names; `meant` is the split that the second stands for."""
    paths = (f"{train}/cat/*2", f"{train}/dog/*2", f"{test}/cat/*2", f"{test}/dog/*2")
    return Layout(f"{train} and {test}", paths, {"train": TWO, meant: TWO})


def _thumbnail(image: str, form: str) -> str:
    folder, _, name = image.rpartition("/")
    return f"{folder}/{form.format(name)}"


SPLITS = (
    _split("train", "test"),
    _split("training_set", "test_set"),
    _split("Training", "Testing"),
    _split("seg_train", "seg_test"),
    _split("train", "eval", "val"),
    _split("train", "dev", "val"),
    _split("train", "holdout"),
    _split("train", "hold-out"),
    _split("train", "test1"),
    _split("train_images", "test_images"),
    _split("trainset", "testset"),
    _split("trainset", "valset", "val"),
    _split("Training Set", "Validation Set", "val"),
    _split("dataset_train", "dataset_val", "val"),
    _split("TrainData", "ValData", "val"),
    _split("train2017", "val2017", "val"),
    _split("flowers_train", "flowers_test"),
    _split("train-images-512", "test-images-512"),
    _split("1_train", "2_test"),
    _split("Final_Training", "Final_Test"),
    _split("Training", "Final_Test"),
    _split("Training", "PublicTest", "val"),
    _split("Training", "PrivateTest"),
    _split("训练集", "测试集"),
    Layout(
        "three splits of one set",
        (
            "seg_train/seg_train/cat/*2",
            "seg_train/seg_train/dog/*2",
            "seg_test/seg_test/cat/*1",
            "seg_pred/seg_pred/*3",
        ),
        {"train": TWO, "test": {"cat": 1, "dog": 0}},
        "seg_pred/seg_pred' was left out, since it has no class folders",
        3,
    ),
    Layout(
        "train beside what systems and trainings leave",
        (
            *("train/cat/*2", "train/dog/*2", "__MACOSX/train/x.png"),
            *("runs/exp/args.yaml", "runs/exp/results.png", "models/best.pt"),
        ),
        {"train": TWO},
        "'models' holds no images",
        4,
        folder_only=True,
    ),
    Layout(
        "splits in a wrapper beside a test folder without classes",
        ("Data/Data/train/cat/*2", "Data/Data/train/dog/*2", "Data/Data/valid/cat/*1", "test/test/*3"),
        {"train": TWO, "val": {"cat": 1, "dog": 0}},
        "folder 'test' was left out, since it has no class folders",
        3,
    ),
    Layout(
        "a test folder without classes in one of its own name",
        ("signs_train/signs_train/cat/*2", "signs_train/signs_train/dog/*2", "signs_test/signs_test/*3"),
        {"train": TWO},
        "'signs_test/signs_test' was left out, since it has no class folders",
        3,
    ),
    _split("TRAIN", "teST"),
    Layout(
        "splits of three spellings", ("train/a/*1", "val/a/*1", "valid/a/*1"), said="val, valid: merge", refused=True
    ),
    Layout(
        "val as val and as evaluation",
        ("train/a/*1", "val/a/*1", "eval/a/*1", "test/a/*1"),
        said="eval, val: merge those",
        refused=True,
    ),
    Layout(
        "evaluation beside validation, as in Food-11",
        ("training/cat/*1", "validation/cat/*1", "evaluation/cat/*1"),
        {"train": {"cat": 1}, "val": {"cat": 1}, "test": {"cat": 1}},
    ),
    Layout(
        "evaluation beside validation in every class",
        tuple(f"{name}/{split}/*2" for name in TWO for split in ("training", "validation", "evaluation")),
        {"train": TWO, "val": TWO, "test": TWO},
    ),
    Layout("only a test split", ("test/cat/*2", "test/dog/*2"), {"test": TWO}),
    Layout(
        "a split beside unlabelled images",
        ("train/cat/*2", "train/dog/*2", "unlabeled/*3"),
        {"train": TWO},
        "'unlabeled' was left out, since it has no class folders",
        3,
    ),
    Layout(
        "a split beside another form of its images",
        ("train/cat/*2", "train/dog/*2", "originals/cat/*2", "originals/dog/*1"),
        {"train": TWO},
        "'originals' is not a split",
        3,
    ),
    Layout(
        "a folder of splits beside folders of images",
        ("train/cat/*2", "train/dog/*2", "holiday/*3"),
        said="folders of splits or folders of classes in .* move 'holiday' elsewhere if 'train' is a split",
        refused=True,
    ),
)

CLASSES = (
    Layout("classes", ("cat/*2", "dog/*2"), {"all": TWO}),
    Layout(
        "a class called train",
        ("train/*2", "bus/*2", "car/*2"),
        {"all": {"bus": 2, "car": 2, "train": 2}},
        "'train' holds no folders of classes",
    ),
    Layout(
        "a class called test",
        ("test/*2", "control/*2"),
        {"all": {"control": 2, "test": 2}},
        "'test' holds no folders of classes beside other folders of images and is read as a class",
    ),
    Layout("a class called train with a folder in it", ("bus/*1", "train/steam/*2"), {"all": {"bus": 1, "train": 2}}),
    Layout(
        "two kinds of train",
        ("freight_train/x/*1", "steam_train/y/*1"),
        {"all": {"freight_train": 1, "steam_train": 1}},
    ),
    Layout("classes called mask", ("mask/*2", "no_mask/*2"), {"all": {"mask": 2, "no_mask": 2}}),
    Layout(
        "splits in classes with a folder in each",
        tuple(f"{name}/{split}/a/*2" for name in TWO for split in ("train", "test")),
        BOTH,
    ),
    Layout(
        "classes called mask, numbered alike",
        tuple(f"{name}/{number}.png" for name in ("mask", "no_mask", "wrong_mask") for number in (1, 2)),
        {"all": {"mask": 2, "no_mask": 2, "wrong_mask": 2}},
    ),
    Layout("a class called models", ("models/*2", "mannequins/*2"), {"all": {"mannequins": 2, "models": 2}}),
    Layout("classes in folders of kinds", ("animal/cat/*2", "plant/fir/*1"), {"all": {"animal": 2, "plant": 1}}),
    Layout("splits in classes", ("cat/train/*2", "cat/test/*2", "dog/train/*2", "dog/test/*2"), BOTH),
    Layout(
        "splits in classes, spelled long",
        ("cat/Training Set/*2", "cat/Validation Set/*2", "dog/Training Set/*2", "dog/Validation Set/*2"),
        {"train": TWO, "val": TWO},
    ),
    Layout(
        "splits in some classes",
        ("cat/train/*2", "cat/test/*2", "dog/*2"),
        said="splits in every class of .* or in none, got some in 'cat' and none in 'dog'",
        refused=True,
    ),
    Layout(
        "folds",
        tuple(f"fold_{fold}/{name}/*1" for fold in range(3) for name in ("cat", "dog")),
        {"all": {"cat": 3, "dog": 3}},
        "folds of a cross-validation",
    ),
    Layout(
        "folds in classes",
        tuple(f"{name}/Fold{fold}/*1" for fold in range(3) for name in ("cat", "dog")),
        {"all": {"cat": 3, "dog": 3}},
    ),
    Layout(
        "folds beside a test split",
        (
            *(f"train/fold {fold}/{name}/*1" for fold in range(2) for name in ("cat", "dog")),
            "test/cat/*1",
            "test/dog/*1",
        ),
        {"train": TWO, "test": {"cat": 1, "dog": 1}},
    ),
    Layout(
        "folds and a test split",
        (*(f"fold_{fold}/{name}/*1" for fold in range(2) for name in TWO), "test/cat/*1", "test/dog/*1"),
        {"train": TWO, "test": {"cat": 1, "dog": 1}},
        "folds of a cross-validation",
    ),
    Layout(
        "years of the same classes",
        tuple(f"{year}/{name}/*1" for year in (2019, 2020) for name in TWO),
        {"all": TWO},
        "'2019', '2020' are sources of images, not classes, since the same folders recur in them",
    ),
    Layout(
        "classes of two kinds, either of which may be meant",
        tuple(f"{origin}/{name}/*1" for origin in ("sketch", "art") for name in TWO),
        said=r"'art', 'sketch', which each hold 'cat', 'dog': .*'\^\(\[\^/\]\+\)/'.? for the outer, .*label.from.'\^\[",
        refused=True,
    ),
    Layout(
        "classes in numbers, either of which may be meant",
        tuple(f"{digit}/{writer}/*1" for digit in range(3) for writer in (7, 8)),
        said="got '0', '1', '2', which each hold '7', '8'",
        refused=True,
    ),
    Layout(
        "patients",
        tuple(f"patient_{number:03d}/{name}/IMG_1.png" for number in range(3) for name in TWO),
        {"all": {"cat": 3, "dog": 3}},
        "'patient_000', 'patient_001', 'patient_002' are sources of images, .*: no split divides one",
    ),
    Layout(
        "kinds of classes",
        ("a/abbey/*2", "a/airport/*2", "b/bakery/*2", "c/cafe/*2"),
        {"all": {"a": 4, "b": 2, "c": 2}},
        r"'a', 'b', 'c' are read as the classes, .*'abbey', 'airport', .*: .{1,2}label.from .* makes these the classes",
    ),
    Layout(
        "patients of one class each, in splits",
        (
            *("train/Patient 1/cat/*3", "train/Patient 2/dog/*4", "train/Patient 3/cat/*5"),
            *("test/Patient 4/cat/*1", "test/Patient 5/dog/*1", "test/Patient 6/dog/*1"),
        ),
        {"train": {"cat": 8, "dog": 4}, "test": {"cat": 1, "dog": 2}},
        r"sources of images, .*: --group '\^\[\^/\]\+/\(\[\^/\]\+\)/' keeps",
    ),
    Layout(
        "sites",
        ("a/site_a/cat/*4", "a/site_a/dog/*4", "a/site_b/cat/*4", "a/site_b/dog/*4", "a/site_b/cow/*1"),
        {"all": {"cat": 8, "cow": 1, "dog": 8}},
        "are sources of images",
    ),
    Layout(
        "classes that are called as cases with parts of their own",
        ("case_1/lid/*1", "case_1/box/*1", "case_2/top/*1", "case_2/end/*1"),
        {"all": {"case_1": 2, "case_2": 2}},
    ),
    Layout(
        "one set of images in two forms",
        tuple(
            f"{form}/{name}/IMG_{n}{name}.{end}"
            for form, end in (("colour", "jpg"), ("grey", "png"))
            for name in TWO
            for n in (1, 2)
        ),
        said="'colour', 'grey', which hold the same classes and files of the same names: .*label.from",
        refused=True,
    ),
    Layout(
        "several sets of images",
        tuple(f"{name}/{path}/*1" for name in ("bottle", "cable") for path in ("train/good", "test/good", "test/bad")),
        said="got 'bottle', 'cable', each with splits and classes of its own",
        refused=True,
    ),
    Layout(
        "labelled and unlabelled",
        ("labelled/cat/*2", "labelled/dog/*2", "unlabelled/*3"),
        {"all": TWO},
        "'unlabelled' was left out, since it has no class folders",
        3,
    ),
    Layout(
        "folds with splits",
        tuple(f"fold_{fold}/{split}/cat/*1" for fold in range(2) for split in ("train", "val")),
        said="the images of each fold once",
        refused=True,
    ),
    Layout("folds of images without classes", ("fold_0/*2", "fold_1/*2"), said="4 images without labels", refused=True),
    Layout(
        "NFC and NFD", ("caf\u00e9/*1", "cafe\u0301/*2", "dog/*1"), {"all": {"caf\u00e9": 3, "dog": 1}}, "read as one"
    ),
)

SEVERAL = (
    Layout(
        "domains of the same classes, in a folder of their own",
        tuple(f"{domain}/images/{name}/*1" for domain in ("amazon", "dslr") for name in TWO),
        said=r"'amazon', 'dslr', which each hold 'cat', 'dog': .* the outer, .*label.from.'\^\[\^/\]\+/\[\^/\]\+/\(\[",
        refused=True,
    ),
    Layout(
        "domains of the same classes, with numbered files",
        tuple(
            f"{domain}/images/{name}/frame_000{n}.jpg" for domain in ("amazon", "dslr") for name in TWO for n in (1, 2)
        ),
        said="'amazon', 'dslr', which each hold 'cat', 'dog': say which are",
        refused=True,
    ),
    Layout(
        "domains of the same classes, at several depths",
        tuple(f"{domain}/{name}/*1" for domain in ("amazon/images", "dslr") for name in TWO),
        said=r"label.from.'\(\[\^/\]\+\)/\[\^/\]\+\$'.? for the inner",
        refused=True,
    ),
    Layout(
        "a repository with its data",
        ("data/cat/*2", "data/dog/*2", "assets/*2", "README.md"),
        said=r"got 'data' with folders of its own \('cat', 'dog'\) beside 'assets': give DATA/data as DATA",
        refused=True,
    ),
    Layout(
        "a repository with its data in folders",
        ("data/raw/cat/*2", "data/raw/dog/*2", "docs/img/*2"),
        said=r"beside 'docs': give DATA/data/raw as DATA",
        refused=True,
    ),
    Layout(
        "kinds of classes, one of them called as a split",
        ("vehicles/train/steam/*1", "vehicles/train/diesel/*1", "vehicles/car/*1", "plants/fir/*1", "plants/oak/*1"),
        {"all": {"plants": 2, "vehicles": 3}},
        "'plants', 'vehicles' are read as the classes",
    ),
    Layout(
        "a set of images and its copy, with a space in the name",
        tuple(f"{path}/{split}/{name}/*1" for path in ("A 1", "a 1/A") for split in ("train", "val") for name in TWO),
        said=r"'A 1', 'a 1', each with splits and .* as in 'DATA/A 1'$",
        refused=True,
    ),
    Layout(
        "files named after classes in one folder",
        ("photos2/sun1.jpg", "photos2/sun20.jpg", "photos2/heavy_rain_1.jpg", "photos2/heavy_rain_2.jpg"),
        {"all": {"photos2": 4}},
        r"one class, 'photos2', .* as if after classes \('heavy_rain', 'sun'\): .*label.from.{1,2}'\(\?:\^",
    ),
    Layout(
        "files named after classes by numbers",
        ("faces/32_0_1.jpg", "faces/32_1_1.jpg", "faces/5_0_7.jpg", "faces/5_0_8.jpg"),
        {"all": {"faces": 4}},
        r"as if after classes \('32', '5'\): .*label.from",
    ),
    Layout(
        "one class with folders in it beside another",
        ("cat/*2", "dog/terrier/*1", "dog/poodle/*1"),
        {"all": TWO},
        r"'dog' is read as a class, with all images in its folders \('poodle', 'terrier'\): give DATA/dog as DATA",
    ),
    Layout(
        "two sets of images, one of them with splits",
        (
            *(f"second/second/images/{split}/{name}/*1" for split in ("TRAIN", "TEST", "TEST_SIMPLE") for name in TWO),
            *("second/second/labels.csv", "first/first/JPEGImages/*3", "first/first/Annotations/a.xml"),
        ),
        said=r"'second', with splits .* \('TEST', 'TRAIN'\), beside 'first': .* DATA/second/second/images",
        refused=True,
    ),
    Layout(
        "a set of images and its copy, with splits",
        (
            *(f"{path}/{split}/{name}/*1" for path in ("A/A", "a/a") for split in ("train", "valid") for name in TWO),
            "test/test/*3",
        ),
        said=r"'A', 'a', each with splits and classes of its own: give the folder of one as DATA, as in DATA/A/A",
        refused=True,
    ),
    Layout(
        "a set of images and its copy, one of them in a folder",
        tuple(f"{path}/{split}/{name}/*1" for path in ("A", "a/A") for split in ("train", "test") for name in TWO),
        said=r"'A', 'a', each with splits .* DATA/A",
        refused=True,
    ),
    Layout(
        "a set of images and its copy, without splits",
        tuple(f"{path}/{name}/{n}.jpg" for path in ("photos", "data/photos") for name in TWO for n in (1, 2)),
        said="'data', 'photos', which hold the same classes and folders of the same name: give the folder of one",
        refused=True,
    ),
    Layout(
        "alphabets of numbered letters, in a folder",
        tuple(f"background/{name}/letter{n}/0{n}_01.png" for name in ("Greek", "Hebrew") for n in (1, 2)),
        said=r"'Greek', 'Hebrew', .*from.'\^\[\^/\]\+/\(\[\^/\]\+\)/'.? for the outer, .*/\[\^/\]\+\)/' for both",
        refused=True,
    ),
    Layout(
        "classes beside test images without classes",
        ("signs/DATA/0/*2", "signs/DATA/1/*1", "signs/TEST/*3", "labels.txt"),
        {"all": {"0": 2, "1": 1}},
        r"'DATA' is what is trained on, with its folders \('0', '1'\) as the classes, since 'TEST' beside it has no",
        4,
    ),
)

WRAPPERS = (
    Layout("a wrapper", ("PetImages/cat/*2", "PetImages/dog/*2"), {"all": TWO}),
    Layout("wrappers", ("a/b/c/cat/*2", "a/b/c/dog/*2", "a/readme.txt"), {"all": TWO}, "outside any class", 1),
    Layout("a wrapper called data", ("data/train/cat/*2", "data/train/dog/*2"), {"train": TWO}),
    Layout("a split in itself", ("train/train/cat/*2", "train/train/dog/*2"), {"train": TWO}),
    Layout(
        "splits in a split",
        ("test/train/cat/*2", "test/train/dog/*2", "test/val/cat/*1"),
        {"train": TWO, "val": {"cat": 1, "dog": 0}},
    ),
    Layout(
        "splits in themselves, the test images without classes",
        ("train/train/cat/*2", "train/train/dog/*2", "test/test/*3"),
        {"train": TWO},
        "'test/test' was left out, since it has no class folders",
        3,
    ),
    Layout(
        "a split of one class with folders in it",
        ("train/cat/*2", "train/dog/*2", "val/cat/near/*1", "val/cat/far/*1"),
        {"train": TWO, "val": {"cat": 2, "dog": 0}},
    ),
    Layout(
        "a data set unpacked into itself",
        ("x/cat/*2", "x/dog/*2", "x/x/cat/*2", "x/x/dog/*2"),
        {"all": TWO},
        "repeats the folders beside it",
        4,
    ),
)

BESIDE = (
    Layout(
        "images and masks of each class",
        (
            *(f"images/{name}/{name}{n}.jpg" for name in TWO for n in (1, 2)),
            *(f"masks/{name}/{name}{n}.png" for name in TWO for n in (1, 2)),
        ),
        {"all": TWO},
        "'masks' pairs by name",
        4,
    ),
    Layout(
        "masks among the classes",
        (*(f"{name}/{name}{n}.jpg" for name in TWO for n in (1, 2)), "masks/cat1_mask.png", "masks/dog2_mask.png"),
        {"all": TWO},
        "'masks' pairs by name",
        2,
    ),
    Layout(
        "masks among images",
        ("cat/a (1).png", "cat/a (1)_mask.png", "cat/a (1)_mask_1.png", "cat/2.png", "dog/3.jpg", "dog/3_mask.png"),
        {"all": {"cat": 2, "dog": 1}},
        "3 files named as masks of images",
        3,
    ),
    Layout(
        "thumbnails among images",
        (
            *(f"{name}/{n}.jpg" for name in TWO for n in (1, 2)),
            *("cat/thumbs/1.jpg", "cat/thumbs/2.jpg", "dog/Thumbnails/1_thumb.png", "dog/Thumbnails/2_thumb.png"),
        ),
        {"all": TWO},
        "2 folders were left out, since each pairs by name with images, as thumbnails do",
        4,
    ),
    Layout(
        "classes called thumbs",
        tuple(f"{name}/{n}.png" for name in ("thumb", "thumbs_up", "thumbs_down", "fist") for n in (1, 2)),
        {"all": dict.fromkeys(("fist", "thumb", "thumbs_down", "thumbs_up"), 2)},
    ),
    Layout("images called masks", ("cat/1_mask.png", "cat/2_mask.png", "dog/3.jpg"), {"all": {"cat": 2, "dog": 1}}),
    Layout(
        "masks beside a split",
        (*(f"train/{name}/{name}{n}.jpg" for name in TWO for n in (1, 2)), "masks/cat1.png", "masks/dog2.png"),
        {"train": TWO},
        "'masks' pairs by name",
        2,
    ),
    Layout(
        "images and masks in each class",
        tuple(f"{name}/{kind}/{n}.png" for name in TWO for kind in ("images", "masks") for n in (1, 2)),
        {"all": TWO},
        "2 folders were left out, since each pairs by name",
        4,
    ),
    Layout(
        "annotations beside images",
        ("images/cat/*2", "images/dog/*2", "annotations/a.xml", "annotations/b.xml"),
        {"all": TWO},
        "'annotations' holds no images",
        2,
    ),
    Layout(
        "images and masks, no classes",
        ("images/1.jpg", "images/2.jpg", "masks/1.png", "masks/2.png"),
        said="2 images without labels in 'images'",
        refused=True,
    ),
    Layout(
        "images and annotations, no classes, and a table",
        ("images/*2", "annotations/a.xml", "labels.csv"),
        said=r"a column 'path' .* in labels\.csv, got 'text'",
        refused=True,
    ),
    Layout(
        "detection",
        ("train/images/*2", "train/labels/a.txt", "val/images/*2"),
        said="4 images without labels",
        refused=True,
    ),
    Layout(
        "thumbnails of a disk station",
        ("cat/*2", "dog/*2", "cat/@eaDir/x.png/thumb.jpg", "dog/@eaDir/thumb.jpg", "@eaDir/cat/thumb.jpg"),
        {"all": TWO},
        "3 folders were left out, since each belongs to the system",
        3,
    ),
    Layout(
        "a mask for each image, without classes",
        (
            "images/cat_1.jpg",
            "images/dog_1.jpg",
            "annotations/masks/cat_1.png",
            "annotations/masks/dog_1.png",
            "annotations/a.txt",
            "annotations/b.txt",
        ),
        said="2 images without labels in 'images'",
        refused=True,
    ),
    Layout("a recycle bin", ("cat/*2", "dog/*2", "$RECYCLE.BIN/S-1/x.png"), {"all": TWO}, "belongs to the system", 1),
    Layout(
        "a run of training",
        ("cat/*2", "dog/*2", "runs/train/args.yaml", "runs/train/batch.jpg", "runs/train/weights/best.pt"),
        {"all": TWO},
        "'runs' was written by a training run",
        3,
    ),
    Layout(
        "an unlabelled test folder",
        ("train/cat/*2", "train/dog/*2", "test/unknown/*3"),
        {"train": TWO},
        "'test/unknown' was left out, since it has no class folders",
        3,
    ),
    Layout(
        "a flat test folder",
        ("train/cat/*2", "train/dog/*2", "test/*3"),
        {"train": TWO},
        "'test' was left out, since it has no class folders, so its images have no labels",
        3,
    ),
    Layout("flat splits", ("train/*2", "test/*2"), said="4 images without labels in 'test', 'train'", refused=True),
    Layout(
        "as Tiny ImageNet",
        (
            *("train/n01443537/images/*2", "train/n01443537/boxes.txt", "train/n01629819/images/*2"),
            *("val/images/*2", "val/val_annotations.txt", "test/images/*2"),
        ),
        {"train": {"goldfish": 2, "European fire salamander": 2}},
        "'test/images', 'val/images'",
        6,
    ),
    Layout(
        "as imagenette",
        ("train/n01440764/*2", "train/n02102040/*1", "val/n01440764/*1", "val/n02102040/*1", "noisy_imagenette.csv"),
        {"train": {"tench": 2, "English springer": 1}, "val": {"tench": 1, "English springer": 1}},
        "the names that these stand for are used instead",
        1,
    ),
)

FOUR_NAMED = ("cat.0.jpg", "cat.1.jpg", "dog.0.jpg", "dog.1.jpg")
NAMED = (
    Layout("files named after classes", FOUR_NAMED, {"all": TWO}, r"names of files \('cat' of cat\.0\.jpg, 'dog' of"),
    Layout(
        "names of other forms",
        ("cat_001.jpg", "cat_002.jpg", "big dog-1.png", "big dog-2.png", "wolf (1).jpg", "wolf (2).jpg", "notes.txt"),
        {"all": {"big dog": 2, "cat": 2, "wolf": 2}},
        "'big dog' of big dog-1.png",
        1,
    ),
    Layout(
        "dogs and cats",
        (*(f"data/train/{name}" for name in FOUR_NAMED), "data/test1/1.jpg", "data/test1/2.jpg"),
        {"train": TWO},
        "'cat' of cat.0.jpg",
        2,
    ),
    Layout(
        "names in both splits",
        (*(f"{split}/images/{name}" for name in FOUR_NAMED for split in ("train", "test")),),
        BOTH,
        "'cat' of cat.0.jpg",
    ),
    *(
        Layout(
            f"files called {first} and {second}",
            (*(f"{name}{number}.jpg" for name in (first, second) for number in ("0001", "0002")),),
            said="put the images of each class in a folder named after it$",
            refused=True,
        )
        for first, second in (
            *(("IMG_", "DSC_"), ("photo_", "img_"), ("DSCF", "P101"), ("frame_", "Screenshot_"), ("train_", "test_")),
            ("image_", "Screen Shot "),
        )
    ),
    *(
        Layout(
            f"files called {first} and {second}, which may be classes",
            (*(f"{name}{number}.jpg" for name in (first, second) for number in ("0001", "0002")),),
            said=rf"its files are called as if after classes \('{first}', '{second}'\): .{{1,2}}label.from",
            refused=True,
        )
        for first, second in (("cell", "mask"), ("left", "right"), ("patient", "user"), ("KODK", "SONY"), ("a", "b"))
    ),
    Layout(
        "files named after classes but for one",
        (*FOUR_NAMED, "logo.png"),
        said=r"its files are called as if after classes \('cat', 'dog'\)",
        refused=True,
    ),
    Layout("an image of a class", (*FOUR_NAMED[:3],), said="in a folder named after it$", refused=True),
    Layout(
        "names of a class that is not trained on",
        (*(f"train/{name}" for name in FOUR_NAMED), "test/cow.1.jpg"),
        said="5 images without labels",
        refused=True,
    ),
    *(
        Layout(
            f"names in {first or 'the folder itself'} and {second}",
            (*(f"{folder}{name}" for name in FOUR_NAMED for folder in (first, second)),),
            said=r"images without labels .*as if after classes \('cat', 'dog'\): ",
            refused=True,
        )
        for first, second in (("train/", "training/"), ("", "train/"), ("images/", ""))
    ),
)

THUMBNAILS = (
    *(
        Layout(
            f"thumbnails called {form.format('X')}",
            (*(path for name in ("cat/1", "cat/2", "dog/1") for path in (f"{name}.jpg", _thumbnail(name, form))),),
            {"all": {"cat": 2, "dog": 1}},
            "3 files named as thumbnails of images beside them",
            3,
        )
        for form in ("{}_thumb.png", "{}-Thumbnail.jpg", "{}_small.jpg", "{}-150x150.jpg", "thumb_{}.jpg", "tn-{}.jpg")
    ),
    Layout(
        "names of thumbnails alone",
        ("cat/1_thumb.jpg", "cat/thumb_2.jpg", "dog/1.jpg", "dog/2_small.jpg"),
        {"all": TWO},
    ),
)

WORDS = (
    Layout(
        "T, V and S",
        ("T/cat/*2", "T/dog/*2", "V/cat/*1", "S/dog/*1"),
        {"train": TWO, "val": {"cat": 1, "dog": 0}, "test": {"cat": 0, "dog": 1}},
        "'V' is read as val",
    ),
    Layout(
        "dates that hold different folders",
        ("2023-04-01/Plate 0/cat_*2", "2023-05-17/Plate 0/cat_*2", "2023-05-17/Plate 0 (copy)/cat_*2"),
        said="which are dates, with folders in them",
        refused=True,
    ),
    Layout(
        "dates with times that hold different folders",
        ("01.04.2023 10:30/cat/*2", "17.05.2023/dog/*2"),
        said="which are dates, with folders in them",
        refused=True,
    ),
    Layout(
        "T and V", ("T/cat/*2", "T/dog/*2", "V/cat/*2", "V/dog/*2"), said="one meaning of the folders", refused=True
    ),
    Layout("classes T, V and S", ("T/*2", "V/*2", "S/*2"), {"all": {"S": 2, "T": 2, "V": 2}}),
    Layout("kinds T, V and S", ("T/a/*2", "V/b/*2", "S/c/*2"), {"all": {"S": 2, "T": 2, "V": 2}}),
    _split("entra\u00eenement", "test"),
    _split("entrai\u0302nement", "test"),
    _split("images_entrai\u0302nement", "images_test"),
    _split("a. Training Set", "b. Testing Set"),
)

LAYOUTS = (*SPLITS, *CLASSES, *SEVERAL, *WRAPPERS, *BESIDE, *NAMED, *THUMBNAILS, *WORDS)
