"""Lists about images as data sets are published with them: splits, classes and numbers in files of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.io import savemat
from tables import BELOW, FOUR, IDS, LINES, PETS, PublishedTable, rows

from graft.data.table_options import TableOptions

BIRDS = ("images/001.Albatross/Albatross_1_18.jpg", "images/001.Albatross/Albatross_2_19.jpg")
FINCHES = ("images/002.Finch/Finch_1_20.jpg", "images/002.Finch/Finch_2_21.jpg")
FLAT = tuple(f"images/{path.rpartition('/')[2]}" for path in (*BIRDS, *FINCHES))
NUMBERED = "1 {}\n2 {}\n3 {}\n4 {}\n"
CUB = {
    "image_class_labels.txt": NUMBERED.format(1, 1, 2, 2),
    "train_test_split.txt": NUMBERED.format(0, 1, 1, 0),
    "classes.txt": "1 001.Albatross\n2 002.Finch\n",
    "bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n2 139.0 30.0 153.0 264.0\n3 1.0 2.0 3.0 4.0\n4 1.0 2.0 3.0 4.0\n",
}
CLASS_FOLDERS = tuple(f"images/{name}/{name}_{number}.jpg" for name in ("cat", "dog") for number in (1, 2))
OF_FOLDERS = {path: path.split("/")[1] for path in CLASS_FOLDERS}
DIVIDED = {
    "train": {path: label for path, label in OF_FOLDERS.items() if "_1" in path},
    "test": {path: label for path, label in OF_FOLDERS.items() if "_2" in path},
}
TRAIN, TEST = "cat/cat_1\ndog/dog_1\n", "cat/cat_2\ndog/dog_2\n"
DIVISIONS = (("train", TRAIN, 1), ("test", TEST, 1), ("train", TEST, 2), ("test", TRAIN, 2))
PETS_LIST = "# of pets\n#Image CLASS-ID SPECIES BREED ID\n#ID: 1:3 Class ids\n"
PET_IMAGES = tuple(f"images/{name}_{number}.jpg" for name in ("Abyssinian", "beagle", "pug") for number in (1, 2))
PET_CELLS = (("Abyssinian", "1 1 1"), ("beagle", "2 2 1"), ("pug", "3 2 2"))
PET_LABELS = {
    "train": {f"images/{name}_1.jpg": cells[0] for name, cells in PET_CELLS},
    "test": {f"images/{name}_2.jpg": cells[0] for name, cells in PET_CELLS},
}
PET_LISTS = {
    "annotations/list.txt": PETS_LIST + "".join(f"{name}_{n} {cells}\n" for name, cells in PET_CELLS for n in (1, 2)),
    "annotations/trainval.txt": "".join(f"{name}_1 {cells}\n" for name, cells in PET_CELLS),
    "annotations/test.txt": "".join(f"{name}_2 {cells}\n" for name, cells in PET_CELLS),
    "annotations/README": "words",
    "annotations/trimaps/beagle_1.png": b"x",
}


def matlab(**arrays: object) -> Callable[[Path], None]:
    """A file of MATLAB with these arrays, lists of text as cells."""

    def write(path: Path) -> None:
        cells = {name: np.array([*each, None], object)[:-1, None] for name, each in arrays.items() if _is_text(each)}
        savemat(path, {**{name: np.array([each]) for name, each in arrays.items() if name not in cells}, **cells})

    return write


def _is_text(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, str) for each in value)


def annotated(*rows: tuple[str, int]) -> np.ndarray:
    """Stanford's struct of cars: a record for each image, its fields in cells."""
    found = np.empty(len(rows), [("bbox_x1", object), ("class", object), ("fname", object)])
    for number, (name, label) in enumerate(rows):
        found[number] = (30, label, name)
    return found


TRAIN_AB, TEST_CD = ("train", "a", "b"), ("test", "c", "d")
FLOWERS = tuple(f"jpg/image_0000{number}.jpg" for number in range(1, 7))
DOG_FOLDERS = ("n02085620-Chihuahua", "n02085782-Japanese_spaniel")
DOGS = tuple(f"Images/{name}/{name[:9]}_{number}.jpg" for name in DOG_FOLDERS for number in (1, 2))
DOG_NAMES = ("Chihuahua", "Chihuahua", "Japanese spaniel", "Japanese spaniel")
SIGNS = tuple(f"Final_Training/Images/0000{number}/00000_00000.ppm" for number in (0, 1))
SIGN_ROWS = "Filename;Width;Height;Roi.X1;ClassId"
SIGN_TABLES = {
    f"Final_Training/Images/0000{number}/GT-0000{number}.csv": rows(SIGN_ROWS, f"00000_00000.ppm;29;30;5;{number}")
    for number in (0, 1)
}
SIGN_TEST = ("Final_Test/Images/00000.ppm", "Final_Test/Images/00001.ppm")

LISTS = [
    # Paths and labels in files of their own
    PublishedTable(
        "paths and labels line by line",
        FOUR,
        {"images.txt": "".join(f"{name}\n" for name in FOUR), "labels.txt": "sea lion\ncat\nsea lion\ncat\n"},
        {"all": dict(zip(FOUR, ("sea lion", "cat", "sea lion", "cat"), strict=True))},
        notes=("images.txt: paths, line by line with the labels in labels.txt",),
    ),
    PublishedTable(
        "paths and labels line by line for each split, with a line of names above",
        IDS,
        {
            **{f"lists/{split}_images.txt": f"path\n{one}\n{two}\n" for split, one, two in (TRAIN_AB, TEST_CD)},
            **{f"lists/{split}_labels.txt": "label\ncat\ndog\n" for split in ("train", "test")},
        },
        {"train": {IDS[0]: "cat", IDS[1]: "dog"}, "test": {IDS[2]: "cat", IDS[3]: "dog"}},
    ),
    PublishedTable(
        "two lists of labels line by line",
        FOUR,
        {
            "images.txt": "".join(f"{name}\n" for name in FOUR),
            **{f"{kind}_labels.txt": "0\n1\n0\n1\n" for kind in ("fine", "coarse")},
        },
        said=r"one list of the labels of images\.txt, got coarse_labels\.txt and fine_labels\.txt",
    ),
    PublishedTable(
        "a list of labels that has a line less",
        FOUR,
        {"images.txt": "".join(f"{name}\n" for name in FOUR), "labels.txt": "0\n1\n0\n"},
        said=r"a line in labels\.txt for each of 4 in images\.txt, got 3",
    ),
    PublishedTable(
        "paths and labels line by line, one class in the test split",
        IDS,
        {
            **{f"{split}_images.txt": f"{one}\n{two}\n" for split, one, two in (TRAIN_AB, TEST_CD)},
            "train_labels.txt": "cat\ndog\n",
            "test_labels.txt": "cat\ncat\n",
        },
        {"train": {IDS[0]: "cat", IDS[1]: "dog"}, "test": {IDS[2]: "cat", IDS[3]: "cat"}},
    ),
    PublishedTable(
        "paths and labels line by line, a name above the labels, commas, and an image that is missing",
        (*FOUR[:3], "b, d.jpg"),
        {
            "images.txt": "".join(f"{name}\n" for name in (*FOUR[:3], "gone.jpg", "b, d.jpg")),
            "labels.txt": "label\nCat, tame\n\nCat, tame\nsea lion\nsea lion\n",
        },
        {"all": {FOUR[0]: "Cat, tame", FOUR[2]: "Cat, tame", "b, d.jpg": "sea lion"}},
        notes=("1 of 5 rows of images left out: no label", "1 file that images names left out: no such file"),
    ),
    PublishedTable(
        "labels line by line in another encoding than UTF-8",
        FOUR,
        {"images.txt": "".join(f"{name}\n" for name in FOUR), "labels.txt": "K\xe4fer\nb\nb\nb\n".encode("latin-1")},
        said=r"text in UTF-8 in the labels of labels\.txt",
    ),
    PublishedTable(
        "Flowers-102",
        FLOWERS,
        {
            "imagelabels.mat": matlab(labels=[7, 7, 7, 9, 9, 9]),
            "setid.mat": matlab(trnid=[1, 4], valid=[5, 2], tstid=[3, 6]),
        },
        {
            "train": {FLOWERS[0]: "7", FLOWERS[3]: "9"},
            "val": {FLOWERS[1]: "7", FLOWERS[4]: "9"},
            "test": {FLOWERS[2]: "7", FLOWERS[5]: "9"},
        },
        notes=(
            "labels are matched to files by the numbers in their names: jpg/image_00001.jpg has the first of labels",
        ),
    ),
    PublishedTable(
        "Flowers-102, images gone",
        FLOWERS[1:3] + FLOWERS[4:],
        {"imagelabels.mat": matlab(labels=[7, 7, 7, 9, 9, 9])},
        {"all": {FLOWERS[1]: "7", FLOWERS[2]: "7", FLOWERS[4]: "9", FLOWERS[5]: "9"}},
        notes=(r"image_00002\.jpg has number 2 of labels in imagelabels\.mat \(2 labels without a file\)",),
    ),
    PublishedTable(
        "Flowers-102, the last image gone, or all numbered anew",
        FLOWERS[:-1],
        {"imagelabels.mat": matlab(labels=[7, 7, 7, 9, 9, 9])},
        said=r"in imagelabels\.mat",
    ),
    PublishedTable(
        "Flowers-102 with its segmentations",
        FLOWERS,
        {
            "imagelabels.mat": matlab(labels=[7, 7, 7, 9, 9, 9]),
            **{f"segmim/segmim_0000{number}.jpg": b"x" for number in range(1, 7)},
        },
        {"all": dict(zip(FLOWERS, "777999", strict=True))},
        notes=("6 files in .* left out: no table names them",),
    ),
    PublishedTable(
        "numbered files of which either may be the images",
        tuple(f"{name}/{number}.jpg" for name in ("left", "right") for number in (1, 2, 3, 4)),
        {"labels.mat": matlab(labels=[7, 7, 9, 9])},
        said="one file for each number from 1 to 4 .*, such as left/1.jpg and right/1.jpg: say where .*image.dir",
    ),
    PublishedTable(
        "Stanford's dogs",
        DOGS,
        {f"Annotation/{path[7:-4]}": "x" for path in DOGS},
        {"all": dict(zip(DOGS, DOG_NAMES, strict=True))},
        notes=("2 classes named by WordNet ids: the names that these stand for are used instead",),
    ),
    PublishedTable(
        "Stanford's dogs with their lists",
        DOGS,
        {
            "train_list.mat": matlab(file_list=(DOGS[0][7:], DOGS[2][7:]), labels=[1, 2]),
            "test_list.mat": matlab(file_list=(DOGS[1][7:], DOGS[3][7:]), labels=[1, 2]),
        },
        {"train": {DOGS[0]: "Chihuahua", DOGS[2]: DOG_NAMES[2]}, "test": {DOGS[1]: "Chihuahua", DOGS[3]: DOG_NAMES[2]}},
        notes=("classes are named after the folders that test_list.mat numbers",),
    ),
    PublishedTable(
        "Stanford's dogs with a list, some images gone",
        DOGS[::2],
        {"train_list.mat": matlab(file_list=tuple(path[7:] for path in DOGS), labels=[1, 1, 2, 2])},
        {"train": dict(zip(DOGS[::2], DOG_NAMES[::2], strict=True))},
        notes=("2 files that .* left out: no such file",),
    ),
    PublishedTable(
        "two divisions into splits, and arrays that cannot be read",
        CLASS_FOLDERS,
        {
            **{f"labels/{split}{number}.txt": lines for split, lines, number in DIVISIONS},
            "imdb.mat": b"no file of MATLAB",
        },
        said="one division into splits, got 2, which are equally likely",
    ),
    PublishedTable(
        "Stanford's cars",
        tuple(f"cars_{split}/0000{number}.jpg" for split in ("train", "test") for number in (1, 2)),
        {
            "devkit/cars_train_annos.mat": matlab(annotations=annotated(("00001.jpg", 2), ("00002.jpg", 1))),
            "devkit/cars_test_annos_withlabels.mat": matlab(annotations=annotated(("00001.jpg", 1), ("00002.jpg", 2))),
            "devkit/cars_meta.mat": matlab(class_names=("Acura RL", "Audi S4")),
        },
        {
            "train": {"cars_train/00001.jpg": "Audi S4", "cars_train/00002.jpg": "Acura RL"},
            "test": {"cars_test/00001.jpg": "Acura RL", "cars_test/00002.jpg": "Audi S4"},
        },
        notes=("classes are named as in cars_meta.mat",),
    ),
    PublishedTable(
        "Stanford's cars, the labels of the test images elsewhere than those to train on",
        tuple(f"cars_{split}/0000{number}.jpg" for split in ("train", "test") for number in (1, 2)),
        {
            "devkit/cars_train_annos.mat": matlab(annotations=annotated(("00001.jpg", 2), ("00002.jpg", 1))),
            "cars_test_annos_withlabels.mat": matlab(annotations=annotated(("00001.jpg", 1), ("00002.jpg", 2))),
        },
        {
            "train": {"cars_train/00001.jpg": "2", "cars_train/00002.jpg": "1"},
            "test": {"cars_test/00001.jpg": "1", "cars_test/00002.jpg": "2"},
        },
    ),
    *(
        PublishedTable(
            f"traffic signs, the table of the test images in {where or 'the folder'}",
            (*SIGNS, *SIGN_TEST),
            {
                **SIGN_TABLES,
                f"{where}GT-final_test.csv": rows(SIGN_ROWS, "00000.ppm;29;30;5;1", "00001.ppm;29;30;5;0"),
            },
            {
                "train": {SIGNS[0]: "00000", SIGNS[1]: "00001"},
                "test": {SIGN_TEST[0]: "00001", SIGN_TEST[1]: "00000"},
            },
            notes=(r"labels of test are those of GT-final_test\.csv",),
            unsaid="left out.*GT-final_test|Final_Test.* left out",
        )
        for where in ("", "Final_Test/Images/")
    ),
    PublishedTable(
        "traffic signs as torchvision has them",
        tuple(f"x/GTSRB/{each}" for each in ("Training/00000/0.ppm", "Training/00001/1.ppm", *SIGN_TEST)),
        {"x/GT-final_test.csv": rows(SIGN_ROWS, "00000.ppm;29;30;5;1", "00001.ppm;29;30;5;0")},
        {
            "train": {"x/GTSRB/Training/00000/0.ppm": "00000", "x/GTSRB/Training/00001/1.ppm": "00001"},
            "test": {f"x/GTSRB/{SIGN_TEST[0]}": "00001", f"x/GTSRB/{SIGN_TEST[1]}": "00000"},
        },
    ),
    # Joined by number
    PublishedTable(
        "CUB-200, flat",
        FLAT,
        {**CUB, "images.txt": NUMBERED.format(*(path.rpartition("/")[2] for path in FLAT))},
        {
            "train": {FLAT[1]: "001.Albatross", FLAT[2]: "002.Finch"},
            "test": {FLAT[0]: "001.Albatross", FLAT[3]: "002.Finch"},
        },
        notes=("label from image_class_labels.txt, split from train_test_split.txt, names from classes.txt",),
    ),
    PublishedTable(
        "CUB-200 with its segmentations beside it",
        tuple(f"CUB_200_2011/{path}" for path in (*BIRDS, *FINCHES)),
        {
            **{f"CUB_200_2011/{name}": text for name, text in CUB.items()},
            "CUB_200_2011/images.txt": NUMBERED.format(*(path[7:] for path in (*BIRDS, *FINCHES))),
            **{f"segmentations/{path[7:-4]}.png": b"x" for path in (*BIRDS, *FINCHES)},
        },
        {
            "train": {f"CUB_200_2011/{BIRDS[1]}": "001.Albatross", f"CUB_200_2011/{FINCHES[0]}": "002.Finch"},
            "test": {f"CUB_200_2011/{BIRDS[0]}": "001.Albatross", f"CUB_200_2011/{FINCHES[1]}": "002.Finch"},
        },
    ),
    PublishedTable(
        "CUB-200, a blank in the name of a file",
        ("a b.jpg", *FOUR[1:]),
        {**CUB, "images.txt": NUMBERED.format("a b.jpg", *FOUR[1:])},
        {
            "train": {"b.jpg": "001.Albatross", "c.jpg": "002.Finch"},
            "test": {"a b.jpg": "001.Albatross", "d.jpg": "002.Finch"},
        },
    ),
    PublishedTable(
        "Food-101, a blank in the name of a file",
        (*CLASS_FOLDERS, "images/dog/dog 2.jpg"),
        {"meta/train.txt": TRAIN, "meta/test.txt": f"{TEST}dog/dog 2\n"},
        {**DIVIDED, "test": {**DIVIDED["test"], "images/dog/dog 2.jpg": "dog"}},
    ),
    PublishedTable(
        "CUB-200, with numbers as names",
        ("1.jpg", "2.jpg", "3.jpg", "4.jpg"),
        {**CUB, "images.txt": NUMBERED.format("1.jpg", "2.jpg", "3.jpg", "4.jpg")},
        {
            "train": {"2.jpg": "001.Albatross", "3.jpg": "002.Finch"},
            "test": {"1.jpg": "001.Albatross", "4.jpg": "002.Finch"},
        },
    ),
    PublishedTable(
        "CUB-200, in a wrapper with folders",
        tuple(f"CUB_200_2011/{path}" for path in (*BIRDS, *FINCHES)),
        {
            **{f"CUB_200_2011/{name}": text for name, text in CUB.items()},
            "CUB_200_2011/images.txt": NUMBERED.format(*(path[7:] for path in (*BIRDS, *FINCHES))),
            "CUB_200_2011/README": "words",
            "CUB_200_2011/attributes/image_attribute_labels.txt": "1 1 0 3 27.7\n1 2 0 3 27.7\n2 1 0 3 27.7\n",
        },
        {
            "train": {f"CUB_200_2011/{BIRDS[1]}": "001.Albatross", f"CUB_200_2011/{FINCHES[0]}": "002.Finch"},
            "test": {f"CUB_200_2011/{BIRDS[0]}": "001.Albatross", f"CUB_200_2011/{FINCHES[1]}": "002.Finch"},
        },
    ),
    PublishedTable(
        "two lists of labels by number",
        FLAT,
        {
            "images.txt": NUMBERED.format(*(path.rpartition("/")[2] for path in FLAT)),
            "species_labels.txt": NUMBERED.format(1, 1, 2, 2),
            "breed_labels.txt": NUMBERED.format(1, 2, 2, 1),
        },
        said=r"one list of the labels of images\.txt, got breed_labels\.txt and species_labels\.txt",
    ),
    PublishedTable(
        "Oxford's pets",
        PET_IMAGES,
        PET_LISTS,
        said=r"one column of labels in list\.txt, got column 2 and column 3 and column 4.*label.column.'2'",
    ),
    PublishedTable(
        "Oxford's pets, the label named",
        PET_IMAGES,
        PET_LISTS,
        PET_LABELS,
        options=TableOptions(label_column="2"),
    ),
    PublishedTable(
        "identities beside partitions",
        FOUR,
        {
            "identity.txt": "a.jpg 12\nb.jpg 7\nc.jpg 12\nd.jpg 7\n",
            "list_eval_partition.txt": "a.jpg 0\nb.jpg 0\nc.jpg 1\nd.jpg 2\n",
        },
        {"train": {"a.jpg": "12", "b.jpg": "7"}, "val": {"c.jpg": "12"}, "test": {"d.jpg": "7"}},
    ),
    # Splits of what folders label
    PublishedTable(
        "Food-101",
        CLASS_FOLDERS,
        {
            "meta/train.txt": TRAIN,
            "meta/test.txt": TEST,
            "meta/classes.txt": "cat\ndog\n",
            "license_agreement.txt": "x",
        },
        DIVIDED,
        notes=("splits are those of test.txt, train.txt",),
    ),
    PublishedTable(
        "the images of each class in JSON",
        CLASS_FOLDERS,
        {
            "meta/train.json": json.dumps({"cat": ["cat/cat_1"], "dog": ["dog/dog_1"]}),
            "meta/test.json": json.dumps({"cat": ["cat/cat_2"], "dog": ["dog/dog_2"]}),
            "meta/train.txt": TRAIN,
        },
        DIVIDED,
    ),
    PublishedTable(
        "textures in ten divisions",
        CLASS_FOLDERS,
        {
            f"labels/{split}{number}.txt": (text if number == 1 else other)
            for number in (1, 2)
            for split, text, other in (("train", TRAIN, TEST), ("test", TEST, TRAIN))
        },
        said=r"one division into splits, got 2.*split.file.{1,2}labels/test1\.txt, or .{1,2}split.file.{1,2}none",
    ),
    PublishedTable(
        "a list of the images to test with",
        CLASS_FOLDERS,
        {"testing_list.txt": "cat/cat_2.jpg\ndog/dog_2.jpg\n"},
        DIVIDED,
        notes=("images that none of them names are in train",),
    ),
    PublishedTable(
        "a list of some images to train on",
        CLASS_FOLDERS,
        {"train.txt": "cat/cat_1.jpg\ndog/dog_1.jpg\n"},
        {"train": DIVIDED["train"]},
        notes=("2 images left out, since no list names them",),
    ),
    PublishedTable(
        "a list with a line that is no image",
        CLASS_FOLDERS,
        {"train.txt": TRAIN + "cow/cow_1\n"},
        {"all": OF_FOLDERS},
        notes=(r"left out \(train\.txt\)",),
    ),
    PublishedTable(
        "lists that name an image twice",
        CLASS_FOLDERS,
        {"train.txt": TRAIN, "test.txt": TEST + "cat/cat_1\n"},
        said=r"each image in one of .*test\.txt.*split.file.{1,2}none",
    ),
    PublishedTable(
        "a table of splits beside folders",
        CLASS_FOLDERS,
        {"splits.csv": rows("path,split", *(f"{path},{split}" for split, own in DIVIDED.items() for path in own))},
        DIVIDED,
    ),
    PublishedTable(
        "lists of paths and numbers",
        CLASS_FOLDERS,
        {
            "splits/train.txt": "cat/cat_1.jpg 0\ndog/dog_1.jpg 1\n",
            "splits/test.txt": "cat/cat_2.jpg 0\ndog/dog_2.jpg 1\n",
        },
        DIVIDED,
        notes=("classes are named after the folders that .*txt numbers",),
    ),
    # Images of another split that a table labels
    PublishedTable(
        "Tiny ImageNet",
        (
            *(f"train/{name}/images/{name}_{n}.JPEG" for name in ("n01443537", "n01629819") for n in (0, 1)),
            *("val/images/val_0.JPEG", "val/images/val_1.JPEG", "test/images/test_0.JPEG"),
        ),
        {
            "wnids.txt": "n01443537\nn01629819\n",
            "words.txt": "n01443537\tgoldfish, Carassius auratus\nn01629819\tEuropean fire salamander\n",
            "val/val_annotations.txt": "val_0.JPEG\tn01629819\t0\t32\t44\t62\nval_1.JPEG\tn01443537\t52\t55\t57\t59\n",
            "train/n01443537/n01443537_boxes.txt": "n01443537_0.JPEG\t0\t10\t63\t58\nn01443537_1.JPEG\t6\t1\t60\t63\n",
        },
        {
            "train": {
                f"train/{name}/images/{name}_{n}.JPEG": word
                for name, word in (("n01443537", "goldfish"), ("n01629819", "European fire salamander"))
                for n in (0, 1)
            },
            "val": {"val/images/val_0.JPEG": "European fire salamander", "val/images/val_1.JPEG": "goldfish"},
        },
        notes=("labels of val are those of val_annotations.txt",),
    ),
    PublishedTable(
        "a table of the test images beside folders",
        ("train/cat/1.jpg", "train/dog/2.jpg", "test/3.jpg", "test/4.jpg"),
        {"test.csv": rows("file,label", "3.jpg,dog", "4.jpg,cat")},
        {
            "train": {"train/cat/1.jpg": "cat", "train/dog/2.jpg": "dog"},
            "test": {"test/3.jpg": "dog", "test/4.jpg": "cat"},
        },
    ),
    PublishedTable(
        "a table of the test images with other classes",
        ("train/cat/1.jpg", "train/dog/2.jpg", "test/3.jpg", "test/4.jpg"),
        {"test.csv": rows("file,label", "3.jpg,1", "4.jpg,0")},
        said=r"labels of test\.csv that are classes of the folders \(cat, dog\).*got '0'.*label.from.{1,2}folder",
    ),
    PublishedTable(
        "a table of the test images with other classes, left out",
        ("train/cat/1.jpg", "train/dog/2.jpg", "test/3.jpg", "test/4.jpg"),
        {"test.csv": rows("file,label", "3.jpg,1", "4.jpg,0")},
        {"train": {"train/cat/1.jpg": "cat", "train/dog/2.jpg": "dog"}},
        options=TableOptions(label_from="folder"),
    ),
    # Tables in folders of their own, and what stands above their first row
    PublishedTable(
        "a table in annotations",
        IDS,
        {"annotations/labels.csv": rows("file,label", *LINES)},
        {"all": BELOW},
    ),
    PublishedTable(
        "tables of splits in splits",
        IDS,
        {
            "splits/train.csv": rows("file,label", "a.jpg,cat", "b.jpg,dog"),
            "splits/val.csv": rows("file,label", "../images/c.jpg,cat"),
            "splits/test.csv": rows("file,label", "images/d.jpg,dog"),
        },
        {"train": {IDS[0]: "cat", IDS[1]: "dog"}, "val": {IDS[2]: "cat"}, "test": {IDS[3]: "dog"}},
    ),
    PublishedTable(
        "one name in each split, the tables beside",
        tuple(f"images/{split}/{name}.jpg" for split in ("train", "val") for name in "ab"),
        {
            "annotations/train.csv": rows("file,label", "a.jpg,cat", "b.jpg,dog"),
            "annotations/val.csv": rows("file,label", "a.jpg,dog", "b.jpg,cat"),
        },
        {
            "train": {"images/train/a.jpg": "cat", "images/train/b.jpg": "dog"},
            "val": {"images/val/a.jpg": "dog", "images/val/b.jpg": "cat"},
        },
    ),
    *(
        PublishedTable(
            f"a CSV that begins with {what}",
            FOUR,
            {"x.csv": start + rows(head, *(line.replace(",", cut) for line in LINES))},
            {"all": PETS},
        )
        for what, start, head, cut in (
            ("a comment", "# made in May, by hand\n", "path,label", ","),
            ("comments", "# made in May\n# of pets\n", "path;label", ";"),
            ("its names in a comment", "# pets\n", "#path,label", ","),
            ("a byte order mark", "\ufeff", "path,label", ","),
            ("a byte order mark and no names", "\ufeff", "", ","),
            ("what Excel is told", "sep=;\n", "path;label", ";"),
        )
    ),
    PublishedTable(
        "rows that are numbered by #",
        FOUR,
        {"x.csv": rows("#,file,label", *(f"{n},{path},{label}" for n, (path, label) in enumerate(PETS.items())))},
        {"all": PETS},
    ),
    PublishedTable(
        "splits in JSON",
        IDS,
        {
            "split_zhou.json": json.dumps(
                {
                    "train": [["a.jpg", 0, "cat"], ["b.jpg", 1, "dog"]],
                    "val": [["c.jpg", 0, "cat"]],
                    "test": [["d.jpg", 1, "dog"]],
                }
            )
        },
        {"train": {IDS[0]: "cat", IDS[1]: "dog"}, "val": {IDS[2]: "cat"}, "test": {IDS[3]: "dog"}},
    ),
    PublishedTable(
        "words for readers among the images",
        ("cat/1.jpg", "dog/2.jpg"),
        {"cat/README": "words", "dog/LICENSE": "words", "dog/labels.txt": "words", "README": "words"},
        {"all": {"cat/1.jpg": "cat", "dog/2.jpg": "dog"}},
        notes=("3 files in class folders that are not named like images",),
    ),
    PublishedTable(
        "CVAT's ImageNet",
        ("cat/cat_1.jpg", "dog/dog_1.jpg", "no_label/3.jpg"),
        {"synsets.txt": "cat\ndog\n"},
        {"all": {"cat/cat_1.jpg": "cat", "dog/dog_1.jpg": "dog"}},
        notes=("'no_label' was left out, since it has no class folders",),
    ),
    PublishedTable(
        "aircraft of which labels have blanks",
        ("images/1025794.jpg", "images/1340192.jpg", "images/0056978.jpg"),
        {"images_variant_train.txt": "1025794 Boeing 717\n1340192 A300B4\n0056978 Boeing 717\n"},
        {
            "train": {
                "images/1025794.jpg": "Boeing 717",
                "images/1340192.jpg": "A300B4",
                "images/0056978.jpg": "Boeing 717",
            }
        },
    ),
]
