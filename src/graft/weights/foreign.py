"""Name files and folders that hold a network in a format graft does not read, and say what to do about them.

A format is recognised by its magic number, by the members of a zip archive, or else by the file's ending. Nothing is
unpacked.
"""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from graft.weights.keras_file import HDF5, WEIGHTS_MEMBER

WEIGHT_ENDINGS = (".safetensors", ".pth", ".pt", ".th", ".bin", ".ckpt", ".tar", ".keras", ".h5")
_CONVERTED = "give the weights of the network that it was made from"
_COMPRESSED = "compressed: unpack it, and give the file of weights inside"
_TENSORFLOW = "load it with Keras and save it as .keras or .h5, or give torch weights"
_ARRAYS = "load it where you trust it, and save its arrays as tensors by their names with safetensors.torch.save_file"
# The offset of a magic number, the number, and the format.
_MARKS = (
    (4, b"TFL3", f"a TensorFlow Lite model: {_CONVERTED}"),
    (
        0,
        b"version https://git-lfs",
        "a Git LFS pointer to weights that are not here: run `git lfs pull`, or fetch the file itself",
    ),
    (0, b"\x1f\x8b", _COMPRESSED),
    (0, b"BZh", _COMPRESSED),
    (0, b"\xfd7zXZ\x00", _COMPRESSED),
    (0, b"\x28\xb5\x2f\xfd", _COMPRESSED),
    (0, b"7z\xbc\xaf\x27\x1c", _COMPRESSED),
    (0, b"Rar!", _COMPRESSED),
    (0, b"\x93NUMPY", f"a single NumPy array: {_ARRAYS}"),
    (0, b"GGUF", f"a GGUF file: {_CONVERTED}"),
    (0, b"MATLAB", f"a MATLAB file: {_ARRAYS}"),
    (0, b"<?xml", f"XML, such as OpenVINO's description of a network: {_CONVERTED}"),
    (
        257,
        b"ustar",
        "a tar archive: give the file of weights inside it, or, where torch 0.1 wrote it, load and save it "
        "with a later torch",
    ),
)
_ENDINGS = (
    (r"\.pb$", f"a TensorFlow graph: {_TENSORFLOW}"),
    (r"\.(index|data-\d+-of-\d+)$", f"part of a TensorFlow checkpoint: {_TENSORFLOW}"),
    (r"\.(mlmodel|mlpackage)$", f"a Core ML model: {_CONVERTED}"),
    (r"\.caffemodel$", f"a Caffe model: {_ARRAYS}"),
    (r"\.msgpack$", f"Flax parameters: {_ARRAYS}"),
    (r"\.(pdparams|pdmodel|pdiparams)$", f"Paddle parameters: {_ARRAYS}"),
    (r"\.params$", f"MXNet parameters: {_ARRAYS}"),
    (r"\.weights$", f"Darknet weights: {_ARRAYS}"),
    (r"\.(engine|plan|trt)$", f"a TensorRT engine: {_CONVERTED}"),
    (r"\.distcp$", "part of a torch.distributed checkpoint: `python -m torch.distributed.checkpoint.format_utils "
                   "dcp_to_torch FOLDER FILE` makes one file of its folder"),
    (r"(?<!index)\.json$", "text: give the file of weights beside it, or its folder"),
)  # fmt: skip
# Endings of pickles and archives that torch never writes.
_THEIRS = (".pdparams", ".distcp")
# Words in dotted tensor names that give away adapters, optimizers, quantization and attention.
_ADAPTERS = frozenset(("lora_A", "lora_B", "lora_down", "lora_up", "lora_embedding_A", "hada_w1_a"))
_MOMENTS = frozenset(("exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "max_exp_avg_sq"))
_OBSERVERS = frozenset(("activation_post_process", "weight_fake_quant", "fake_quant_enabled", "zero_point"))
_ATTENTION = frozenset(
    (
        "attn",
        "attnpool",
        "attention",
        "self_attn",
        "self_attention",
        "in_proj_weight",
        "pos_embed",
        "cls_token",
        "class_token",
        "patch_embed",
        "patch_embeddings",
        "position_embeddings",
        "relative_position_bias_table",
    )
)
# The least share of attention tensors in a transformer; in CNNs with squeeze-excitation of such names it is lower.
_MANY = 0.1


def foreign_file(path: Path, start: bytes) -> str | None:
    """Return what the file that starts with `start` is, and what to do; None if graft may be able to read it."""
    if start[8:9] == b"{":
        # A safetensors file starts with a length, which may equal any magic number.
        return None
    for offset, mark, what in _MARKS:
        if _bytes_at(path, offset, len(mark)) == mark:
            return what
    # Torch files come with any ending.
    readable = start.startswith((b"PK", b"\x80", HDF5))
    for ending, what in _ENDINGS:
        if (not readable or path.suffix in _THEIRS) and re.search(ending, path.name.lower()):
            return what
    # ONNX is a protocol buffer without a magic number; it starts with the version of its format.
    if (
        start[:1] == b"\x08"
        and len(start) > 2
        and (path.suffix == ".onnx" or start[2:3] in (b"\x12", b"\x1a", b"*", b"B"))
    ):
        return (
            "an ONNX model: give the weights of the network that it was exported from, or, to predict with one that "
            "graft exported, run `graft predict FILE DATA --out answers.csv`"
        )
    return _foreign_archive(path) if start.startswith(b"PK") else None


def _bytes_at(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def _foreign_archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        return None
    if WEIGHTS_MEMBER in names or any(name.endswith("data.pkl") for name in names):
        return None
    if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in names):
        return (
            "a program that torch.export saved: save torch.export.load(FILE).state_dict where you trust it, preferably "
            "as .safetensors"
        )
    if names and all(name.endswith(".npy") for name in names):
        return f"an archive of NumPy arrays: {_ARRAYS}"
    if any(name.lower().endswith(WEIGHT_ENDINGS) for name in names):
        return "a zip archive with a file of weights in it: unpack it, and give that file"
    return None


def foreign_folder(folder: Path) -> str | None:
    """Return what a folder without a model or readable weights holds, and what to do; None for anything else."""
    names = sorted(path.name for path in folder.iterdir())
    if "saved_model.pb" in names:
        return f"a TensorFlow SavedModel: {_TENSORFLOW}"
    if any(name.endswith(".distcp") for name in names):
        return (
            "a torch.distributed checkpoint: `python -m torch.distributed.checkpoint.format_utils dcp_to_torch "
            "FOLDER FILE` makes one file of it"
        )
    if "zero_to_fp32.py" in names:
        return (
            "a DeepSpeed checkpoint: give mp_rank_00_model_states.pt in it, or, for ZeRO 3, the file that "
            "DeepSpeed's zero_to_fp32.py makes of it"
        )
    if "adapter_config.json" in names:
        return _of_adapters()
    weights = [name for name in names if name.lower().endswith(WEIGHT_ENDINGS)]
    if weights:
        more = f" and {len(weights) - 3} more" if len(weights) > 3 else ""
        return f"a folder with {', '.join(weights[:3])}{more} in it: give the file of weights itself"
    return None


def foreign_tensors(tensors: Mapping[str, Tensor], source: str) -> str | None:
    """Return what tensors that fit no network belong to, and what to do, from their names and their file's name."""
    words = [frozenset(name.split(".")) for name in tensors]
    if any(each & _ADAPTERS for each in words):
        return _of_adapters()
    if any(each & _MOMENTS for each in words):
        return "an optimizer state: give the weights that were saved with it"
    if 2 * sum(tensor.numel() == 0 for tensor in tensors.values()) > len(tensors):
        return (
            "empty tensors, as sharded training (ZeRO 3, FSDP) leaves them: gather them first, with DeepSpeed's "
            "zero_to_fp32.py or a full state_dict()"
        )
    if re.search(r"-\d+-of-\d+\.\w+$", source):
        return "one of several files: give their folder, or the index beside them (.index.json)"
    if any(each & _OBSERVERS for each in words):
        return "a network that was prepared for quantization: give its weights from before that"
    if sum(bool(each & _ATTENTION) for each in words) > _MANY * len(words):
        return "a network with attention, such as a vision transformer: choose a convolutional one (`graft models`)"
    return None


def _of_adapters() -> str:
    return (
        "adapters such as LoRA's, which change a network that is not in it: merge them into it (merge_and_unload() in "
        "peft) and save its state_dict()"
    )
