"""Read folders that timm and transformers publish: the file that holds the tensors, and the files beside it.

config.json                 timm's: architecture and pretrained_cfg; transformers': model_type and id2label
preprocessor_config.json    transformers': the images that the weights expect
model.safetensors, or an index and its files, or pytorch_model.bin
"""

import json
from pathlib import Path
from typing import Any

from graft.errors import WeightsError
from graft.weights.file import INDEX_ENDING
from graft.weights.saved import CONFIG_FILE, TENSORS_FILE
from graft.weights.timm_catalog import timm_metadata

PREPROCESSOR_FILE = "preprocessor_config.json"
WEIGHTS = (TENSORS_FILE, f"{TENSORS_FILE}{INDEX_ENDING}", "pytorch_model.bin", f"pytorch_model.bin{INDEX_ENDING}")
# The configuration key for the epsilon of each of these transformers families.
EPSILONS = {"mobilenet_v1": "layer_norm_eps", "mobilenet_v2": "layer_norm_eps", "efficientnet": "batch_norm_eps"}


def weights_of_folder(folder: Path) -> Path | None:
    """Return the weight file in a folder that timm or transformers wrote; None for one of graft's, and any other."""
    if "graft" in _read_json(folder / CONFIG_FILE):
        return None
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def folder_metadata(weights: Path) -> dict[str, str]:
    """Return what the files beside a published weight file say, in the keys of a weight file's metadata.

    Raises WeightsError for a configuration that graft's networks cannot have.
    """
    if weights.name not in WEIGHTS:
        return {}
    config = _read_json(weights.parent / CONFIG_FILE)
    return timm_metadata(config) or {
        **_transformers_metadata(config, weights.parent),
        **_images(_read_json(weights.parent / PREPROCESSOR_FILE)),
    }


def _transformers_metadata(config: dict[str, Any], folder: Path) -> dict[str, str]:
    kind = config.get("model_type")
    if not isinstance(kind, str):
        return {}
    if config.get("downsample_in_bottleneck"):
        raise WeightsError(
            "expected a ResNet whose bottlenecks halve the map in their 3 x 3 convolution, got one that does so in the "
            f"first 1 x 1 (downsample_in_bottleneck in {folder.name}/{CONFIG_FILE}): choose another model"
        )
    metadata = {}
    epsilon = config.get(EPSILONS.get(kind, ""))
    if isinstance(epsilon, float):
        metadata["bn_eps"] = repr(epsilon)
    if isinstance(config.get("tf_padding"), bool):
        metadata["padding"] = "tensorflow" if config["tf_padding"] else "torch"
    labels = config.get("id2label")
    if isinstance(labels, dict) and not all(str(name).startswith("LABEL_") for name in labels.values()):
        in_order = [labels.get(str(index)) for index in range(len(labels))]
        if all(isinstance(name, str) for name in in_order):
            metadata["classes"] = json.dumps(in_order)
    return metadata


def _images(config: dict[str, Any]) -> dict[str, str]:
    """Return what transformers' image processor does, as far as the same keys can express it."""
    metadata = {}
    if config.get("do_normalize", True):
        for theirs, ours in (("image_mean", "mean"), ("image_std", "std")):
            numbers = config.get(theirs)
            if isinstance(numbers, list) and all(isinstance(number, int | float) for number in numbers):
                metadata[ours] = ",".join(map(str, numbers))
    cropped, resized = (_side(config.get(key)) for key in ("crop_size", "size"))
    crops = bool(config.get("do_center_crop")) and cropped is not None
    size = cropped if crops else resized
    if size is not None:
        metadata["input_size"] = str(size)
        if isinstance(config.get("crop_pct"), float) and not crops:
            metadata["crop_fraction"] = str(config["crop_pct"])
        elif crops and resized is not None and resized >= size:
            metadata["crop_fraction"] = str(size / resized)
    return metadata


def _side(size: Any) -> int | None:
    if isinstance(size, dict):
        size = next((size[key] for key in ("shortest_edge", "height") if key in size), None)
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
