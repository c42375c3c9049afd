"""The textbook's calculations on ResNet, MobileNet and transfer learning."""

import torch
from torch import nn

from graft.accounting.counting import account
from graft.models import BasicBlock
from graft.models.xception import SeparableConvolution
from graft.transfer.levels import plan_level
from graft.workflows.counted import convolution, network
from graft.workflows.worked.example import Example


def zero_block(*values: float) -> list[float]:
    """Return the output of a residual block with all parameters zero, for one pixel with these channels."""
    block = BasicBlock(len(values), len(values)).eval()
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        output: list[float] = block(torch.tensor(values)[None, :, None, None]).flatten().tolist()
    return output


def separable(bias: bool = False) -> int:
    """Count the parameters of a 3 × 3 filter for each of 16 channels, followed by a 1 × 1 convolution to 32."""
    biased = nn.Sequential(nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 32, 1))
    return account(biased if bias else SeparableConvolution(16, 32), (16, 3, 3)).params


def cuts(*fractions: float) -> str:
    """Return the cuts at which graft freezes these fractions of the weight layers of ResNet-50."""
    after = {each: plan_level(f"frozen:{each}", network("resnet50"), pretrained=True).cut for each in fractions}
    return ", ".join(f"{100 * each:.0f} % after `{cut}`" for each, cut in after.items())


# fmt: off
RESNET = (
    Example("residual_identity", "Output of a residual block with zero weights for inputs 0, 0.5 and 2",
            (0.0, 0.5, 2.0), lambda: zero_block(0.0, 0.5, 2.0),
            comment=lambda: f"True because a ReLU precedes the block; an input of −1 becomes {zero_block(-1.0)[0]:g}."),
    Example("residual_wording", "What a block learns in order to output H(x)", "learn F(x) + x",
            lambda: "learn F(x) = H(x) - x, output F(x) + x", "wrong",
            comment="It is the other way round: the layers learn the difference, and the block outputs the sum. An F "
                    "of zero keeps the input, as in the row above."),
)
MOBILENET = (
    Example("standard_conv_3x3", "3 × 3 from 16 to 32 channels", 4608, lambda: convolution(16, 32, 3), unit="weights",
            comment=lambda: f"{convolution(16, 32, 3, bias=True):,} with biases."),
    Example("depthwise_separable_3x3", "The same as one filter per channel and a 1 × 1 convolution", 656, separable,
            unit="weights",
            comment=lambda: f"{100 * separable() / convolution(16, 32, 3):.1f} % of that, which is 1/32 + 1/9; "
                            f"{separable(bias=True):,} with biases on both parts."),
)
TRANSFER = (
    Example("transfer_scenarios", "What to train, by size of the data and similarity to the source",
            {"small, similar": "feature extractor", "large, similar": "full fine-tuning",
             "small, different": "earlier activations", "large, different": "full fine-tuning"},
            lambda: {"small, similar": "feature extractor",
                     "large, similar": "freeze 60-80 percent (text) or full fine-tuning (table)",
                     "small, different": "freeze first third to half", "large, different": "full fine-tuning"},
            "ambiguous",
            comment=lambda: "For large and similar data the chapter's text and its table differ. graft's cuts in "
                            f"ResNet-50, by fraction of weight layers: {cuts(0.33, 0.5, 0.6, 0.8)}."),
)
# fmt: on
