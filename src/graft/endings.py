"""Which files are images, and which are certainly not, judged by name. The content of a file has the last word."""

import re
from pathlib import Path

# Endings of image files.
IMAGE_ENDINGS = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "dib", "gif", "tif", "tiff", "webp", "ppm", "pgm", "pbm", "pnm"),
    *("jp2", "j2k", "avif", "heic", "heif", "jxl", "dcm"),
)
IMAGE_ENDING = rf"(?i)\.({'|'.join(IMAGE_ENDINGS)})$"
# Files that are certainly not images. Any other may be one, since image names need no ending.
NO_IMAGE = (
    r"(?i)(\.(txt|names|[ct]sv|tab|nd?json|jsonl?|xml|ya?ml|toml|ini|cfg|md|rst|html?|css|js|pdf|docx?|xlsx?|odt|rtf|pyc?|ipynb|sh"
    r"|bat|m|r|c|cpp|h|log|lock|db|sqlite|lnk|url|zip|tar|t?gz|bz2|xz|7z|rar|parquet|arrow|feather|mat|pkl|pickle|npz|h5"
    r"|hdf5|pth?|ckpt|safetensors|onnx|tflite|keras|pb|tfrecord|mp[34]|avi|mov|wav)|(^|/)(read_?me"
    r"|licen[sc]e|copying|copyright|notice|authors|citation|changelog|contributing|makefile|dockerfile))$"
)


def is_no_image(path: str | Path) -> bool:
    """Return whether the name marks a file among images as something else, for example `notes.txt`."""
    return re.search(NO_IMAGE, str(path)) is not None
