"""What the page on deployment says to do without graft gives graft's answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from graft.images.decoding import decode

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
UPRIGHT, TURNED = 1, 6


def decoded_without_graft(path: Path, levels: dict[str, list[float]] | None = None) -> np.ndarray:
    """The pixels that the script of the page hands to its session."""
    script = PAGE.read_text(encoding="utf-8").split("## Without graft", 1)[1]
    function = "def pixels" + script.split("def pixels", 1)[1].split("session = ", 1)[0]
    names: dict[str, Any] = {}
    exec("import numpy as np\nfrom PIL import Image, ImageOps\n" + function, names)
    return names["pixels"](path, {"preprocessing": {} if levels is None else {"levels": levels}})  # type: ignore[no-any-return]


@pytest.mark.parametrize("orientation", [UPRIGHT, TURNED])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "P, one colour transparent", "RGB", "RGBA", "I;16"])
def test_script_of_the_page_decodes_as_graft_does(mode: str, orientation: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (9, 14, 4), np.uint8), "RGBA")
    if mode == "I;16":
        image = Image.fromarray(random.integers(0, 65_536, (9, 14), np.uint16))
    else:
        image = image.convert("RGB").quantize(8) if mode.startswith("P") else image.convert(mode)
    exif = Image.Exif()
    exif[0x112] = orientation
    path = tmp_path / "image.png"
    image.save(path, exif=exif, **({"transparency": 3} if "transparent" in mode else {}))
    np.testing.assert_array_equal(decoded_without_graft(path), decode(path.read_bytes()))


def test_script_of_the_page_takes_black_and_white_from_the_run_whatever_the_kind_of_sample(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-2_100, 2_100, (9, 14)).astype(np.int32)
    Image.fromarray(values).save(tmp_path / "signed.tif")
    found = decoded_without_graft(tmp_path / "signed.tif", {"int32": [-2048.0, 2047.0]})
    expected = decode((tmp_path / "signed.tif").read_bytes(), levels=(("int32", -2048.0, 2047.0),))
    np.testing.assert_array_equal(found, expected)
    assert found.min() == 0 and found.max() == 255
