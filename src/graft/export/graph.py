"""A classifier as one graph: from the pixels of a decoded image of any size to the probabilities of its classes.

When answers change after an export, the cause is nearly always resizing that was left to the caller. So resizing is
part of the graph, as two matrix products: antialiased bilinear resizing is linear in the rows of an image, and then in
its columns. Every runtime computes matrix products alike, whereas their own resizing operations differ.
"""

import copy

import torch
from torch import Tensor, nn

from graft.images.preprocessing import Preprocessing
from graft.images.resizing import mean_colour
from graft.models.network import Network
from graft.weights.saved import SavedModel

IMAGE, PROBABILITIES = "image", "probabilities"
# The weights of red, green and blue in a grey value, in 65,536ths, as in `graft.images.resizing`.
LUMA = (19595.0, 38470.0, 7471.0)


class FromPixels(nn.Module):
    """Map uint8 (N, H, W, 3), RGB, to probabilities float32 (N, classes). Images of one batch have the same size.

    Images are resized as by `graft.images.resizing.to_square`, up to one level of 255 in a few pixels, and normalised;
    then come the network, the temperature, and softmax, or for a multi-label classifier the sigmoid of each logit.
    """

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
        squares = to_squares(image, self.preprocessing, self.around)
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


def scaled(side: Tensor, longer: Tensor, size: int) -> Tensor:
    """Return `graft.images.squares.scaled` of whole numbers in float32, below 2 ** 16 for the sides."""
    nearest = torch.round(side * (size / longer))
    # Whether rounding went wrong, from the remainder of the division: its parts are whole numbers below 2 ** 24.
    high, low = torch.floor(side / 256), torch.floor(longer / 256)
    twice = 2 * nearest - 1
    rest = 256 * (2 * size * high - twice * low) + (2 * size * (side - 256 * high) - twice * (longer - 256 * low))
    nearest = nearest - (rest < 0).float() + (rest >= 2 * longer).float()
    tie = (rest == 0) | (rest == 2 * longer)
    odd = nearest - 2 * torch.floor(nearest / 2)
    return (nearest - tie.float() * odd).clamp(min=1)


def to_squares(image: Tensor, preprocessing: Preprocessing, around: Tensor) -> Tensor:
    """Resize uint8 (N, H, W, 3) to float32 (N, C, size, size), integers from 0 to 255.

    `around` (C, 1, 1) is the colour beside a letterboxed image. No size is a Python number, so that a graph recorded
    from one image works for any other.
    """
    pixels = image.float()
    # Summed over all images rather than read from the first: there may be none.
    down, right = _positions(pixels[:, :, 0, 0].sum(0)), _positions(pixels[:, 0, :, 0].sum(0))
    height, width = down[-1] + 1, right[-1] + 1
    size = preprocessing.size
    if preprocessing.resize_mode == "crop":
        side = torch.round(preprocessing.crop_fraction * torch.minimum(height, width)).clamp(min=1)
        rows = resizing_matrix(down, torch.floor((height - side) / 2), side, size)
        columns = resizing_matrix(right, torch.floor((width - side) / 2), side, size)
    elif preprocessing.resize_mode == "squash":
        rows, columns = resizing_matrix(down, 0, height, size), resizing_matrix(right, 0, width, size)
    else:
        longer = torch.maximum(height, width)
        parts = [scaled(side, longer, size) for side in (height, width)]
        starts = [torch.floor((size - part) / 2) for part in parts]
        rows = resizing_matrix(down, 0, height, size, starts[0], parts[0])
        columns = resizing_matrix(right, 0, width, size, starts[1], parts[1])
    wide = resized(columns, pixels).permute(0, 3, 1, 2)  # (N, H, size, 3) -> (N, 3, H, size)
    squares = resized(rows, wide)  # (N, 3, size, size)
    if preprocessing.channels == 1:
        luma = squares.new_tensor(LUMA)[:, None, None]
        squares = torch.floor(((squares * luma).sum(1, keepdim=True) + 32768) / 65536)
    if preprocessing.resize_mode == "letterbox":
        inside = torch.round(rows.sum(1)[:, None] * columns.sum(1)[None, :])
        squares = squares + around * (1 - inside)
    return squares


def resized(weights: Tensor, pixels: Tensor) -> Tensor:
    """Compute `weights` (size, n) @ `pixels` (…, n, m), from 0 to 255, in torch's arithmetic for byte images.

    Weights are integers of up to 15 bits over a power of two, and the product is rounded to an integer.
    """
    bits = torch.ceil(torch.log2((2**15 - 0.5) / weights.max())) - 1
    whole = torch.round(torch.pow(2.0, bits))
    return torch.floor(torch.floor(weights * whole + 0.5) @ pixels / whole + 0.5).clamp(0, 255)


def resizing_matrix(
    positions: Tensor,
    start: Tensor | float,
    length: Tensor,
    size: int,
    out_start: Tensor | float = 0.0,
    out_length: Tensor | None = None,
) -> Tensor:
    """Return the weights of the values at `positions` (n,), 0 to n - 1, in each of `size` values: float32 (size, n).

    Antialiased bilinear resizing turns the `length` values from `start` on into the `out_length` values from
    `out_start` on. Its triangle filter is as wide as two values, of the input or of the output, whichever is more. Rows
    outside the output range are zero.
    """
    places = torch.arange(size, dtype=torch.float32)[:, None] - out_start  # (size, 1)
    out_length = torch.full_like(length, size) if out_length is None else out_length
    offsets = positions[None, :] - start  # (1, n)
    # Everything but the last division is in integers, where float32 is exact, in units of half a value's width.
    half_width = 2 * torch.maximum(length, out_length)
    distances = ((2 * offsets + 1) * out_length - (2 * places + 1) * length).abs()
    weights = (half_width - distances).clamp(min=0)
    weights = weights * ((offsets > -0.5) & (offsets < length - 0.5)).float()
    weights = weights * ((places > -0.5) & (places < out_length - 0.5)).float()
    return weights / weights.sum(1, keepdim=True).clamp(min=1)


def _positions(values: Tensor) -> Tensor:
    """Return 0, 1, … for as many as there are `values` (n,)."""
    return torch.cumsum(torch.ones_like(values, dtype=torch.float32), 0) - 1
