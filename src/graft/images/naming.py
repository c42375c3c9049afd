"""Identify files that are not images graft can read, so that nobody is told to fetch an intact file again."""

import re
from contextlib import suppress

from graft.images.containers import JPEG, frame_of_jpeg
from graft.images.directories import Directories

_LFS, _ANNEX = b"version https://git-lfs.github.com/spec/", re.compile(rb"(\.\./)*(\.git)?/?annex/objects/")
_WEB = re.compile(rb"\s*(<!doctype html|<html|<head|<\?xml[^>]*\?>\s*<!doctype html)", re.IGNORECASE)
_DRAWING = re.compile(
    rb"\s*(<\?xml[^>]*\?>\s*)?(<!--.*?-->\s*)?(<!doctype svg[^>]*>\s*)?<svg", re.IGNORECASE | re.DOTALL
)
_BEGINNINGS = (
    (b"%PDF-", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"8BPS", "a Photoshop document"),
    (b"PK\3\4", "a zip archive"),
    (b"PK\5\6", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"v/1\1", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"#?RGBE", "a Radiance HDR image"),
    (b"SIMPLE  =", "a FITS image"),
    (b"qoif", "a QOI image"),
    (b"DDS ", "a DDS texture"),
    (b"BPG\xfb", "a BPG image"),
    (b"II\xbc", "a JPEG XR image"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"FUJIFILMCCD-RAW", "a camera raw file"),
    (b"IIRO", "a camera raw file"),
    (b"IIU\0", "a camera raw file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
    (b"\x1aE\xdf\xa3", "a video"),
)
_FTYP = {b"crx ": "a camera raw file", b"qt  ": "a video"}
# TIFF compressions that not every build of libtiff supports, and photometric kinds whose pixels are not yet colours.
_PACKED = {33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG"}
_PACKED |= {50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL", 22610: "JPEG XR", 34934: "JPEG XR"}
_MOSAIC = (32803, 34892)


def pointer(data: bytes) -> str | None:
    """Describe a pointer to an image not fetched yet, and the command that fetches it; None for other files."""
    if data.startswith(_LFS):
        size = re.search(rb"\nsize (\d+)", data[:1024])
        of = f" to {int(size[1]):,} bytes that are not here" if size else ""
        return f"a Git LFS pointer{of}: run `git lfs pull` in the repository"
    if len(data) < 4096 and _ANNEX.match(data):
        return "a git-annex pointer: run `git annex get` in the repository"
    return None


def kind_of_file(data: bytes) -> str | None:
    """Name the kind of a file that is no readable image, with an article; None if unknown."""
    beginning = data[:4096]
    if not data:
        return "an empty file"
    if not data.strip(b"\0"):
        return "nothing but zero bytes"
    if _WEB.match(beginning):
        return "a web page"
    if _DRAWING.match(beginning):
        return "an SVG drawing, which has no pixels"
    for start, name in _BEGINNINGS:
        if data.startswith(start):
            return name
    if data[4:8] == b"ftyp":
        return _FTYP.get(data[8:12], "a video")
    if data.startswith(b"RIFF") and data[8:12] == b"AVI ":
        return "a video"
    if data[:344].ljust(348, b"\0")[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c") and data[344:347] in (b"n+1", b"ni1"):
        return "a NIfTI volume"
    with suppress(UnicodeDecodeError):
        if beginning[:1000].decode().isprintable() or beginning[:1000].decode().replace("\n", "").isprintable():
            return "text"
    return None


def unread(name: str, data: bytes) -> str | None:
    """Name the kind of a JPEG or TIFF that the decoders do not support, with an article; None for the others."""
    if name == "JPEG" and data.startswith(JPEG):
        frame = frame_of_jpeg(data)
        if frame is None:
            return None
        process, precision = frame
        if process in (0xC3, 0xC7, 0xCB, 0xCF):
            return "a lossless JPEG"
        if precision == 12:
            return "a JPEG of 12 bits per sample"
    if name == "TIFF":
        with suppress(ValueError):
            directories = Directories(data)
            entries = directories.read(directories.first)
            packed = _PACKED.get(directories.number(entries, 259, 1))
            if directories.number(entries, 262, 1) in _MOSAIC:
                return "a camera raw file"
            if packed is not None:
                return f"a TIFF compressed as {packed}"
    return None
