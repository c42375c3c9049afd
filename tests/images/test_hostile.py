"""The hostile corpus: every file decodes to what Pillow makes of it, or is refused with a sentence, at a bounded cost.

One child process decodes it all, so that its time, its memory and its stderr are those of the decoder. It is set up as
that of the command is.
"""

import io
import json
import re
import resource
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import File, corpus
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError

from graft.cli.process import silence_libraries
from graft.errors import ImageError
from graft.images.decoding import decode_with_facts

SECONDS, BYTES = 2.0, 2**30
COMPARED_PIXELS = 100_000  # larger ones, all flat, would only cost time


def decode_all(folder: Path) -> None:
    """Outcome, seconds of processor time and the peak of memory up to here for every file, as lines of JSON."""
    for number, file in enumerate(corpus()):
        pixels = None
        found: dict[str, Any] = {"name": file.name, "expected": file.outcome}
        start = time.process_time()
        try:
            pixels, facts = decode_with_facts(file.data)
            found |= {"outcome": "image", "shape": pixels.shape, "stated": (facts.height, facts.width, 3)}
            found["frames"] = facts.frames
        except ImageError as error:
            found |= {"outcome": "refused", "message": str(error)}
        except BaseException as error:
            found |= {"outcome": "crashed", "message": repr(error)}
        found["seconds"] = time.process_time() - start
        if pixels is not None and pixels.size <= 3 * COMPARED_PIXELS:
            np.save(folder / f"{number}.npy", pixels)
        del pixels
        for _ in range(3 if found["seconds"] > SECONDS else 0):  # processor time grows where others use the cores
            start = time.process_time()
            with suppress(ImageError):
                decode_with_facts(file.data)
            found["seconds"] = min(found["seconds"], time.process_time() - start)
        found["bytes"] = peak_bytes()
        print(json.dumps(found), flush=True)


def peak_bytes() -> int:
    """Most memory that this process has had so far."""
    if Path("/proc/self/status").exists():  # what `resource` says here counts the process that started this one as well
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.fixture(scope="module")
def files() -> list[File]:
    return list(corpus())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], str, Path]:
    """The outcome of every file in order, the text on stderr, and the folder of the pixels."""
    folder = tmp_path_factory.mktemp("pixels")
    finished = subprocess.run(
        [sys.executable, __file__, str(folder)], capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return [json.loads(line) for line in finished.stdout.splitlines()], finished.stderr, folder


@pytest.fixture(scope="module")
def outcomes(run: tuple[list[dict[str, Any]], str, Path]) -> list[dict[str, Any]]:
    return run[0]


def test_whole_files_decode_and_bad_ones_are_refused(outcomes: list[dict[str, Any]]) -> None:
    assert len(outcomes) > 3500
    allowed = {"image": ("image",), "refused": ("refused",), "either": ("image", "refused")}
    assert not [found for found in outcomes if found["outcome"] not in allowed[found["expected"]]]
    decoded = sum(found["outcome"] == "image" for found in outcomes)
    print(f"{decoded} of {len(outcomes)} files decoded")


def test_refusals_are_sentences_in_three_parts(outcomes: list[dict[str, Any]]) -> None:
    messages = [found["message"] for found in outcomes if found["outcome"] == "refused"]
    assert not [message for message in messages if not re.fullmatch(r"expected .+, got .+: .+", message)]


def test_no_file_takes_long_or_much_memory(outcomes: list[dict[str, Any]]) -> None:
    slowest = max(outcomes, key=lambda found: found["seconds"])
    most = max(found["bytes"] for found in outcomes)
    at = next(found["name"] for found in outcomes if found["bytes"] == most)
    print(f"slowest: {slowest['name']}, {slowest['seconds']:.2f} s; most memory: {at}, {most / 2**20:.0f} MiB")
    assert slowest["seconds"] <= SECONDS
    assert most < BYTES


def test_nothing_reaches_stderr(run: tuple[list[dict[str, Any]], str, Path]) -> None:
    assert run[1] == ""


def test_the_facts_tell_the_size_of_the_pixels(outcomes: list[dict[str, Any]]) -> None:
    assert not [found for found in outcomes if found["outcome"] == "image" and found["shape"] != found["stated"]]


def test_images_are_those_of_a_reference_decoder(
    files: list[File], run: tuple[list[dict[str, Any]], str, Path]
) -> None:
    """JPEGs come from another copy of libjpeg-turbo, which may differ by a level or two; all else is equal."""
    outcomes, _, folder = run
    wrong: list[str] = []
    beyond: list[str] = []
    compared = 0
    for number, (file, found) in enumerate(zip(files, outcomes, strict=True)):
        assert file.name == found["name"]
        path = folder / f"{number}.npy"
        if path.exists():
            try:
                theirs = reference(file.data)
            except UnidentifiedImageError:  # a damaged chunk that is not needed, bands that Pillow does not know
                beyond.append(file.name)
                continue
            ours = np.load(path).astype(int)
            within = 2 if file.data.startswith(b"\xff\xd8") else 1
            if ours.shape != theirs.shape or np.abs(ours - theirs).max() > within:
                wrong.append(file.name)
            compared += 1
    print(f"{compared} images compared, {len(beyond)} that the reference does not open")
    assert len(beyond) < 20 and all(name.startswith("flipped/") for name in beyond)
    assert compared > 1500 and not wrong


def reference(data: bytes) -> np.ndarray:
    """Pillow's image, turned upright and put over white in floating point: int (H, W, 3)."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patched:
        warnings.simplefilter("ignore")
        # Notes of any length, and notes and ends that are damaged, are passed over.
        patched.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 2**27)
        patched.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 2**27)
        patched.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            nothing = image.info.get("transparency")
            image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        levels = np.nan_to_num(np.asarray(image).astype(float))
        if image.mode == "F":
            grey = np.rint(255 * levels if levels.min() >= 0 and levels.max() <= 1 else levels)
        else:
            grey = levels // 256 if image.mode != "I" or levels.max() > 255 else levels
        if isinstance(nothing, int):
            grey[np.asarray(image) == nothing] = 255
        return np.repeat(grey.clip(0, 255)[:, :, None], 3, axis=2).astype(int)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB")).astype(int)
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    alpha = rgba[:, :, 3:] / 255
    return np.rint(rgba[:, :, :3] * alpha + 255 * (1 - alpha)).astype(int)


if __name__ == "__main__":
    silence_libraries()
    decode_all(Path(sys.argv[1]))
