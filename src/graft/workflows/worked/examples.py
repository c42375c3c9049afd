"""The worked calculations of a textbook on classic convolutional networks, each recomputed with graft's own code.

Each row has the textbook's figure, the correct one as a function of graft's blocks, networks and accounting, and the
verdict. Only three things are literal: the sizes and widths in a question, the figures that the textbook or a paper
prints, and statements that are not calculations. All other figures are computed, including those in comments.
"""

from graft.workflows.worked.alexnet import ALEXNET
from graft.workflows.worked.example import Example
from graft.workflows.worked.googlenet import GOOGLENET
from graft.workflows.worked.lenet import LENET
from graft.workflows.worked.residual import MOBILENET, RESNET, TRANSFER
from graft.workflows.worked.vgg import VGG

# By family, named as in `graft.models.catalog`; `transfer` belongs to no family.
EXAMPLES: dict[str, tuple[Example, ...]] = {
    "lenet": LENET,
    "alexnet": ALEXNET,
    "vgg": VGG,
    "googlenet": GOOGLENET,
    "resnet": RESNET,
    "mobilenet_v1": MOBILENET,
    "transfer": TRANSFER,
}
