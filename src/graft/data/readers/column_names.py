"""Names of table columns: graft's own names, and those in published tables.

graft's own names are trusted; the others count only if the values confirm them. Case, blanks and punctuation do not
matter: `image ID` is `image_id`.
"""

from __future__ import annotations

from collections.abc import Sequence

from graft.data.dataset import TEST, TRAIN, VAL
from graft.data.readers.split_names import EVALUATION
from graft.data.table_options import NO_COLUMN, TableOptions
from graft.errors import InputError
from graft.words import first_few

# The names that a column may have, by role; if several are present, the first counts.
SPELLINGS = {
    "path": ("path", "image", "file_name", "filepath", "filename", "file"),
    "label": ("label", "class", "category", "target"),
    "split": ("split",),
    "group": ("group",),
    "weight": ("weight",),
}
# The names that others give to columns, the likeliest first.
SYNONYMS = {
    "path": (
        *("image_path", "img_path", "path_to_image", "image_file", "image_file_name", "image_filename", "image_name"),
        *("img_name", "img_file", "img", "image_id", "img_id", "isic_id", "images", "photo", "picture", "pic", "fname"),
        *("files", "filenames", "filepaths", "file_list", "image_list", "file_path", "paths", "image_url", "url"),
        *("image_link", "external_id", "photo_id", "sample_id", "data", "key", "id", "name", "uuid"),
    ),
    "label": (
        *("labels", "class_name", "class_label", "category_name", "label_name", "target_name", "classes", "categories"),
        *("classname", "class_id", "category_id", "label_id", "target_id", "class_index", "fine_label", "choice"),
        *("breed", "species", "diagnosis", "dx", "variety", "cultivar", "disease", "genus", "emotion", "condition"),
        *("ground_truth", "gt", "y", "tag", "tags", "annotation", "finding", "findings", "finding_labels", "type"),
        *("landmark_id", "product", "material", "style", "artist", "character", "cell_type", "kind"),
        *("prediction_string", "diagnostic"),
    ),
    "split": (
        *("subset", "set", "fold", "usage", "partition", "phase", "dataset", "data_set", "data_split", "image_set"),
        *("split_name", "set_name", "train_test", "train_test_split", "purpose", "is_valid", "is_val", "is_validation"),
        *(
            "is_test",
            "is_train",
            "is_training",
            "is_training_image",
            "valid",
            "train",
            "test",
            "kfold",
            "folds",
            "cv_fold",
        ),
    ),
    "group": (
        *("group_id", "patient", "patient_id", "subject", "subject_id", "case", "case_id", "lesion_id", "person"),
        *("person_id", "individual", "animal_id", "video", "video_id", "session", "session_id", "burst", "sequence_id"),
    ),
    "weight": ("sample_weight",),
}
# Words in file names that say the file divides images into splits.
ABOUT_SPLITS = r"(?i)split|partition|is_?(train|val|test)|train_?test"
# What the cells of a split column may say.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "tr", "entrainement", "entraînement", "apprentissage"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development", *EVALUATION, "publictest"), VAL),
    **dict.fromkeys(("test", "testing", "tst", "privatetest"), TEST),
}
# The splits that true and false cells stand for, by the word in the column name.
TRUTHS = {"valid": (VAL, TRAIN), "val": (VAL, TRAIN), "test": (TEST, TRAIN), "train": (TRAIN, TEST)}


def plain_name(name: str) -> str:
    """A name without case, blanks and punctuation."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def named(names: Sequence[str], spellings: Sequence[str]) -> list[int]:
    """The numbers of the columns that have any of these spellings, in the order of the spellings."""
    plain = [plain_name(name) for name in names]
    return [plain.index(each) for each in dict.fromkeys(map(plain_name, spellings)) if each in plain]


def known_names(names: Sequence[str]) -> list[int]:
    """The numbers of the columns whose names suggest paths or labels, or are graft's own."""
    spellings = [each for role in SPELLINGS for each in SPELLINGS[role]]
    return named(names, [*spellings, *SYNONYMS["path"], *SYNONYMS["label"]])


def find_columns(names: Sequence[str], group: str | None = None, options: TableOptions | None = None) -> dict[str, int]:
    """The number of the column for each of `path`, `label`, `split`, `group` and `weight` that `names` contains.

    Case and surrounding spaces do not matter. `group` names the column of groups if it has another name, and `options`
    name any column; of several columns of labels, the first counts. Raises InputError if a column in the options does
    not exist.
    """
    plain = [name.strip().lower() for name in names]
    wanted = SPELLINGS | ({} if group is None else {"group": (group.strip().lower(),)})
    places = {role: [plain.index(name) for name in spellings if name in plain] for role, spellings in wanted.items()}
    columns = {role: found[0] for role, found in places.items() if found}
    given = {role: options.column(role) for role in SPELLINGS} if options is not None else {}
    for role, name in given.items():
        if name is not None and is_no_column(name, names):
            columns.pop(role, None)
        elif name is not None:
            columns[role] = given_column(role, name, names)
    if options is not None and options.label_columns:
        columns["label"] = given_column("label", options.label_columns[0], names)
    return columns


def is_no_column(name: str, names: Sequence[str]) -> bool:
    """Whether the value given for a column says that there is none."""
    return name.strip().lower() in ("", NO_COLUMN) and not named(names, [name])


def given_column(role: str, name: str, names: Sequence[str], table: str = "the table") -> int:
    """The column that the user named for a role, or numbered from 1. Raises InputError if there is none."""
    found = [number for number, each in enumerate(names) if each.strip() == name.strip()] or named(names, [name])
    if not found and name.isdigit() and 0 < int(name) <= len(names):
        found = [int(name) - 1]
    if not found:
        shown = first_few(map(repr, names), 8)
        raise InputError(
            f"expected a column of {table} for --{role}-column, got {name!r}, which is not among {shown or 'none'}: "
            "name one of these"
        )
    return found[0]
