"""The start for training at several levels: a base that is loaded once, or its architecture at random."""

import copy
from dataclasses import dataclass, replace

from graft.images.levels import Levels
from graft.training.comparison import SCRATCH
from graft.weights.base import Base
from graft.workflows.prepare import BaseOptions, load_start


@dataclass(frozen=True)
class Starts:
    """What each level starts from: the weights in `pretrained`, or random ones at `scratch` and if it is None.

    `levels` are the black and white levels of deep images, for either start.
    """

    base: str | BaseOptions
    pretrained: Base | None
    levels: Levels

    def of(self, level: str, seed: int) -> Base:
        """Return a base with a network of its own, so that changes to it leave the others untouched."""
        if level == SCRATCH or self.pretrained is None:
            start = load_start(self.base, scratch=True, seed=seed)
            return replace(start, preprocessing=replace(start.preprocessing, levels=self.levels))
        return replace(self.pretrained, network=copy.deepcopy(self.pretrained.network))
