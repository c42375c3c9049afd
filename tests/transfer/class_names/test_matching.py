"""The user's classes found among a base's, by name or by a class map."""

import json
from pathlib import Path

import pytest
import torch

from graft.errors import DataError, InputError
from graft.transfer.class_names.matching import MOST_NOTES, find_outputs, match_classes, note_on_others
from graft.weights.base import BUNDLED

SHORT_NAMES = tuple(json.loads((BUNDLED / "imagenet_classes.json").read_text()))


@pytest.fixture(scope="module")
def imagenet(shared: Path) -> tuple[str, ...]:
    """ImageNet's classes with their synonyms; the second `crane` named as a base would have it."""
    names = json.loads((shared / "weights" / "imagenet_classes.json").read_text())
    names[517] = "crane (517)"
    return tuple(names)


def outputs(classes: tuple[str, ...], base_classes: tuple[str, ...], **options: object) -> list[tuple[int, ...]]:
    return [match.base_classes for match in match_classes(classes, base_classes, **options)]


@pytest.mark.parametrize(
    ("name", "base_class", "how"),
    [
        ("golden retriever", "golden retriever", "literally"),
        ("Golden_Retriever", "golden retriever", "by name"),
        ("golden-retrievers", "golden retriever", "by name"),
        ("Hund", "hund", "by name"),
        ("café", "Cafe", "by name"),
        ("KÄFER", "käfer, Beetle", "by name"),
        ("beetles", "käfer, Beetle", "by a synonym"),
        ("daisies", "daisy", "by name"),
        ("foxes", "fox", "by name"),
        ("geese", "goose", "by name"),
        ("ant", "ants", "by name"),
        ("glass", "glass", "literally"),
    ],
)
def test_spelling_and_number_do_not_matter(name: str, base_class: str, how: str) -> None:
    # A stranger beside it, or every name would be the base's own.
    found, _ = match_classes((name, "Other"), ("zebra", base_class, "other"))
    assert (found.base_classes, found.how) == ((1,), how)


@pytest.mark.parametrize("name", ["á", "a", "д", "bu", "hunde", "grasses of the plain", "", "-"])
def test_what_merely_looks_alike_is_not_found(name: str) -> None:
    with pytest.raises(DataError, match="`class_map=FILE`"):
        match_classes((name,), ("A", "bus", "Hund", "Д", "grass"))


def test_a_name_in_another_case_is_another_class_where_the_base_has_both() -> None:
    assert outputs(("ab", "AB", "cd"), ("AB", "ab", "CD")) == [(1,), (0,), (2,)]


def test_a_synonym_of_several_classes_means_all_of_them() -> None:
    assert outputs(("panther",), ("cougar, panther", "jaguar, panther", "lion")) == [(0, 1)]
    # A class's first name goes before another one's synonym.
    assert outputs(("polecat",), ("polecat, fitch", "skunk, polecat")) == [(0,)]


def test_ants_and_bees_are_found_in_imagenet_with_synonyms_and_without(imagenet: tuple[str, ...]) -> None:
    for names in (imagenet, SHORT_NAMES):
        assert outputs(("ants", "bees"), names) == [(310,), (309,)]


def test_nine_classes_of_cifar_are_found_in_imagenet_and_deer_is_not(imagenet: tuple[str, ...]) -> None:
    cifar = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    for names in (imagenet, SHORT_NAMES):
        with pytest.raises(DataError, match=r"got 'deer'.*: assign .* with `class_map=FILE`") as error:
            match_classes(cifar, names)
        assert not any(repr(name) in str(error.value) for name in cifar if name != "deer")
        found = dict(zip(cifar, match_classes(cifar, names, {"deer": ("gazelle", 352)}), strict=True))
        assert found["deer"].base_classes == (352, 353)
        assert found["airplane"].base_classes == (404, 895)
        assert found["dog"].base_classes == tuple(range(151, 269))
        assert found["cat"].base_classes == (281, 282, 283, 284, 285)
        assert len(found["bird"].base_classes) == 59
        assert found["frog"].base_classes == (30, 31, 32)
        assert {name for name, match in found.items() if match.how != "by the word list"} == {"deer"}


def test_a_word_of_the_list_means_what_people_mean_unless_all_names_are_the_bases_own(
    imagenet: tuple[str, ...],
) -> None:
    # To ImageNet a plane is a carpenter's; without synonyms that is the very name of the class.
    for names in (imagenet, SHORT_NAMES):
        assert outputs(("plane", "ants"), names) == [(404, 895), (310,)]
        assert outputs(("plane", "ant"), names) == [(726,), (310,)]


def test_the_word_list_is_for_imagenet_alone() -> None:
    others = tuple(f"thing {index}" for index in range(1000))
    for names in (others, SHORT_NAMES[:999], tuple(reversed(SHORT_NAMES))):
        with pytest.raises(DataError, match="'dog'"):
            match_classes(("dog",), names)


def test_the_bases_own_names_are_taken_as_such(imagenet: tuple[str, ...]) -> None:
    for names in (imagenet, SHORT_NAMES):
        assert outputs(names[::-1], names) == [(index,) for index in reversed(range(1000))]
        # As folders are named, `drum` and `plane` among them.
        some = range(640, 1000)
        folders = tuple(names[index].split(",")[0].lower().replace(" ", "_") for index in some)
        assert outputs(folders, names) == [(index,) for index in some]


def test_a_name_that_the_base_has_twice_means_both(imagenet: tuple[str, ...]) -> None:
    assert outputs(("crane", "bee"), imagenet) == [(134, 517), (309,)]
    assert outputs(("crane", "crane (517)"), imagenet) == [(134,), (517,)]


def test_what_two_classes_claim_goes_to_the_narrower_one(imagenet: tuple[str, ...]) -> None:
    dog, beagle, hound = outputs(("dog", "Beagle", "hounds"), imagenet)
    assert beagle == (162,)
    assert set(hound) == set(range(159, 178)) - {162}
    assert set(dog) == set(range(151, 269)) - set(hound) - {162}


@pytest.mark.parametrize(
    ("classes", "named"),
    [
        (("ant", "ants"), ("'ant'", "'ants'")),
        (("car", "automobile"), ("'car'", "'automobile'")),
        (("panda", "red panda", "giant panda"), ("'panda'", "'red panda'")),
    ],
)
def test_what_nothing_decides_is_an_error_that_names_both(
    classes: tuple[str, ...], named: tuple[str, str], imagenet: tuple[str, ...]
) -> None:
    with pytest.raises(DataError, match=f"got {named[0]} and {named[1]} both for .*`class_map=FILE`"):
        match_classes(classes, imagenet)


def test_the_class_map_goes_before_every_name(imagenet: tuple[str, ...]) -> None:
    class_map = {"pets": ("dog", "cat"), "Biene": ("bee",), "engine": (820,)}
    found = match_classes(("pets", "Biene", "engine", "beagle", "ants"), imagenet, class_map | {"beagle": (167,)})
    pets, bee, engine, beagle, ants = found
    assert set(pets.base_classes) == set(range(151, 269)) - {167} | set(range(281, 286))
    assert [each.base_classes for each in (bee, engine, beagle, ants)] == [(309,), (820,), (167,), (310,)]
    assert [each.how for each in found[:4]] == ["by the class map"] * 4
    with pytest.raises(DataError, match="got 'wolf' and 'dog' both for 'timber wolf"):
        match_classes(("dog", "wolf"), imagenet, {"dog": tuple(range(151, 276))})


def test_a_class_map_that_fits_nothing_is_refused_by_name(imagenet: tuple[str, ...]) -> None:
    for class_map, says in (
        ({"antz": ("ant",)}, r"got 'antz' \(did you mean 'ants'\?\)"),
        ({"ants": ("goldfisch",)}, r"got 'goldfisch' \(did you mean 'goldfish'\?\) for 'ants'"),
        ({"ants": (1000,)}, "from 0 to 999 in the class map, got 1000 for 'ants'"),
        ({"ants": (-1,)}, "got -1 for 'ants'"),
    ):
        with pytest.raises(InputError, match=says):
            match_classes(("ants", "bees"), imagenet, class_map)


def test_near_names_are_offered_for_what_is_not_found(imagenet: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"among the base's 1,000 classes, got 'elefant' \(did you mean 'elephant'\?\)"):
        match_classes(("ants", "elefant"), imagenet)
    with pytest.raises(DataError, match=r"\(12 in all\)"):
        match_classes(tuple(f"{letter}{letter}{letter}" for letter in "abcdefghijkl"), imagenet)


def test_outputs_are_followed_through_a_base_that_has_several_for_a_class() -> None:
    found, notes = find_outputs(("insect", "Cat"), ("cat", "insect"), ((7, 8), (1, 5)))
    assert found == ((1, 5), (7, 8))
    assert notes == ("'Cat' is read as the base's 'cat' (by name)",)


def test_the_notes_say_how_classes_are_read_and_stay_few(imagenet: tuple[str, ...]) -> None:
    _, notes = find_outputs(("ants", "bee", "dog"), imagenet)
    assert notes[0] == "'ants' is read as the base's 'ant, emmet, pismire' (by name)"
    assert notes[1].startswith("'dog' is read as the base's 'Chihuahua', 'Japanese spaniel'")
    assert notes[1].endswith("(118 in all) (by the word list)")
    assert len(notes) == 2
    assert find_outputs(SHORT_NAMES, SHORT_NAMES)[1] == ()
    _, many = find_outputs(tuple(name.upper() for name in SHORT_NAMES[:200]), SHORT_NAMES)
    assert len(many) == MOST_NOTES + 1
    assert many[-1].startswith("180 more")


def test_first_answers_outside_the_classes_are_counted() -> None:
    logits = torch.tensor([[3.0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0], [0, 0, 0, 3], [2, 0, 0, 3]])
    assert note_on_others("val", logits, ((3,), (1, 2))).startswith("on 1 of 5 images in val ")


def test_bases_that_call_their_classes_by_wordnet_ids_are_found_by_what_these_name() -> None:
    found = match_classes(("tench", "parachute"), ("n03888257", "n01440764", "n02102040"))
    assert [(match.base_classes, match.how) for match in found] == [
        ((1,), "by its WordNet id"),
        ((0,), "by its WordNet id"),
    ]


def test_numbers_are_indices_where_they_can_be_nothing_else() -> None:
    base = tuple(f"class {number}" for number in range(1000))
    assert [match.base_classes for match in match_classes(("0", "217", "482"), base)] == [(0,), (217,), (482,)]
    with pytest.raises(DataError, match="expected names among"):
        match_classes(tuple("0123456789"), base)
