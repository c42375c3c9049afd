"""What is wrong with single images: where it is told from the others, and where it is not."""

import numpy as np
import pytest
from looked_at import images, looks

from graft.audit.findings import Finding
from graft.audit.image_findings import NAMED, NOTHING_SHOWN, RULES, _drawn, _far, _placeholders, image_findings
from graft.audit.looking import Looks
from graft.data.dataset import Images
from graft.images.preprocessing import Preprocessing

CROP = Preprocessing(224, (0.5,) * 3, (0.5,) * 3)
LETTERBOX = Preprocessing(224, (0.5,) * 3, (0.5,) * 3, resize_mode="letterbox")


def found(looked: Looks, preprocessing: Preprocessing = CROP, labels: list[int] | None = None) -> dict[str, Finding]:
    whole = images(labels or [row % 2 for row in range(len(looked))])
    return {finding.kind: finding for finding in image_findings(whole, looked, preprocessing)}


def test_photographs_like_each_other_are_no_finding() -> None:
    assert not found(looks(40))


@pytest.mark.parametrize(
    ("kind", "column", "value"),
    [
        ("dark", "dark", 0.2),
        ("light", "bright", 0.97),
        ("low_information", "entropy", 0.9),
        ("blurry", "sharpness", 0.004),
        ("wrong_extension", "wrong_suffix", True),
        ("exif_rotation", "orientation", 6),
        ("animated", "frames", 12),
        ("grey", "saturation", 0.0),
    ],
)
def test_an_image_unlike_the_others_is_named(kind: str, column: str, value: float) -> None:
    result = found(looks(40, **{column: {7: value}}))
    assert set(result) == {kind}
    assert result[kind].images == (7,)


def test_an_image_of_less_than_half_the_usual_side_is_of_an_odd_size() -> None:
    result = found(looks(40, width={7: 240, 9: 260}, height={7: 180, 9: 195}))
    assert set(result) == {"odd_size"}
    assert result["odd_size"].images == (7,)
    assert result["odd_size"].remarks == ("240 x 180 px",)


def test_what_is_true_of_most_images_is_no_finding() -> None:
    # As among sketches: white paper, next to no information, no colour, few levels.
    wave = np.sin(np.arange(60))
    assert not found(
        looks(60, bright=0.97 + 0.02 * wave, entropy=1.2 + 0.3 * wave, saturation=np.zeros(60), colours=np.full(60, 8))
    )


def test_a_third_of_the_images_may_be_dark_and_all_of_them_are_named() -> None:
    dark = 0.9 + 0.05 * np.sin(np.arange(60))
    dark[:20] = 0.1
    assert found(looks(60, dark=dark))["dark"].images == tuple(range(20))


def test_a_drawing_of_few_colours_in_a_format_and_size_of_its_own_is_a_placeholder() -> None:
    drawn = {"colours": {3: 30}, "entropy": {3: 1.2}}
    result = found(looks(40, **drawn, format={3: 2}, width={3: 400}))
    assert result["placeholder"].images == (3,)
    assert result["placeholder"].severity == "error"
    for alike in ({"format": {3: 2}}, {"width": {3: 400}}, {"format": {3: 2, 9: 2}, "width": {3: 400}}):
        result = found(looks(40, **drawn, **alike))
        assert "placeholder" not in result
        assert result["possible_placeholder"].severity == "info"


def test_a_drawing_under_several_labels_is_a_placeholder_and_one_under_a_single_label_is_a_hint() -> None:
    drawn = looks(40, colours={3: 30, 4: 30}, entropy={3: 2.4, 4: 2.4}, digest={4: (3, 1)})
    assert found(drawn)["placeholder"].images == (3, 4)
    assert "placeholder" not in found(drawn, labels=[0] * 39 + [1])


@pytest.mark.parametrize("name", ["imageNotFound", "no-photo", "image_unavailable", "placeholder_3"])
def test_a_drawing_that_is_called_so_is_a_placeholder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("looked_at.Named.key", lambda self, row: f"ants/{name}.jpg" if row == 3 else f"bees/{row}.jpg")
    assert found(looks(40, colours={3: 30}, entropy={3: 2.4}))["placeholder"].images == (3,)
    assert "placeholder" not in found(looks(40))


def test_ink_on_paper_is_not_light_whatever_the_share_of_ink() -> None:
    bright = np.where(np.arange(60) % 7 == 0, 1.0, 0.3 + 0.1 * np.sin(np.arange(60)))
    ink = np.full((60, 24, 24), 255, np.uint8)
    ink[:, 4:20, 11:13] = 20
    assert "light" not in found(looks(60, bright=bright, thumbnail=ink))
    assert "light" in found(looks(60, bright=bright))


def test_what_is_usual_in_a_class_is_no_finding() -> None:
    dark = 0.9 + 0.05 * np.sin(np.arange(60))
    dark[:12] = 0.2 + 0.01 * np.sin(np.arange(12))
    assert "dark" not in found(looks(60, dark=dark), labels=[1] * 12 + [0] * 48)
    assert found(looks(60, dark=dark), labels=[0] * 60)["dark"].images == tuple(range(12))


def test_neither_a_photograph_of_few_levels_nor_a_tiny_one_is_a_placeholder() -> None:
    assert "placeholder" not in found(looks(40, colours={3: 50}, entropy={3: 5.4}))
    assert "placeholder" not in found(looks(40, colours={3: 30}, entropy={3: 1.4}, width={3: 32}, height={3: 32}))


def test_one_content_many_times_under_several_labels_is_a_placeholder() -> None:
    same = {row: (0, 1) for row in (4, 8, 13, 20)}
    assert found(looks(40, digest=same))["placeholder"].images == (0, 4, 8, 13, 20)
    assert "placeholder" not in found(looks(40, digest=same), labels=[0] * 39 + [1])


def test_of_a_narrow_image_it_says_how_much_the_crop_keeps() -> None:
    looked = looks(40, width={5: 1000}, height={5: 250})
    finding = found(looked)["odd_aspect_ratio"]
    assert finding.severity == "warning"
    # A quarter, of which the crop takes 0.875 along each side.
    assert (
        "1 image is 4.0 times as long as wide: a crop keeps 19% of the area, --resize letterbox all" in finding.message
    )
    assert found(looked, LETTERBOX)["odd_aspect_ratio"].severity == "info"


def test_what_cannot_be_decoded_is_named_with_the_reason_and_measured_by_nothing() -> None:
    zeros = {2: 0.0}
    looked = looks(40, {2: "cut short"}, dark=zeros, entropy=zeros, sharpness=zeros, saturation=zeros, width=zeros)
    result = found(looked)
    assert set(result) == {"unreadable"}
    assert result["unreadable"].remarks == ("cut short",)
    assert "1 of 40 images cannot be decoded" in result["unreadable"].message


def test_a_data_set_of_which_nothing_can_be_decoded_has_one_finding() -> None:
    looked = looks(2, {0: "no", 1: "no"}, dark=np.zeros(2), width=np.zeros(2), colours=np.zeros(2))
    assert set(found(looked)) == {"unreadable"}


def one_by_one(whole: Images, looked: Looks, drawn: np.ndarray) -> np.ndarray:
    """Which drawings are named like a placeholder, or show nothing and are unlike every other image."""
    expected = np.zeros(len(whole), bool)
    empty = drawn & (looked.entropy < NOTHING_SHOWN)
    for row in np.flatnonzero(drawn).tolist():
        others = looked.decoded & (np.arange(len(whole)) != row)
        same_size = (looked.width == looked.width[row]) & (looked.height == looked.height[row])
        alone = not (others & ((looked.format == looked.format[row]) | same_size)).any()
        named = NAMED.search(whole.key(row).rpartition(".")[0]) is not None
        expected[row] = named or bool(empty[row] and empty.sum() == 1 and alone)
    return expected


def test_placeholders_are_those_found_by_comparing_each_drawing_with_every_image() -> None:
    unlike = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        count = int(random.integers(20, 60))
        drawn = random.random(count) < 0.05
        other = random.random((2, count)) < np.where(drawn, 0.8, 0.004)
        looked = looks(
            count,
            {3: "it is cut short"},
            format=np.where(other[0], 2, 1).astype(np.uint8),
            width=np.where(other[1], 400, 500).astype(np.int32),
            colours=np.where(drawn, 20, 5000).astype(np.int32),
            entropy=np.where(drawn, random.choice([1.0, 2.5], count), 7.0),
        )
        whole = images(random.integers(0, 3, count).tolist())
        drawn = _drawn(looked)
        expected = one_by_one(whole, looked, drawn)
        assert (_placeholders(whole, looked, drawn) == expected).all()
        unlike += int(expected.any())
    assert unlike > 10


def test_an_image_is_compared_with_its_class_however_the_classes_are_mixed() -> None:
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(40), np.arange(1, 41)))
    labels[random.random(len(labels)) < 0.05] = -1
    dark = np.where(labels % 4 == 0, 0.2, 0.9) + 0.05 * random.normal(size=len(labels))
    dark[random.random(len(labels)) < 0.02] = 0.01
    looked = looks(len(labels), dark=dark)
    rule = next(rule for rule in RULES if rule.kind == "dark")
    expected = (dark < rule.threshold) & _far(dark, looked.decoded, True)
    for label in range(40):
        of_class = labels == label
        if of_class.sum() >= 10:
            expected &= ~of_class | _far(dark, of_class, True)
    found = rule.found(looked, looked.decoded, labels)
    assert (found == expected).all() and 0 < found.sum() < (dark < rule.threshold).sum()
