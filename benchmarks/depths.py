"""Trains a head on grey images deeper than 8 bits: the same photographs in thirteen forms.

    python benchmarks/depths.py PHOTOS --base FILE [--classes 6] [--images 60]

PHOTOS is a folder of photographs, one subfolder per class; FILE has the weights of a network. The photographs are made
grey, 128 x 128 px, 8 bits deep, and written in every form. No form holds more information than the 8 bits, so a head on
each should be as accurate on the held-out images. Prints a line for each form: its accuracy, and the values taken for
black and white. Exits with 1 if a form is more than two points away from the 8 bits.
"""

import argparse
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

MOST_APART = 0.02
# Share of the images that are trained on.
TRAINED_ON = 0.6
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # TIFF 6.0, section 19, SampleFormat
Writer = Callable[[Path, np.ndarray], None]


def as_png(values: Callable[[np.ndarray], np.ndarray]) -> Writer:
    return lambda path, grey: Image.fromarray(values(grey)).save(path.with_suffix(".png"))


def as_tiff(kind: int, values: Callable[[np.ndarray], np.ndarray]) -> Writer:
    """Write one uncompressed strip by hand, as Pillow supports only a few sample types."""

    def write(path: Path, grey: np.ndarray) -> None:
        samples = np.ascontiguousarray(values(grey))
        (height, width), data = samples.shape, samples.tobytes()
        long, short = 4, 3
        tags = [
            *((256, long, width), (257, long, height), (258, short, samples.itemsize * 8), (259, short, 1)),
            *((262, short, 1), (273, long, 8), (277, short, 1), (278, long, height), (279, long, len(data))),
            (339, short, kind),
        ]
        entries = b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in tags)
        head = b"II*\0" + struct.pack("<I", 8 + len(data))
        path.with_suffix(".tif").write_bytes(
            head + data + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
        )

    return write


def as_dicom(path: Path, grey: np.ndarray) -> None:
    """Write 12 bits stored in 16, with a window that covers their whole range."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.Rows, file.Columns = grey.shape
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.WindowCenter, file.WindowWidth = 2048, 4096
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.PixelData = (grey.astype(np.uint16) * 16).tobytes()
    file.save_as(path.with_suffix(".dcm"))


FORMS: dict[str, Writer] = {
    "8 bits, PNG": as_png(lambda grey: grey),
    "16 bits, PNG": as_png(lambda grey: grey.astype(np.uint16) * 257),
    "12 bits in 16, PNG": as_png(lambda grey: grey.astype(np.uint16) * 16),
    "10 bits in 16, PNG": as_png(lambda grey: grey.astype(np.uint16) * 4),
    "12 bits in 16, TIFF": as_tiff(UNSIGNED, lambda grey: grey.astype(np.uint16) * 16),
    "12 bits in 16, signed": as_tiff(SIGNED, lambda grey: grey.astype(np.int16) * 16 - 2048),
    "32 bits": as_tiff(UNSIGNED, lambda grey: grey.astype(np.uint32) * 2**16),
    "float, 0 to 1": as_tiff(FLOAT, lambda grey: grey.astype(np.float32) / 255),
    "float, 0 to 255": as_tiff(FLOAT, lambda grey: grey.astype(np.float32)),
    "float, -1 to 1": as_tiff(FLOAT, lambda grey: grey.astype(np.float32) / 127.5 - 1),
    "float, 0 to 1.0001": as_tiff(FLOAT, lambda grey: grey.astype(np.float32) / 255 * 1.0001),
    "float, 0 to 4,095": as_tiff(FLOAT, lambda grey: grey.astype(np.float32) * (4095 / 255)),
    "double, 0 to 1": as_tiff(FLOAT, lambda grey: grey / 255),
    "12 bits in 16, DICOM": as_dicom,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Heads on one set of grey images in many depths.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--images", type=int, default=60, help="of each class")
    given = parser.parse_args()
    found: dict[str, float] = {}
    with TemporaryDirectory(prefix="graft-depths-") as name:
        os.environ["GRAFT_CACHE"] = str(Path(name) / "cache")
        import graft

        folders = sorted(path for path in given.photos.iterdir() if path.is_dir())[: given.classes]
        for number, (form, write) in enumerate(FORMS.items()):
            data = Path(name) / f"data{number}"
            for folder in folders:
                files = sorted(folder.iterdir())[: given.images]
                for place, file in enumerate(files):
                    split = "train" if place < TRAINED_ON * len(files) else "val"
                    target = data / split / folder.name / f"{place:03}"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    write(target, np.array(Image.open(file).convert("L").resize((128, 128))))
            run = graft.train(data, given.base, "head", out=Path(name) / f"run{number}", quiet=True)
            assert run.val is not None
            found[form] = run.val.top1
            told = next((note.partition(", decided")[0] for note in run.notes if "deeper than 8 bits" in note), "")
            print(f"{form:24} {run.val.top1:.3f} of {run.val.n}  {told}", flush=True)
    first = next(iter(found.values()))
    sys.exit(any(abs(each - first) > MOST_APART for each in found.values()))


if __name__ == "__main__":
    main()
