"""What training at several levels starts from: a base that is loaded once, or its architecture at random."""

import copy
from dataclasses import dataclass, replace

from graft.images.levels import Levels
from graft.training.comparison import SCRATCH
from graft.weights.base import Base
from graft.workflows.prepare import BaseOptions, load_start


@dataclass(frozen=True)
class Starts:
    """What `base` gives each level: the weights in `pretrained`, or at `scratch`, and without them, none.

    `levels` say what is black and white in deep images, whichever it is.
    """

    base: str | BaseOptions
    pretrained: Base | None
    levels: Levels

    def of(self, level: str, seed: int) -> Base:
        """A base with a network of its own, so that what is done to it leaves the others as they are."""
        if level == SCRATCH or self.pretrained is None:
            start = load_start(self.base, scratch=True, seed=seed)
            return replace(start, preprocessing=replace(start.preprocessing, levels=self.levels))
        return replace(self.pretrained, network=copy.deepcopy(self.pretrained.network))
