"""Which files are images by what they are called, and which certainly are none. Their content has the last word."""

import re
from pathlib import Path

# Endings of files that are images.
IMAGE_ENDINGS = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "dib", "gif", "tif", "tiff", "webp", "ppm", "pgm", "pbm", "pnm"),
    *("jp2", "j2k", "avif", "heic", "heif", "jxl", "dcm"),
)
IMAGE_ENDING = rf"(?i)\.({'|'.join(IMAGE_ENDINGS)})$"
# Files that certainly are no images. Any other may be one, since names of images need not end in anything.
NO_IMAGE = (
    r"(?i)(\.(txt|names|[ct]sv|tab|nd?json|jsonl?|xml|ya?ml|toml|ini|cfg|md|rst|html?|css|js|pdf|docx?|xlsx?|odt|rtf|pyc?|ipynb|sh"
    r"|bat|m|r|c|cpp|h|log|lock|db|sqlite|lnk|url|zip|tar|t?gz|bz2|xz|7z|rar|parquet|arrow|feather|mat|pkl|pickle|npz|h5"
    r"|hdf5|pth?|ckpt|safetensors|onnx|tflite|keras|pb|tfrecord|mp[34]|avi|mov|wav)|(^|/)(read_?me"
    r"|licen[sc]e|copying|copyright|notice|authors|citation|changelog|contributing|makefile|dockerfile))$"
)


def is_no_image(path: str | Path) -> bool:
    """Whether a file that lies among images is named as something else, such as `notes.txt`."""
    return re.search(NO_IMAGE, str(path)) is not None
