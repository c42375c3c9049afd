"""A classifier as one graph: from the pixels of a decoded image of any size to the probabilities of its classes.

When answers change after an export, the cause is nearly always resizing that was left to the caller. So resizing is
part of the graph, as two matrix products: antialiased bilinear resizing is linear in the rows of an image, and then in
its columns. Every runtime computes matrix products alike, whereas their own resizing operations differ.
"""

import copy
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn

from graft.images.preprocessing import Preprocessing
from graft.images.resizing import mean_colour
from graft.models.network import Network
from graft.weights.saved import SavedModel

IMAGE, PROBABILITIES = "image", "probabilities"
# The weights of red, green and blue in a grey value, in 65,536ths, as in `graft.images.resizing`.
LUMA = (19595, 38470, 7471)
# A share of a side is a fraction with at most this denominator: its products with sides below 2 ** 16 are int32.
MOST_PARTS = 2**14
# The octal digits that shares of a resized value are computed to: 24 bits.
DIGITS = 8


class FromPixels(nn.Module):
    """Map uint8 (N, H, W, 3), RGB, to probabilities float32 (N, classes). Images of one batch have the same size.

    Images are resized as by `graft.images.resizing.to_square`, up to one level of 255 in a few pixels, and normalised;
    then come the network, the temperature, and softmax, or for a multi-label classifier the sigmoid of each logit.
    `whole` is as for `to_squares`.
    """

    whole = False

    scale: Tensor
    shift: Tensor
    around: Tensor
    shares: Tensor | None

    def __init__(self, saved: SavedModel) -> None:
        super().__init__()
        network = _with_pools_as_products(copy.deepcopy(saved.network))
        # The network's parts, not the network: recorders look modules up by name, and in some networks `stages` names
        # parts as well as the network's own list of stages.
        self.parts = nn.ModuleList(network.get_submodule(part) for stage in network.stages for part in stage.parts)
        self._network = (network,)
        self.preprocessing, self.temperature = saved.preprocessing, saved.temperature
        self.multi_label = saved.thresholds is not None
        mean, std = (torch.tensor(each)[:, None, None] for each in (saved.preprocessing.mean, saved.preprocessing.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", mean / std)
        self.register_buffer("around", mean_colour(saved.preprocessing).float()[:, None, None])
        shares = None
        if saved.outputs is not None:
            # Which of the network's outputs count for which class, (outputs, classes).
            shares = torch.zeros(saved.network.config.classes, len(saved.outputs))
            for column, of_class in enumerate(saved.outputs):
                shares[list(of_class), column] = 1
        self.register_buffer("shares", shares)
        # Recorders restore the mode that they found, in all layers.
        self.eval()
        network.eval()

    @property
    def network(self) -> Network:
        return self._network[0]

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities (N, classes) for images (N, H, W, 3)."""
        squares = to_squares(image, self.preprocessing, self.around, self.whole)
        # Recorders lose the size of a matrix product, which the pooling of some networks depends on.
        squares = squares.reshape(-1, len(self.scale), self.preprocessing.size, self.preprocessing.size)
        logits = self.network(squares * self.scale - self.shift)
        if self.shares is not None:
            largest = logits.amax(1, keepdim=True)
            logits = ((logits - largest).exp() @ self.shares).log()
        return torch.sigmoid(logits) if self.multi_label else torch.softmax(logits / self.temperature, 1)


class PoolAsProducts(nn.Module):
    """Averages `size` by `size` regions of each map, like `nn.AdaptiveAvgPool2d`.

    Maps (N, C, H, W) to (N, C, size, size). ONNX has no such pool for regions of different sizes, as in VGG at any but
    its usual size.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (self._means(int(side)) for side in x.shape[-2:])
        return rows @ x @ columns.T

    def _means(self, side: int) -> Tensor:
        weights = torch.zeros(self.size, side)
        for place in range(self.size):
            first, end = place * side // self.size, -(-(place + 1) * side // self.size)
            weights[place, first:end] = 1 / (end - first)
        return weights


def _with_pools_as_products(network: Network) -> Network:
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d):
            size = module.output_size[0] if isinstance(module.output_size, tuple) else module.output_size
            if size is not None and size > 1:
                network.set_submodule(name, PoolAsProducts(size))
    return network


def divided(number: Tensor, divisor: Tensor | int) -> tuple[Tensor, Tensor]:
    """Return the whole quotient, rounded down, and the remainder, for int32 that are not negative."""
    if isinstance(divisor, Tensor):
        whole = torch.div(number, divisor, rounding_mode="floor")
        return whole, number - whole * divisor
    # OpenVINO rounds to the nearest where the divisor is constant, so nothing is left to be rounded. Its remainders are
    # exact below 2 ** 24.
    rest = torch.remainder(number, divisor)
    return torch.div(number - rest, divisor, rounding_mode="floor"), rest


def nearest(product: Tensor, divisor: Tensor | int) -> Tensor:
    """Return the whole numbers nearest to product / divisor, of two the even one, for int32 that are not negative."""
    whole, rest = divided(product, divisor)
    odd = torch.remainder(whole, 2)
    return whole + ((2 * rest > divisor) | ((2 * rest == divisor) & (odd > 0))).int()


def scaled(side: Tensor, longer: Tensor, size: int) -> Tensor:
    """Return `graft.images.squares.scaled` of int32, below 2 ** 16 for the sides."""
    return nearest(side * size, longer).clamp(min=1)


def to_squares(image: Tensor, preprocessing: Preprocessing, around: Tensor, whole: bool = False) -> Tensor:
    """Resize uint8 (N, H, W, 3) to float32 (N, C, size, size), integers from 0 to 255.

    `around` (C, 1, 1) is the colour beside a letterboxed image. No size is a Python number, so that a graph recorded
    from one image works for any other. If `whole`, everything is in int32: the same numbers, in a fifth more time, for
    OpenVINO, which by itself computes float32 in bfloat16 where the processor is fast at it, with 8 bits for the weight
    of a pixel, and computes products of int32 in float32.
    """
    pixels = image.int() if whole else image.float()
    # Summed over all images rather than read from the first: there may be none.
    down, right = _positions(pixels[:, :, 0, 0].sum(0)), _positions(pixels[:, 0, :, 0].sum(0))
    height, width = down[-1] + 1, right[-1] + 1
    size = preprocessing.size
    if preprocessing.resize_mode == "crop":
        kept = Fraction(preprocessing.crop_fraction).limit_denominator(MOST_PARTS)
        side = nearest(torch.minimum(height, width) * kept.numerator, kept.denominator).clamp(min=1)
        top, left = (divided(each - side, 2)[0] for each in (height, width))
        shares = shares_of(down, top, side, size), shares_of(right, left, side, size)
    elif preprocessing.resize_mode == "squash":
        shares = shares_of(down, 0, height, size), shares_of(right, 0, width, size)
    else:
        longer = torch.maximum(height, width)
        parts = [scaled(side, longer, size) for side in (height, width)]
        above, beside = (divided(size - part, 2)[0] for part in parts)
        shares = (
            shares_of(down, 0, height, size, above, parts[0]),
            shares_of(right, 0, width, size, beside, parts[1]),
        )
    rows, columns = (in_torchs_units(each, whole) for each in shares)
    wide = resized(columns, pixels).permute(0, 3, 1, 2)  # (N, H, size, 3) -> (N, 3, H, size)
    squares = resized(rows, wide)  # (N, 3, size, size)
    if preprocessing.channels == 1:
        luma = torch.tensor(LUMA, dtype=torch.int32)[:, None, None]
        grey = (squares.int() * luma).sum(1, keepdim=True, dtype=torch.int32) + 32768
        squares, _ = divided(grey, 65536)
    if preprocessing.resize_mode == "letterbox":
        inside = (rows.weights.amax(1) > 0)[:, None] & (columns.weights.amax(1) > 0)[None, :]
        return torch.where(inside, squares.float(), around)
    return squares.float()


class Shares(NamedTuple):
    """What n values count in each of `size` values: `weights` (size, n), int32, of their `sums` (size, 1)."""

    weights: Tensor
    sums: Tensor


class Weights(NamedTuple):
    """The weights (size, n) of n values in each of `size` values, whole numbers of 1 / `unit`, a power of two."""

    weights: Tensor
    unit: Tensor


def resized(matrix: Weights, pixels: Tensor) -> Tensor:
    """Compute a matrix (size, n) @ `pixels` (…, n, m), from 0 to 255, in torch's arithmetic for byte images.

    Products and their sums are whole numbers below 2 ** 24, which are exact in float32 as well.
    """
    product = matrix.weights @ pixels
    if product.dtype == torch.int32:
        return divided(product + divided(matrix.unit, 2)[0], matrix.unit)[0].clamp(0, 255)
    return torch.floor(product / matrix.unit + 0.5).clamp(0, 255)


def shares_of(
    positions: Tensor,
    start: Tensor | int,
    length: Tensor,
    size: int,
    out_start: Tensor | int = 0,
    out_length: Tensor | None = None,
) -> Shares:
    """Return the shares of the values at `positions` (n,), 0 to n - 1, in each of `size` values.

    Antialiased bilinear resizing turns the `length` values from `start` on into the `out_length` values from
    `out_start` on; all are int32. Its triangle filter is as wide as two values, of the input or of the output,
    whichever is more. Rows outside the output range are zero.
    """
    places = torch.arange(size, dtype=torch.int32)[:, None] - out_start  # (size, 1)
    out_length = torch.full_like(length, size) if out_length is None else out_length
    offsets = positions[None, :] - start  # (1, n)
    # In units of half a value's width.
    half_width = 2 * torch.maximum(length, out_length)
    distances = ((2 * offsets + 1) * out_length - (2 * places + 1) * length).abs()
    weights = (half_width - distances).clamp(min=0)
    weights = weights * ((offsets >= 0) & (offsets < length)).int()
    weights = weights * ((places >= 0) & (places < out_length)).int()
    return Shares(weights, weights.sum(1, keepdim=True, dtype=torch.int32).clamp(min=1))


def in_torchs_units(shares: Shares, whole: bool) -> Weights:
    """Return shares as torch rounds them for byte images, int32 if `whole`, otherwise float32.

    Their unit is the smallest power of two with which no share takes more than 15 bits.
    """
    if not whole:
        found = shares.weights.float() / shares.sums.float()
        unit = torch.pow(2.0, torch.ceil(torch.log2((2**15 - 0.5) / found.max())) - 1).round()
        return Weights(torch.floor(found * unit + 0.5), unit)
    # A long division, since a share with all its bits would not fit into the numbers that it is computed from.
    rest, quotient, finest = shares.weights, torch.zeros_like(shares.weights), 8**DIGITS
    for _ in range(DIGITS):
        digit, rest = divided(rest * 8, shares.sums)
        quotient = quotient * 8 + digit
    largest = quotient.amax()
    coarser = torch.full_like(largest, 2**10)
    for bits in range(10):
        coarser = coarser - (largest < finest // 2**bits).int() * 2 ** (9 - bits)
    rounded, _ = divided(quotient + divided(coarser, 2)[0], coarser)
    return Weights(rounded, divided(torch.full_like(coarser, finest), coarser)[0])


def _positions(values: Tensor) -> Tensor:
    """Return 0, 1, … for as many as there are `values` (n,), int32."""
    return torch.cumsum(torch.ones_like(values, dtype=torch.int32), 0, dtype=torch.int32) - 1
