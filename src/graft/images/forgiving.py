"""Repair image files whose damage is outside their pixels."""

import zlib
from contextlib import suppress

import simplejpeg

from graft.errors import ImageError
from graft.images.containers import END_OF_JPEG, JPEG, PNG, chunks, has_all_scans

# The ancillary PNG chunks that affect how pixels look or how many frames there are; the others are metadata.
_SEEN = (b"tRNS", b"sBIT", b"eXIf", b"acTL", b"fcTL", b"fdAT")


def with_end(jpeg: bytes) -> bytes | None:
    """Complete a JPEG that lacks only its end marker; None for any other file, and for one that lacks pixels."""
    if not jpeg.startswith(JPEG) or jpeg.rfind(END_OF_JPEG) > jpeg.rfind(b"\xff\xda") or not has_all_scans(jpeg):
        return None
    ended = jpeg + END_OF_JPEG
    # Unlike other decoders, simplejpeg raises an error when a row is missing.
    with suppress(ValueError, RuntimeError):
        _, _, colours, _ = simplejpeg.decode_jpeg_header(ended)
        simplejpeg.decode_jpeg(ended, "CMYK" if colours in ("CMYK", "YCCK") else "Gray")
        return ended
    return None


def without_notes(png: bytes) -> bytes | None:
    """Strip a PNG of its texts and profiles, and of other ancillary chunks with a wrong checksum.

    None for any other file, and if there is nothing to strip.
    """
    if not png.startswith(PNG):
        return None
    kept, end = [PNG], len(PNG)
    with suppress(ImageError):
        for start in chunks(png):
            name, length = png[start + 4 : start + 8], int.from_bytes(png[start : start + 4], "big")
            end = min(start + 12 + length, len(png))
            needed = not name[:1].islower()
            sound = end == start + 12 + length and zlib.crc32(png[start + 4 : end - 4]) == int.from_bytes(
                png[end - 4 : end], "big"
            )
            if needed or (name in _SEEN and sound):
                kept.append(png[start:end])
    cleaned = b"".join((*kept, png[end:]))
    return cleaned if len(cleaned) < len(png) else None
