"""HEIF, DICOM and JPEG XL: read with the library that an extra brings, and named where it is not there."""

import io
import sys
from typing import Any

import numpy as np
import pytest
from crafted import HEIGHT, WIDTH, encode, scene

from graft.errors import ImageError
from graft.images.decoding import decode, decode_with_facts, read_spread
from graft.images.levels import decide

HEIF = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(200)
DICOM = bytes(128) + b"DICM" + bytes(200)
JXL = b"\xff\x0a" + bytes(200)
GREY = np.asarray(scene().convert("L"))


@pytest.mark.parametrize(
    ("data", "library", "extra"),
    [(HEIF, "pillow_heif", "heif"), (DICOM, "pydicom", "dicom"), (JXL, "pillow_jxl", "jxl")],
)
def test_a_missing_library_is_named(data: bytes, library: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImageError, match=rf"expected {library} to be installed .*'graft-vision\[{extra}\]'"):
        decode(data)


@pytest.mark.parametrize(
    ("data", "library"), [(HEIF, "pillow_heif"), (DICOM, "pydicom"), (JXL, "pillow_jxl")], ids=["HEIF", "DICOM", "JXL"]
)
def test_garbage_is_damaged(data: bytes, library: str) -> None:
    pytest.importorskip(library)
    with pytest.raises(ImageError, match=r"expected an? .*, got .*: "):
        decode(data)


def test_heic_shows_the_photograph() -> None:
    library = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    library.from_pillow(scene(128, 96)).save(file, quality=95)
    pixels, facts = decode_with_facts(file.getvalue())
    assert (facts.format, facts.width, facts.height) == ("HEIF", 128, 96)
    assert np.abs(pixels.astype(int) - scene(128, 96)).mean() < 4


def test_jpeg_xl_shows_the_photograph() -> None:
    pytest.importorskip("pillow_jxl")
    for size in ((128, 96), (50, 31), (1200, 31)):
        pixels, facts = decode_with_facts(encode(scene(*size), "JXL", lossless=True))
        assert np.array_equal(pixels, scene(*size)) and facts.format == "JXL"


def test_a_large_jpeg_xl_is_refused_before_it_is_unpacked() -> None:
    pytest.importorskip("pillow_jxl")
    height, width = 2**30 - 1, 9
    header = 0 | 3 << 1 | height << 3 | 0 << 33 | 0 << 36 | width << 38
    with pytest.raises(ImageError, match=r"at most 25,000,000 pixels, got 10 x 1,073,741,824"):
        decode(b"\xff\x0a" + header.to_bytes(12, "little") + bytes(100))


def dicom(values: np.ndarray, **tags: Any) -> bytes:
    library = pytest.importorskip("pydicom")
    meta = library.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = library.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = library.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = library.dataset.FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    file.Rows, file.Columns = values.shape[:2]
    file.SamplesPerPixel = 1
    file.PhotometricInterpretation = "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit, file.PixelRepresentation = 15, int(values.dtype.kind == "i")
    file.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(file, name, value)
    stored = io.BytesIO()
    library.dcmwrite(stored, file, enforce_file_format=True)
    return stored.getvalue()


@pytest.mark.parametrize("inverted", [False, True])
def test_dicom_is_shown_through_its_window(inverted: bool) -> None:
    data = dicom(
        GREY.astype(np.int16) * 4,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        WindowCenter=-512,
        WindowWidth=1024,
        PhotometricInterpretation="MONOCHROME1" if inverted else "MONOCHROME2",
    )
    pixels, facts = decode_with_facts(data, levels=(("float", 0, 1), ("int16", 0, 5)))
    expected = 255 - GREY.astype(int) if inverted else GREY.astype(int)
    assert np.abs(pixels[:, :, 0] - expected).max() <= 1
    assert (facts.format, facts.width, facts.height) == ("DICOM", WIDTH, HEIGHT)
    assert read_spread(data) is None


def test_dicom_without_a_window_is_read_by_the_range_of_the_set() -> None:
    data = dicom(GREY.astype(np.uint16) * 16)
    found = decide([read_spread(data)])
    assert [level[1:] for level in found] == [(0, 4095)]
    assert np.abs(decode(data, levels=found)[:, :, 0].astype(int) - GREY).max() <= 1


def test_dicom_without_pixels_is_called_that() -> None:
    data = dicom(GREY.astype(np.uint16))
    library = pytest.importorskip("pydicom")
    file = library.dcmread(io.BytesIO(data))
    del file.PixelData
    stored = io.BytesIO()
    file.save_as(stored)
    with pytest.raises(ImageError, match="got a DICOM file without pixels"):
        decode(stored.getvalue())
