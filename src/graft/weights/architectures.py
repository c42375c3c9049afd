"""An architecture: resolved once by name into a value that everything downstream works with."""

from dataclasses import dataclass, replace

from graft.images.preprocessing import Preprocessing
from graft.models import catalog
from graft.models.network import Config, Network
from graft.weights.download import Download
from graft.weights.layouts import OWN, Layout, layouts_of
from graft.weights.metadata import IMAGENET_MEAN, IMAGENET_STD, SMALL, with_numbers, with_preprocessing
from graft.weights.packaged import PACKAGED, Packaged
from graft.weights.timm_catalog import PREFIX, naming_rules, timm_entry
from graft.weights.timm_network import build_timm
from graft.weights.torchvision_catalog import TORCHVISION

TIMM = "timm"
# Catalogue networks that timm has under another name.
TIMM_NAMES = {
    "mobilenetv1_100": "mobilenet_v1",
    "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv3_large_100": "mobilenet_v3_large",
    "mobilenetv3_small_100": "mobilenet_v3_small",
    "legacy_xception": "xception",
    **{f"resnetv2_{depth}": f"preact_resnet{depth}" for depth in (18, 34, 50, 101, 152)},
}
# Families whose checkpoints come with and without the classifiers that only training uses.
WITH_AUXILIARIES = ("googlenet", "inception_v3")

LITE = tuple(f"efficientnet_lite{number}" for number in range(5))
# Families, and networks of other families, whose published weights were trained on images from -1 to 1.
ONE_TO_ONE = {"googlenet", "inception_v3", "inception_v4", "inception_resnet_v2", "xception", *LITE}
# The side of the crop relative to the shorter side of the image in the published evaluation, if not 0.875.
CROP_FRACTIONS = {
    "efficientnet_b1": 240 / 256,
    "efficientnet_b3": 300 / 320,
    "efficientnet_b4": 380 / 384,
    **{f"efficientnet_b{number}": 1.0 for number in (2, 5, 6, 7)},
    **{name: side / (side + 32) for name in LITE for side in catalog.CATALOG[name].input_size[2:]},
}


@dataclass(frozen=True)
class Architecture:
    """What is known about an architecture before it has weights.

    `name` is the catalogue's, or `timm:NAME`; `family` is the module that builds it, or `timm`. `config` holds the
    numbers it was published with and `input_size` (C, H, W) the images it was published for. `preprocessing` is what
    its weights usually expect, for whatever a weight file leaves unstated. `layouts` are the tensor namings of its
    checkpoints, graft's own first. `published` is where its weights are: a Python package, a file at a URL, a
    repository on the Hub, or None.
    """

    name: str
    family: str
    config: Config
    input_size: tuple[int, int, int]
    preprocessing: Preprocessing
    layouts: tuple[Layout, ...]
    published: Packaged | Download | str | None

    def build(self, config: Config) -> Network:
        """Build an untrained network with the numbers of `config`, on torch's default device and in its default dtype.

        Raises InputError for a timm network that cannot be cut into stages.
        """
        return build_timm(config, self.input_size) if self.family == TIMM else catalog.build(config)

    @property
    def has_auxiliary_variant(self) -> bool:
        """Whether it can be built with and without auxiliary classifiers."""
        return self.family in WITH_AUXILIARIES

    @property
    def sees_one_to_one(self) -> bool:
        """Whether its weights were usually trained on images from -1 to 1."""
        return not ONE_TO_ONE.isdisjoint((self.name, self.family))


def resolve(name: str) -> Architecture:
    """Return the architecture of a catalogue name, timm's name for the same network, or `timm:NAME[.TAG]`.

    timm's names that begin with `tf_` give the network TensorFlow's padding and epsilon. Raises InputError, with the
    nearest names, for any other name.
    """
    if is_timm(name):
        return _of_timm(name)
    bare = name.removeprefix("tf_")
    found = _of_catalogue(TIMM_NAMES.get(bare, bare))
    rules = naming_rules(name)
    if rules:
        # What the name says takes precedence over the layout's usual values.
        layouts = tuple(replace(layout, batch_norm_eps=None) for layout in found.layouts)
        found = replace(found, config=with_numbers(found.config, rules), layouts=layouts)
    return found


def at_width(architecture: Architecture, width: str) -> Architecture:
    """Return the catalogue's variant of `architecture` at a width multiplier like "0.25"; itself if there is none."""
    try:
        scaled = f"{architecture.name}_{round(100 * float(width)):03d}"
    except (ValueError, OverflowError):
        return architecture
    return resolve(scaled) if scaled in catalog.CATALOG else architecture


def is_timm(name: str) -> bool:
    """Whether `name` asks for a timm network, whatever follows the prefix."""
    return name.startswith(PREFIX)


def _of_catalogue(name: str) -> Architecture:
    row = catalog.entry(name)
    channels, _, side = row.input_size
    half = (0.5,) * channels
    in_halves = channels != 3 or not ONE_TO_ONE.isdisjoint((name, row.family))
    return Architecture(
        name=name,
        family=row.family,
        config=catalog.default_config(name),
        input_size=row.input_size,
        preprocessing=Preprocessing(
            size=side,
            mean=half if in_halves else IMAGENET_MEAN,
            std=half if in_halves else IMAGENET_STD,
            crop_fraction=CROP_FRACTIONS.get(name, 1.0 if side <= SMALL else Preprocessing.crop_fraction),
        ),
        layouts=layouts_of(row.family),
        published=PACKAGED.get(name) or TORCHVISION.get(name),
    )


def _of_timm(name: str) -> Architecture:
    entry = timm_entry(name)
    channels, _, side = entry.input_size
    return Architecture(
        name=entry.name,
        family=TIMM,
        # timm's name determines padding and epsilon, so they are not set here.
        config=Config(entry.name, classes=entry.classes, channels=channels),
        input_size=entry.input_size,
        preprocessing=with_preprocessing(Preprocessing(side, IMAGENET_MEAN, IMAGENET_STD), entry.metadata, channels),
        layouts=(OWN,),
        published=entry.published,
    )
