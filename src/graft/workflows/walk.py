"""Walk one image through a network stage by stage, or through two networks side by side."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft.accounting.counting import Output as StageEnd
from graft.accounting.counting import account, by_group, ends_of
from graft.accounting.receptive_field import Sight
from graft.accounting.recording import record
from graft.data.loading import least_side
from graft.data.readers.folder import read_file
from graft.errors import DataError, FetchError, ImageError, InputError, did_you_mean
from graft.images.decoding import decode
from graft.images.map_sheet import as_uri
from graft.images.preprocessing import Preprocessing, normalise
from graft.images.resizing import to_square
from graft.models.catalog import CATALOG
from graft.models.cuts import HEAD, LAST
from graft.models.network import Network
from graft.progress import NOBODY, Reporter
from graft.weights.architectures import is_timm, resolve
from graft.weights.base import Base, load_base, untrained_base
from graft.weights.model_files import refuse_several_labels
from graft.weights.saved import CONFIG_FILE, class_logits, model_folder
from graft.workflows.run import short
from graft.workflows.walked_stage import Output, Place, most_active, packed, show_stage

# Bytes of a page, and the parts of it that are not stages: the page's own text and, for each network, image and facts.
LARGEST_PAGE, OWN_TEXT, FACTS = 1_500_000, 60_000, 20_000
MOST_NETWORKS = 2
TOP = 5


@dataclass(frozen=True)
class Walk:
    """What a page shows: the image's name, and the facts and stages of each network, ready for JSON."""

    image: str
    networks: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        return {"image": self.image, "networks": list(self.networks)}

    def summary(self) -> dict[str, Any]:
        """Return the facts without maps and arithmetic, as `graft walk --json` prints them."""
        left_out = ("channels", "sheet", "inputs", "sights")
        networks = [
            {
                **{key: value for key, value in each.items() if key not in ("uri", "stages")},
                "stages": [
                    {
                        **{key: value for key, value in stage.items() if key not in left_out},
                        "most_active": [channel["index"] for channel in stage["channels"]],
                    }
                    for stage in each["stages"]
                ],
            }
            for each in self.networks
        ]
        return {"image": self.image, "networks": networks}


@dataclass(frozen=True)
class _Opened:
    """A network to walk through; `cut` and `level` are those of the run that trained it, None without a run."""

    base: Base
    level: str | None = None
    cut: str | None = None


def walk(
    networks: Sequence[str],
    image: str,
    *,
    at: Sequence[str] = (),
    random: bool = False,
    seed: int = 0,
    reporter: Reporter = NOBODY,
) -> Walk:
    """Walk one image through a network, or through two whose stages the page shows side by side.

    Args:
        networks: One or two values of `--base`: runs, names, files of weights.
        image: The file of the image.
        at: Pixels that the page must include, as `STAGE:CHANNEL` or `STAGE:CHANNEL:ROW:COLUMN`.
        random: Whether named architectures start at random from `seed`, as those without published weights always do.

    Raises InputError for a place that no network has, DataError for an unreadable image, and what `load_base` raises.
    """
    if not 1 <= len(networks) <= MOST_NETWORKS:
        raise InputError(f"expected one network or two, got {len(networks)}: graft walk A B IMAGE")
    data = _read(image)
    if random and not any(map(_is_name, networks)):
        raise InputError(
            f"expected the name of an architecture with --random, got {' and '.join(networks)}, with weights of its "
            "own: leave --random out"
        )
    opened = [_open(each, random, seed, reporter) for each in networks]
    for each in opened:
        # A network that starts at random is built in training mode.
        each.base.network.eval()
    _check_places(at, opened)
    room = (LARGEST_PAGE - OWN_TEXT) // len(opened)
    walked: list[dict[str, Any]] = []
    for each in opened:
        follow = walked[0]["stages"] if walked and _same_stages(opened) else ()
        pixels = _prepared(image, data, each.base.preprocessing)
        walked.append(_walk(each, pixels, at, room, follow, reporter))
    if len(opened) == 2 and _same_stages(opened):
        for stage, change in _changes(opened[0].base.network, opened[1].base.network).items():
            next(each for each in walked[1]["stages"] if each["name"] == stage)["change"] = change
    return Walk(Path(image).name, tuple(walked))


def _read(image: str) -> bytes:
    try:
        return read_file(Path(image).expanduser())
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"expected IMAGE to be the file of an image, got {image!r} ({reason}): check the path"
        ) from None


def _prepared(image: str, data: bytes, preprocessing: Preprocessing) -> Tensor:
    """Return the image as the network takes it, uint8 (C, size, size). Raises DataError."""
    try:
        return to_square(decode(data, least_side(preprocessing), preprocessing.levels), preprocessing)
    except ImageError as error:
        raise DataError(f"expected IMAGE to be an image, got {image!r}: {error}") from None


def _is_name(named: str) -> bool:
    return not Path(named).expanduser().exists() and (is_timm(named) or named in CATALOG)


def _open(named: str, random: bool, seed: int, reporter: Reporter) -> _Opened:
    path, is_name = Path(named).expanduser(), _is_name(named)
    if is_name and not random and resolve(named).published is None:
        reporter.note(
            f"{named} has no published weights: it starts at random, so its maps are those of an untrained network"
        )
    if is_name and (random or resolve(named).published is None):
        return _Opened(untrained_base(named, seed=seed))
    try:
        base = load_base(named, reporter=reporter)
    except FetchError as error:
        if is_name:
            raise FetchError(f"{error}; or add --random to walk through it with random weights") from None
        raise
    refuse_several_labels(base.thresholds is not None, "a walk")
    for each in base.notes:
        reporter.note(each)
    if not path.is_dir():
        return _Opened(replace(base, name=short(named)))
    facts = _facts_of_run(path)
    return _Opened(replace(base, name=path.resolve().name), facts.get("level"), facts.get("cut"))


def _facts_of_run(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads((model_folder(path) / CONFIG_FILE).read_text(encoding="utf-8"))
    except InputError:
        # A folder of weights that does not come from a graft run.
        return {}
    return facts if isinstance(facts, dict) else {}


def _same_stages(opened: Sequence[_Opened]) -> bool:
    """Return whether all networks share one architecture, so that the same channels can be compared stage by stage."""
    return len({each.base.network.config.architecture for each in opened}) == 1


def _check_places(at: Sequence[str], opened: Sequence[_Opened]) -> None:
    """Refuse places that no network has. Raises InputError."""
    shapes = [(stage, shape) for each in opened if at for stage, shape in _shapes(each.base).items()]
    known = list(dict.fromkeys(stage for stage, _ in shapes))
    for each in at:
        stage, *numbers = each.split(":")
        if stage not in known:
            raise InputError(
                f"expected a stage for --at ({', '.join(known)}), got {stage!r}{did_you_mean(stage, known)}: choose one"
            )
        if len(numbers) not in (1, 3) or not all(number.isdecimal() for number in numbers):
            raise InputError(
                f"expected STAGE:CHANNEL or STAGE:CHANNEL:ROW:COLUMN for --at, got {each!r}: write it like that, with "
                "numbers from 0"
            )
        own = [shape for name, shape in shapes if name == stage]
        if not any(_places([each], stage, shape) for shape in own):
            sizes = " or ".join(dict.fromkeys(" × ".join(map(str, shape)) for shape in own))
            raise InputError(f"expected a place in {stage}, which is {sizes}, got {each!r}: numbers start at 0")


def _shapes(base: Base) -> dict[str, tuple[int, ...]]:
    """Return the output shape of every stage."""
    size = (base.preprocessing.channels, base.preprocessing.size, base.preprocessing.size)
    groups = {stage.name: stage.parts for stage in base.network.stages}
    return {name: end.shape for name, end in zip(groups, ends_of(account(base.network, size), groups), strict=True)}


def _places(at: Sequence[str], stage: str, shape: Sequence[int]) -> list[Place]:
    """Return the pixels asked for in this stage that its output has."""
    places = []
    for each in at:
        named, *numbers = each.split(":")
        found = [int(number) for number in numbers]
        fits = len(found) in (1, len(shape)) and all(place < size for place, size in zip(found, shape, strict=False))
        if named == stage and fits:
            places.append(Place(*found))
    return places


def _walk(
    opened: _Opened, pixels: Tensor, at: Sequence[str], room: int, follow: Sequence[dict[str, Any]], reporter: Reporter
) -> dict[str, Any]:
    """Return a network's facts and stages; the channels shown in `follow`, another's stages, come first."""
    base, network = opened.base, opened.base.network
    batch = normalise(pixels[None], base.preprocessing)
    table = account(network, (base.preprocessing.channels, *pixels.shape[1:]))
    groups = {stage.name: stage.parts for stage in network.stages}
    costs, ends = by_group(table, groups), ends_of(table, groups)
    params, macs = sum(each.params for each in costs), sum(each.macs for each in costs)
    uri = _image_uri(pixels)
    left, stages, x = room - len(uri) - FACTS, list[dict[str, Any]](), batch
    for number, stage in enumerate(network.stages):
        reporter.step(f"stages of {base.name}", number, len(network.stages))
        before = network.pooled(batch) if stage.name == HEAD and network.config.head != LAST else x
        output = Output(*record(network, lambda stage=stage, before=before: network._run(stage, before)))  # type: ignore[misc]
        order = most_active(output, by_value=stage.name == HEAD)
        if number < len(follow) and stage.name != HEAD:
            first = [each["index"] for each in follow[number]["channels"]]
            order = list(dict.fromkeys([*first, *order]))
        places = _places(at, stage.name, output.value.shape[1:])
        shown = show_stage(output, order, places, _share(left, network, number))
        left -= packed(shown)
        cost = costs[number]
        stages.append(
            {
                "name": stage.name,
                "shape": list(output.value.shape[1:]),
                "stride": cost.stride,
                "params": cost.params,
                "macs": cost.macs,
                "share_of_params": cost.params / params if params else 0.0,
                "share_of_macs": cost.macs / macs if macs else 0.0,
                "receptive_field": cost.receptive_field,
                "state": _state(network, stage.name, opened.cut),
                "sights": _sights(ends[number]),
                **shown,
            }
        )
        x = output.value
    reporter.step(f"stages of {base.name}", len(network.stages), len(network.stages))
    _name_outputs(stages[-1], base)
    return {
        "name": base.name,
        "architecture": network.config.architecture,
        "start": "random" if not base.pretrained else "pretrained",
        "level": opened.level,
        "cut": opened.cut,
        "input": list(batch.shape[1:]),
        "mean": list(base.preprocessing.mean),
        "std": list(base.preprocessing.std),
        "params": params,
        "macs": macs,
        "top": _top(base, x),
        "uri": uri,
        "stages": stages,
    }


def _share(left: int, network: Network, number: int) -> int:
    """Return a stage's share of the bytes left for it and those after it: vectors need less than maps."""
    needs = [1.0 if stage.stride is not None else 0.15 for stage in network.stages[number:]]
    return int(left * needs[0] / sum(needs))


def _state(network: Network, stage: str, cut: str | None) -> str | None:
    """Return whether a run kept a stage or trained it; None if there was no run."""
    if cut not in network.cuts:
        return None
    return "frozen" if network.cuts.index(stage) <= network.cuts.index(cut) else "trained"


def _sights(end: StageEnd) -> dict[str, Any]:
    """Return what part of the image a pixel of a stage sees: first and last at position 0, and the spacing of
    positions.
    """
    if end.sights is None:
        return {"down": None, "across": None, "whole": False}
    down, across = (_grid(each) for each in end.sights)
    return {"down": down, "across": across, "whole": any(each.common is not None for each in end.sights)}


def _grid(sight: Sight) -> list[float] | None:
    grid = sight.grid
    return None if grid is None else [float(grid.first), float(grid.last), float(grid.jump)]


def _image_uri(pixels: Tensor) -> str:
    """Return what the network was shown, uint8 (C, H, W), in its first three channels or in gray."""
    shown = pixels[:3] if len(pixels) >= 3 else pixels[:1]
    values = np.ascontiguousarray(shown.permute(1, 2, 0).numpy())
    return as_uri(values[:, :, 0] if values.shape[2] == 1 else values)


def _top(base: Base, logits: Tensor) -> list[list[Any]]:
    """Return the most likely classes with their probabilities."""
    scores = class_logits(logits.detach().double(), base.outputs) / base.temperature
    probabilities = torch.softmax(scores, 1)[0]
    values, indices = probabilities.topk(min(TOP, len(probabilities)))
    names = base.classes or tuple(f"output {number}" for number in range(len(probabilities)))
    return [[names[index], value] for index, value in zip(indices.tolist(), values.tolist(), strict=True)]


def _name_outputs(head: dict[str, Any], base: Base) -> None:
    """Add class names to the head's numbers, if each output is a class."""
    for channel in head["channels"]:
        if base.classes is not None and base.outputs is None:
            channel["name"] = base.classes[channel["index"]]


def _changes(one: Network, other: Network) -> dict[str, float]:
    """Return how much the weights of each stage differ between two networks, relative to those of the first."""
    before, changes = one.state_dict(), dict[str, float]()
    after = other.state_dict()
    for stage in one.stages:
        names = [name for name, _ in one.named_parameters() if any(f"{name}.".startswith(f"{p}.") for p in stage.parts)]
        if not names or any(name not in after or after[name].shape != before[name].shape for name in names):
            continue
        moved = sum(float((after[name].double() - before[name].double()).square().sum()) for name in names)
        size = sum(float(before[name].double().square().sum()) for name in names)
        changes[stage.name] = (moved / size) ** 0.5 if size else 0.0
    return changes
