"""Only the command changes its process: imported from Python, graft leaves the settings of libraries as they were."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from crafted import encode, exif, scene, segment, with_segment

# Settings that other code in a process may have made and would miss. libtiff returns its handlers when new ones are
# set, and libraries such as torch add warning filters when they are imported.
SETTINGS = """
import ctypes, logging, warnings
import numpy, scipy.sparse, torch
from PIL import Image, ImageFile, TiffImagePlugin

def settings():
    return {
        "filters": list(warnings.filters),
        "limits": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, TiffImagePlugin.READ_LIBTIFF),
        "logging": [(logging.getLogger(name).handlers, logging.getLogger(name).level) for name in ("", "PIL")],
        "libtiff": [handler(name) for name in ("TIFFSetErrorHandler", "TIFFSetErrorHandlerExt")],
    }

def handler(name):
    try:
        change = getattr(ctypes.CDLL(Image.core.__file__), name)
    except (OSError, AttributeError):
        return None
    change.restype, change.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    now = change(None)
    change(now)
    return now
"""
DECODE = """
import sys
from pathlib import Path

before = settings()
from graft.data.loading import batches
from graft.data.readers.folder import read_folder
from graft.images.preprocessing import Preprocessing
from graft.audit.looking import look

images = read_folder(Path(sys.argv[1])).splits["all"]
failures = [batch.failures for batch in batches(images, Preprocessing(8, (0.5,) * 3, (0.5,) * 3), 4)]
assert sum(map(len, failures)) == len(look(images).reasons) == 2, failures
after = settings()
assert before == after, (before, after)
"""


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Images of two classes: whole ones, TIFFs that libtiff complains of, and an Exif block that Pillow warns of."""
    tiff = bytearray(encode(scene(), "TIFF", compression="tiff_lzw"))
    tiff[100:400] = bytes(300)
    cmyk = encode(scene().convert("CMYK"), "JPEG")
    files = {
        "ants/whole.jpg": encode(scene(), "JPEG"),
        "ants/exif.jpg": with_segment(cmyk, 0xE1, b"Exif\0\0II*\0\x08\0\0\0\x09\0\x12\x01" + b"\xff" * 9),
        "ants/damaged.tiff": bytes(tiff),
        "bees/turned.tiff": encode(scene(), "TIFF", exif=exif(6)),
        "bees/cut.tiff": encode(scene(), "TIFF", compression="tiff_lzw")[:-300],
        "bees/noted.jpg": encode(scene(), "JPEG")[:2] + segment(0xFE, b"note") + encode(scene(), "JPEG")[2:],
    }
    for name, data in files.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(data)
    return tmp_path / "data"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=os.environ)


def test_importing_and_decoding_leaves_the_settings_of_libraries_as_they_were(damaged: Path) -> None:
    finished = run("-c", SETTINGS + DECODE, str(damaged))
    assert finished.returncode == 0, finished.stderr


def test_the_command_passes_on_nothing_that_libraries_say_of_damage(damaged: Path) -> None:
    spoken = run("-c", "from graft.cli.app import main; main()", "audit", "--quiet", "--no-features", str(damaged))
    assert spoken.returncode == 0 and spoken.stderr, "the files give no occasion"
    finished = run("-m", "graft", "audit", "--quiet", "--no-features", str(damaged))
    assert (finished.returncode, finished.stderr) == (0, "")
