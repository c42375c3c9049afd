"""Serving a run: its name, and which of its images the page may offer."""

import io
import shutil
from pathlib import Path

import pytest
from mosaics import write_mosaics
from PIL import Image

import graft
from graft.errors import DataError, InputError
from graft.images.letters import CYRILLIC, dejavu_fonts, render_letters

pytest.importorskip("fastapi", reason="needs graft-vision[serve]")

from graft.serving.settings import Serving
from graft.workflows import serve as serving
from graft.workflows.serve import name_of, serve


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head on letters of four classes, whose JPEGs have a camera's notes in them."""
    root = tmp_path_factory.mktemp("letters")
    images, labels = render_letters(CYRILLIC[:4], dejavu_fonts(), 5, seed=0)
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / "data" / ("train" if index % 5 < 3 else "val") / CYRILLIC[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).resize((640, 480)).save(folder / f"{index}.jpg", exif=exif)
    return graft.train(root / "data", "latin_letters", "head", out=root / "run", audit=False, quiet=True).folder


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("/runs/photos", "photos"),
        ("/runs/photos/model", "photos"),
        ("/runs/photos/export/model.onnx", "photos"),
        ("/files/birds.v2.xml", "birds.v2"),
        ("/runs/a\nb", "a\\x0ab"),
    ],
)
def test_a_model_is_called_as_its_run_or_file(place: str, name: str) -> None:
    assert name_of(Path(place)) == name


def test_a_name_that_no_address_can_have_is_refused() -> None:
    for name in ("a/b", " a", "a\t"):
        with pytest.raises(InputError, match="expected a name without / and without spaces around it"):
            Serving("run", name)
    assert Serving("run", "Ж 1.2").name == "Ж 1.2"


def test_examples_are_small_images_of_val_of_all_classes_without_a_cameras_notes(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = []
    monkeypatch.setattr(serving, "listen", lambda serving, access, examples, **_: offered.append(examples))
    serve(Serving(str(run)), examples=True)
    serve(Serving(str(run / "model")))
    examples, none = offered
    assert none == () and len(examples) == 8
    assert [example.label for example in examples] == [*CYRILLIC[:4], *CYRILLIC[:4]]
    for example in examples:
        image = Image.open(io.BytesIO(example.jpeg))
        assert image.format == "JPEG" and image.size == (512, 384) and not image.getexif()


def test_examples_of_what_has_none_are_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    with pytest.raises(InputError, match="leave `examples` out"):
        serve(Serving(str(tmp_path)), examples=True)
    moved = run.parent / "data"
    moved.rename(run.parent / "elsewhere")
    try:
        with pytest.raises(DataError, match="expected the images of the run"):
            serve(Serving(str(run)), examples=True)
    finally:
        (run.parent / "elsewhere").rename(moved)


def test_a_run_of_several_labels_is_refused_before_its_examples_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mosaics(tmp_path / "mosaics", 40)
    options = {"multi_label": True, "audit": False, "refit": False, "quiet": True}
    run = graft.train(tmp_path / "mosaics" / "mosaics.csv", "latin_letters", "head", out=tmp_path / "run", **options)
    monkeypatch.setattr(serving, "listen", lambda *_, **__: pytest.fail("it was served"))
    for place in (run.folder, run.folder / "model"):
        with pytest.raises(InputError, match="one label for the service"):
            serve(Serving(str(place)), examples=True)
