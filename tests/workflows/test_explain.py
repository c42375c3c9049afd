"""From a run to its explanations."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.workflows.written_letters import files, write_letters

import graft
from graft.errors import InputError
from graft.files import ACTIVATIONS, cache_folder
from graft.images.letters import LATIN
from graft.weights.saved import load_model

LETTERS = LATIN[:4]
UNTESTED = graft.MapOptions(test=False)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_letters(tmp_path_factory.mktemp("data") / "letters & <b>", LETTERS, 12)


@pytest.fixture(scope="module")
def run(letters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "letters"
    with pytest.MonkeyPatch.context() as patched:
        # The tests' cache, which is not set yet.
        patched.setenv("GRAFT_CACHE", str(tmp_path_factory.getbasetemp() / "graft-cache"))
        return graft.train(letters, "latin_letters", "head", out=out, quiet=True).folder


def test_nearest_training_images_have_labels_and_links_and_come_from_the_cache(run: Path, letters: Path) -> None:
    own = sorted((letters / LETTERS[0]).iterdir())[:2]
    before, kept = files(letters), files(cache_folder() / ACTIVATIONS)
    made = graft.explain(run, own, maps=UNTESTED, nearest=3, quiet=True)
    assert made.folder == run / "explanations" / "1" and made.notes == ()
    assert [each.path for each in made.explanations] == [str(path) for path in own]
    for path, near in zip(own, made.nearest, strict=True):
        assert len(near) == 3 and str(path) not in [each.path for each in near]
        assert all(each.label == Path(each.path).parent.name for each in near)
        assert near[0].likeness >= near[1].likeness >= near[2].likeness
    assert files(letters) == before
    # The features of all that the run was trained on were there from its training.
    assert kept and files(cache_folder() / ACTIVATIONS).keys() == kept.keys()
    page = (made.folder / "index.html").read_text()
    links = [part.partition('"')[0] for part in page.split('href="')[1:]]
    assert len(links) == 6 and all(link.startswith("./..") and "%3Cb%3E" in link for link in links)
    assert "<b>" not in page


def test_data_that_are_gone_are_said_to_be(run: Path, letters: Path, tmp_path: Path) -> None:
    image = shutil.copy(next((letters / LETTERS[0]).iterdir()), tmp_path / "a.png")
    away = letters.rename(letters.with_name("away"))
    try:
        made = graft.explain(run, image, maps=UNTESTED, quiet=True)
    finally:
        away.rename(letters)
    (note,) = made.notes
    assert "nearest training images are not shown" in note and made.nearest == ((),)
    assert graft.explain(run, image, maps=UNTESTED, nearest=0, quiet=True).notes == ()


def test_images_in_memory_are_explained_as_their_files_are(run: Path, letters: Path) -> None:
    path = next((letters / LETTERS[0]).iterdir())
    pixels = np.asarray(Image.open(path).convert("RGB"))
    (by_path,) = graft.explain(run, path, maps=UNTESTED, quiet=True).explanations
    dataset = graft.Dataset.from_arrays([pixels], [LETTERS[0]])
    for given in (pixels, [Image.open(path)], pixels[None], dataset, [pixels, path]):
        made = graft.explain(run, given, maps=UNTESTED, quiet=True)
        assert made.explanations[0].path == "image 0" and made.nearest[0]
        assert all(each.map.values == pytest.approx(by_path.map.values, abs=1e-3) for each in made.explanations)
    other = np.asarray(Image.open(next((letters / LETTERS[1]).iterdir())).convert("RGB"))
    made = graft.explain(run, other, maps=UNTESTED, quiet=True)
    assert [each.label for each in made.nearest[0]][:1] == [LETTERS[1]]
    with pytest.raises(InputError, match=r"at most 200 .* got more"):
        graft.explain(run, (pixels for _ in iter(int, 1)), quiet=True)


def test_explanations_do_not_replace_earlier_ones(run: Path, letters: Path) -> None:
    image = next((letters / LETTERS[0]).iterdir())
    folders = [graft.explain(run, image, maps=UNTESTED, nearest=0, quiet=True).folder for _ in range(2)]
    assert folders[0] != folders[1]


def test_a_run_is_not_changed_by_explaining_it(run: Path, letters: Path) -> None:
    before = load_model(run / "model").network.state_dict()
    graft.explain(run, next((letters / LETTERS[0]).iterdir()), nearest=0, quiet=True)
    after = load_model(run / "model").network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_the_network_of_a_run_is_shown_beside_its_base(run: Path, letters: Path) -> None:
    made = graft.explain_network(run, quiet=True)
    assert made.filters_moved == 0 and made.other == "latin_letters" and made.notes == ()
    assert made.similarity is not None and np.diag(made.similarity.values) == pytest.approx(1)
    assert {path.name for path in made.folder.iterdir()} == {"index.html", "explanations.json"}
    assert all(str(letters) in each.path for liked in made.favourites for each in liked.likings)
    page = (made.folder / "index.html").read_text()
    assert "before training" in page and "From general to specific" in page and "<b>" not in page


def test_channels_and_another_network_can_be_named(run: Path, tmp_path: Path) -> None:
    made = graft.explain_network(run, out=tmp_path / "out", features="stage1", channels=[2, 0], against=run, quiet=True)
    assert [each.channel for each in made.favourites] == [2, 0] and made.other == run.name
    with pytest.raises(InputError, match="`channels`"):
        graft.explain_network(run, channels=[9999], quiet=True)
    with pytest.raises(InputError, match=r"'stage11' .did you mean 'stage1'"):
        graft.explain_network(run, features="stage11", quiet=True)


def test_a_model_without_its_run_shows_its_filters(run: Path, tmp_path: Path) -> None:
    model = shutil.copytree(run / "model", tmp_path / "model")
    made = graft.explain_network(model, quiet=True)
    assert len(made.notes) == 2 and made.similarity is None and made.favourites == ()
    assert "Filters of the first layer" in (model / "explanations" / "1" / "index.html").read_text()


def test_a_list_of_names_and_a_place_without_images_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got - for a list on stdin"):
        graft.explain(run, "-", quiet=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        graft.explain(run, tmp_path / "empty", quiet=True)
