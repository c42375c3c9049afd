"""A walk: the page's data equal what the network computes, and say what a run did to each stage."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from graft.accounting.recording import record
from graft.errors import DataError, FetchError, InputError, WeightsError
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.images.preprocessing import normalise
from graft.images.resizing import to_square
from graft.progress import Reporter
from graft.weights.base import load_base, untrained_base
from graft.weights.saved import SavedModel, save_model
from graft.workflows import walked_stage
from graft.workflows.walk import LARGEST_PAGE, Walk, walk
from graft.workflows.walked_stage import DETAILS, Output, Place, most_active, packed, show_stage


@pytest.fixture(scope="module", autouse=True)
def few_details() -> Iterator[None]:
    """Use fewer channels and pixels than a page has room for, to save time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walked_stage, "DETAILS", ((4, 3), (2, 2), (1, 1)))
        yield


@pytest.fixture(scope="module")
def letter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, _ = render_letters(LATIN[:1], dejavu_fonts(), 1, seed=0)
    path = tmp_path_factory.mktemp("images") / "letter.png"
    Image.fromarray(images[0][:, :, 0]).save(path)
    return path


@pytest.fixture(scope="module")
def plain(letter: Path) -> Walk:
    return walk(["latin_letters"], str(letter))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a run that trained the last stages of the bundled base."""
    base = load_base("latin_letters")
    network = base.network
    torch.manual_seed(0)
    network.new_head(3)
    with torch.no_grad():
        network.get_submodule("f6").weight += 0.01
    folder = tmp_path_factory.mktemp("runs") / "tuned"
    facts = {"base": "latin_letters", "level": "stages:1", "cut": "stage3"}
    save_model(folder, SavedModel(network, base.preprocessing, ("a", "b", "<i>c</i>"), facts=facts))
    return folder


def shown_sum(step: dict[str, Any], kernels: list[dict[str, Any]]) -> float:
    """A weighted sum, from the numbers that the page shows."""
    total, kernel = step["s"], kernels[step["s"]["k"]]
    for inputs, weights, product in zip(total["x"], kernel["weights"], total["d"], strict=True):
        each = sum(x * w for x, w in zip(inputs, weights, strict=True) if x is not None)
        assert each == pytest.approx(product, rel=1e-3, abs=1e-3)
    return sum(total["d"]) + total["r"] + kernel["bias"]


def sums(step: dict[str, Any]) -> list[dict[str, Any]]:
    return ([step] if "s" in step else []) + [each for operand in step.get("a", ()) for each in sums(operand)]


def outputs(name: str, letter: Path) -> dict[str, Tensor]:
    """The output of every stage for the image, as the network itself computes it."""
    base = load_base(name) if name == "latin_letters" else untrained_base(name, seed=0)
    base.network.eval()
    pixels = to_square(np.stack([np.array(Image.open(letter))] * 3, 2), base.preprocessing)
    batch = normalise(pixels[None], base.preprocessing)
    with torch.no_grad():
        return {**base.network.feature_maps(batch), "head": base.network(batch)}


def test_numbers_at_random_places_are_the_networks_to_four_digits_in_one_page(letter: Path) -> None:
    names, random = ["mobilenet_v1_025", "lenet5_1998"], Random(1)
    found = [outputs(name, letter) for name in names]
    places = [
        ":".join([stage, *(str(random.randrange(size)) for size in output.shape[1:])])
        for maps in found
        for stage, output in maps.items()
    ]
    walked = walk(names, str(letter), at=places, random=True)
    assert packed(walked.to_dict()) < LARGEST_PAGE - 40_000
    for network, maps in zip(walked.networks, found, strict=True):
        json.dumps(network, allow_nan=False)
        own = iter(places[: len(maps)] if maps is found[0] else places[len(found[0]) :])
        for stage in network["stages"]:
            assert stage["shape"] == list(maps[stage["name"]].shape[1:])
            # In evaluation every number of a stage with weights leads to a kernel.
            assert stage["name"] == "pool" or all(each["kernels"] for each in stage["channels"])
            check(stage, [int(each) for each in next(own).split(":")[1:]], maps[stage["name"]])


def check(stage: dict[str, Any], place: list[int], output: Tensor) -> None:
    """The number at one place of a stage, and every weighted sum that it was made of."""
    channel, *pixel = place
    shown = next(each for each in stage["channels"] if each["index"] == channel)
    (step,) = (each[-1] for each in shown["pixels"] if each[:-1] == pixel)
    assert step["v"] == pytest.approx(float(output[(0, channel, *pixel)]), rel=5e-5)
    for each in sums(step):
        # Numbers of five digits, added up, differ in the fifth digit of the largest.
        largest = max(map(abs, [*each["s"]["d"], each["s"]["r"], each["v"]]))
        assert shown_sum(each, shown["kernels"]) == pytest.approx(each["v"], abs=1e-4 * largest)


def test_stages_come_with_their_costs_and_their_shares_add_up(plain: Walk) -> None:
    (network,) = plain.networks
    stages = network["stages"]
    assert [each["name"] for each in stages] == ["stage1", "stage2", "stage3", "stage4", "head"]
    assert sum(each["share_of_params"] for each in stages) == pytest.approx(1)
    assert sum(each["share_of_macs"] for each in stages) == pytest.approx(1)
    assert (stages[0]["params"], stages[0]["receptive_field"], stages[0]["state"]) == (156, 6, None)
    # A pixel of a 5 x 5 convolution padded by two, pooled by two.
    assert stages[0]["sights"] == {"down": [-2.0, 3.0, 2.0], "across": [-2.0, 3.0, 2.0], "whole": False}
    means = [abs(each["mean"]) for each in stages[4]["channels"]]
    assert len(means) == 8 and stages[4]["channels"][0]["name"] == network["top"][0][0]


def test_the_outlined_pixels_are_those_that_change_a_number(plain: Walk) -> None:
    base = load_base("latin_letters")
    (network,) = plain.networks
    batch = torch.randn(1, 1, 28, 28, requires_grad=True)
    for stage, row, column in (("stage1", 5, 7), ("stage2", 2, 1)):
        first, last, jump = next(each for each in network["stages"] if each["name"] == stage)["sights"]["down"]
        (gradient,) = torch.autograd.grad(base.network.feature_maps(batch)[stage][0, :, row, column].sum(), batch)
        rows, columns = (gradient[0, 0].abs().sum(axis).nonzero().flatten().tolist() for axis in (1, 0))
        assert rows[0] == max(0, first + row * jump) and rows[-1] == min(27, last + row * jump)
        assert columns[0] == max(0, first + column * jump) and columns[-1] == min(27, last + column * jump)


def test_a_run_marks_what_was_frozen_and_sets_its_base_beside_it(letter: Path, run: Path) -> None:
    base, tuned = walk(["latin_letters", str(run)], str(letter)).networks
    assert [each["state"] for each in tuned["stages"]] == ["frozen"] * 3 + ["trained"] * 2
    assert (tuned["name"], tuned["level"], tuned["cut"]) == ("tuned", "stages:1", "stage3")
    changes = {each["name"]: each.get("change") for each in tuned["stages"]}
    assert changes["stage1"] == 0.0 and changes["stage4"] > 0.01 and changes["head"] is None
    for one, other in zip(base["stages"][:-1], tuned["stages"][:-1], strict=True):
        assert [each["index"] for each in one["channels"]] == [each["index"] for each in other["channels"]]


def test_the_summary_has_the_facts_without_the_maps(plain: Walk) -> None:
    summary = plain.summary()
    assert "uri" not in json.dumps(summary) and summary["networks"][0]["stages"][0]["most_active"]


def test_a_stage_is_told_in_as_much_detail_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walked_stage, "DETAILS", DETAILS[4:])
    torch.manual_seed(0)
    layer, batch = nn.Conv2d(8, 12, 3, padding=1), torch.randn(1, 8, 40, 40)
    output = Output(*record(layer, lambda: layer(batch)))
    order = most_active(output, by_value=False)
    strength = output.value[0].abs().mean((1, 2))
    assert order == strength.argsort(descending=True).tolist()
    numbers = []
    for room in (20_000, 60_000, 10**7):
        shown = show_stage(output, order, [Place(order[-1], 7, 39)], room)
        assert packed(shown) <= room
        numbers.append(sum(len(each["pixels"]) for each in shown["channels"]))
        assert [7, 39] in [each[:2] for each in shown["channels"][-1]["pixels"]]
    assert numbers == sorted(numbers) and numbers[0] < numbers[-1]


def test_a_name_without_published_weights_starts_at_random_and_says_so(letter: Path) -> None:
    notes: list[str] = []
    (network,) = walk(["lenet5"], str(letter), reporter=Reporter(note=notes.append)).networks
    assert network["start"] == "random" and "no published weights" in notes[0]


def test_a_file_of_weights_is_named_without_its_folders(run: Path, letter: Path) -> None:
    (network,) = walk([str(run / "model.safetensors")], str(letter)).networks
    assert (network["name"], network["cut"]) == ("model.safetensors", None)


@pytest.mark.parametrize(
    ("networks", "at", "kind", "words"),
    [
        (["latin_letters"], ["stage9:0"], InputError, "stage9"),
        (["latin_letters"], ["stage1:6"], InputError, "6 × 14 × 14"),
        (["latin_letters"], ["stage1:0:14:0"], InputError, "6 × 14 × 14"),
        (["latin_letters"], ["stage1:-1"], InputError, "STAGE:CHANNEL"),
        (["latin_letters"], ["stage1:0:1"], InputError, "STAGE:CHANNEL"),
        (["latin_letters"], ["stage4:0:1:1"], InputError, "which is 84"),
        (["latin_letter"], [], WeightsError, "did you mean"),
        (["latin_letters"] * 3, [], InputError, "one network or two"),
    ],
)
def test_a_wrong_call_says_what_was_expected(
    networks: list[str], at: list[str], kind: type[Exception], words: str, letter: Path
) -> None:
    with pytest.raises(kind, match="expected") as failed:
        walk(networks, str(letter), at=at)
    assert words in str(failed.value)


def test_what_is_no_image_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(DataError, match=r"text\.jpg"):
        walk(["latin_letters"], str(tmp_path / "text.jpg"))
    with pytest.raises(DataError, match="nowhere"):
        walk(["latin_letters"], str(tmp_path / "nowhere.png"))


def test_weights_that_cannot_be_fetched_can_be_done_without(letter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise FetchError("expected to fetch weights, got no network: try again")

    monkeypatch.setattr("graft.workflows.walk.load_base", unreachable)
    with pytest.raises(FetchError, match="`random`"):
        walk(["resnet18"], str(letter))
