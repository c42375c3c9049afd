"""What is wrong with single images: where it is told from the others, and where it is not."""

import numpy as np
import pytest
from looked_at import images, looks

from graft.audit.findings import Finding
from graft.audit.image_findings import image_findings
from graft.audit.looking import Looks
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


def test_a_drawing_of_few_colours_among_photographs_is_a_placeholder() -> None:
    result = found(looks(40, colours={3: 30}, entropy={3: 1.4}))
    assert result["placeholder"].images == (3,)
    assert result["placeholder"].severity == "error"


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
