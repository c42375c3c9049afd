"""What the channels of a stage see: their maps of an image, the images they prefer, and first-layer filters.

After Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", arXiv 1311.2901, section 4, where
the images that excite a channel most are cropped to what it sees of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from graft.data.dataset import Images
from graft.data.loading import batches
from graft.errors import CutError, did_you_mean
from graft.explanation.class_maps import stages_with_maps
from graft.explanation.explaining import as_rgb
from graft.explanation.model import BATCH, Seeing, as_input
from graft.models.network import Network, Section
from graft.progress import NOBODY, Reporter

# Replaces zero in divisions.
TINY = 1e-12


@dataclass(frozen=True)
class FeatureMaps:
    """The maps of some channels of a stage for an image: `maps` float32 (k, h, w), the most active of `channels` first.

    The activity of a channel is its root mean square, `activity` float32 (k,).
    """

    stage: str
    channels: tuple[int, ...]
    activity: np.ndarray
    maps: np.ndarray

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form, without the maps."""
        return {"stage": self.stage, "channels": list(self.channels), "activity": self.activity.tolist()}


@dataclass(frozen=True)
class Liking:
    """An image that a channel prefers: its name and index, the response, and the part seen, uint8 (h, w, 3).

    `box` locates that part in the network's square input: top, left, bottom, right in pixels.
    """

    path: str
    index: int
    response: float
    pixels: np.ndarray
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Favourites:
    """The images that a channel of a stage prefers, the strongest response first, at most one place per image."""

    stage: str
    channel: int
    likings: tuple[Liking, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form, without pixels."""
        images = [{"path": each.path, "response": each.response, "box": list(each.box)} for each in self.likings]
        return {"stage": self.stage, "channel": self.channel, "images": images}


@torch.no_grad()
def feature_maps(model: Seeing, pixels: Tensor, stage: str, most: int = 12) -> list[FeatureMaps]:
    """Return the `most` active channels of a stage for each image, uint8 (n, C, size, size). Raises CutError."""
    check_stage(model.network, stage)
    found = []
    for part in pixels.split(BATCH):
        maps = stage_section(model.network, stage)(as_input(model, part))
        activity = maps.square().mean((2, 3)).sqrt()
        top = activity.topk(min(most, activity.shape[1]), 1)
        for own, values, indices in zip(maps, top.values, top.indices, strict=True):
            found.append(
                FeatureMaps(stage, tuple(indices.tolist()), values.cpu().numpy(), own[indices].float().cpu().numpy())
            )
    return found


@torch.no_grad()
def favourites(
    model: Seeing,
    images: Images,
    stage: str,
    receptive_field: int,
    *,
    channels: Sequence[int] | None = None,
    most: int = 6,
    count: int = 8,
    reporter: Reporter = NOBODY,
) -> list[Favourites]:
    """Return the `count` images that each of `channels` responds to most, cropped to what it sees at that place.

    The default is the `most` channels whose strongest responses stand out most from their usual ones. `receptive_field`
    is that of an element of the stage, in input pixels. Raises CutError for a stage or channel that the network does
    not have.
    """
    check_stage(model.network, stage)
    section = stage_section(model.network, stage)
    responses, places, indices = [], [], []
    width = 1
    with closing(batches(images, model.preprocessing, BATCH)) as decoded:
        for batch in decoded:
            if not len(batch.indices):
                continue
            maps = section(as_input(model, batch.pixels))
            width = maps.shape[3]
            strongest = maps.flatten(2).max(2)
            responses.append(strongest.values.float().cpu())
            places.append(strongest.indices.cpu())
            indices.append(batch.indices)
            reporter.step(f"responses of {stage}", int(batch.indices[-1]) + 1, len(images))
    if not responses:
        return []
    values, where, rows = torch.cat(responses), torch.cat(places), np.concatenate(indices)
    if channels is None:
        spread = values.std(0, correction=0).clamp_min(1e-6)
        channels = ((values.amax(0) - values.mean(0)) / spread).topk(min(most, values.shape[1])).indices.tolist()
    wrong = [channel for channel in channels if not 0 <= channel < values.shape[1]]
    if wrong:
        raise CutError(
            f"expected channels of {stage} from 0 to {values.shape[1] - 1}, got {wrong[0]}: choose among them"
        )
    found = []
    for channel in channels:
        top = values[:, channel].topk(min(count, len(values))).indices.tolist()
        likings = tuple(
            _liking(
                model,
                images,
                int(rows[row]),
                float(values[row, channel]),
                int(where[row, channel]),
                width,
                receptive_field,
            )
            for row in top
        )
        found.append(Favourites(stage, channel, likings))
    return found


def _liking(
    model: Seeing, images: Images, index: int, response: float, place: int, width: int, receptive_field: int
) -> Liking:
    from graft.data.loading import load_image

    square = as_rgb(load_image(images, index, model.preprocessing)[None])[0]
    size = len(square)
    top, left, bottom, right = _seen(place // width, place % width, width, size, receptive_field)
    return Liking(images.name(index), index, response, square[top:bottom, left:right], (top, left, bottom, right))


def _seen(row: int, column: int, width: int, size: int, receptive_field: int) -> tuple[int, int, int, int]:
    """Return the part of a square image that the element at (row, column) of a map sees, clipped to the image."""
    half, stride = receptive_field / 2, size / width
    top, left = ((at + 0.5) * stride for at in (row, column))
    low = [max(0, round(centre - half)) for centre in (top, left)]
    high = [min(size, round(centre + half)) for centre in (top, left)]
    return low[0], low[1], max(high[0], low[0] + 1), max(high[1], low[1] + 1)


def first_filters(network: Network) -> np.ndarray:
    """Return the filters of the first convolution in stage order, float32 (filters, inputs, height, width)."""
    for stage in network.stages:
        for part in stage.parts:
            for module in network.get_submodule(part).modules():
                if isinstance(module, nn.Conv2d):
                    return module.weight.detach().float().cpu().numpy()
    raise CutError(
        f"expected a network with a convolution, got {network.config.architecture} without one: choose another"
    )


def filters_moved(before: np.ndarray | None, after: np.ndarray) -> float | None:
    """Return how far training moved the filters, relative to their norm; None if the shapes differ or `before` is."""
    if before is None or before.shape != after.shape:
        return None
    return float(np.linalg.norm(after - before)) / max(float(np.linalg.norm(before)), TINY)


def filters_as_pixels(filters: np.ndarray) -> np.ndarray:
    """Render filters (n, inputs, h, w) as uint8 (n, h, w, 3): zero is grey, and a filter's largest weight the extreme.

    Filters with three inputs are in colour; others show the mean over their inputs in grey.
    """
    shown = filters if filters.shape[1] == 3 else filters.mean(1, keepdims=True).repeat(3, 1)
    largest = np.abs(shown).max((1, 2, 3), keepdims=True)
    scaled = 127.5 + 127.5 * shown / np.maximum(largest, TINY)
    return scaled.round().astype(np.uint8).transpose(0, 2, 3, 1)  # (n, 3, h, w) -> (n, h, w, 3)


def map_as_pixels(values: np.ndarray) -> np.ndarray:
    """Render a map (h, w) as uint8 (h, w, 3), from its minimum in black to its maximum in white."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / max(high - low, TINY)
    return (255 * scaled).round().astype(np.uint8)[..., None].repeat(3, 2)


def stage_section(network: Network, stage: str) -> Section:
    """Return the stages up to and including the named one, from images to its maps."""
    at = [each.name for each in network.stages].index(stage)
    return Section(network, network.stages[: at + 1])


def check_stage(network: Network, stage: str) -> None:
    """Raise CutError, with the nearest name, for a stage that the network does not have or that has no maps."""
    names = stages_with_maps(network)
    if stage not in names:
        raise CutError(
            f"expected a stage of {network.config.architecture} that has maps ({', '.join(names)}), got {stage!r}"
            f"{did_you_mean(stage, names)}: choose one of them"
        )
