"""The same images, whichever way they come: by their path, as a Dataset, as (images, labels), as a data frame."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from written_letters import files, write_letters

import graft
from graft.errors import DataError, InputError
from graft.images.letters import CYRILLIC
from graft.workflows.own_images import images_of_run

OPTIONS = {"base": "latin_letters", "level": "head", "deterministic": True, "quiet": True}


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_letters(tmp_path_factory.mktemp("doors") / "letters", CYRILLIC[:4], 8, seed=0)


def listed(letters: Path) -> tuple[list[Path], list[str]]:
    paths = sorted(letters.glob("*/*.png"))
    return paths, [path.parent.name for path in paths]


def model_of(run: graft.Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run.folder / "model").iterdir())}


def test_the_same_images_make_the_same_model_whichever_way_they_come(letters: Path, tmp_path: Path) -> None:
    paths, labels = listed(letters)
    pixels = [np.asarray(Image.open(path)) for path in paths]
    doors = {
        "path": letters,
        "PIL": ([Image.open(path) for path in paths], labels),
        "floats": ([array / 255 for array in pixels], labels),
        "frame with usual names": pd.DataFrame({"path": paths, "label": labels}),
        "frame": graft.Dataset.from_frame(pd.DataFrame({"path": paths, "label": labels}), name="any"),
    }
    before, found = files(letters), {}
    for name, data in doors.items():
        found[name] = model_of(graft.train(data, out=tmp_path / name, **OPTIONS))
    assert files(letters) == before
    assert all(model == found["path"] for model in found.values())
    assert set(found["path"]) > {"config.json", "model.safetensors", "README.md"}


def test_every_workflow_takes_a_dataset_and_images_with_labels(letters: Path, tmp_path: Path) -> None:
    dataset = graft.Dataset.from_folder(letters)
    run = graft.train(dataset, out=tmp_path / "run", **OPTIONS)
    by_path = graft.evaluate(run.folder, letters, quiet=True)
    assert graft.evaluate(run.folder, listed(letters), quiet=True).seen.to_dict() == by_path.seen.to_dict()
    base = OPTIONS["base"]
    assert graft.audit(listed(letters), base, with_features=False, quiet=True).findings == tuple(
        graft.audit(dataset, base, with_features=False, quiet=True).findings
    )
    advice = graft.advise(dataset, base, with_race=False, quiet=True)
    assert advice.plan == graft.advise(letters, base, with_race=False, quiet=True).plan
    compared = graft.compare(listed(letters), base, "head", 1, quiet=True)
    assert compared.levels[0].top1 == graft.compare(letters, base, "head", 1, quiet=True).levels[0].top1
    assert compared.data == "images"
    frame = pd.DataFrame(dict(zip(("File", "class"), listed(letters), strict=True)))
    assert graft.evaluate(run.folder, frame, quiet=True).seen.to_dict() == by_path.seen.to_dict()
    grouped = graft.DataOptions(dataset, group=r"/(\d+)\.png$")
    assert graft.train(grouped, out=tmp_path / "grouped", **OPTIONS).val.n


def test_a_frame_says_its_splits_and_one_without_names_says_how_to_name_them(letters: Path, tmp_path: Path) -> None:
    paths, labels = listed(letters)
    frame = pd.DataFrame({"path": paths, "label": labels, "split": [*["train"] * 3, "val"] * (len(paths) // 4)})
    graft.train(frame, out=tmp_path / "run", **OPTIONS)
    assert (tmp_path / "run" / "split.csv").read_text().count(",val,") == len(paths) // 4
    with pytest.raises(DataError, match=r"columns of images and of labels .* got 'a', 'b': name them as in graft\."):
        graft.train(pd.DataFrame({"a": paths, "b": labels}), out=tmp_path / "other", **OPTIONS)
    for odd, name in (({"a": paths}, "a dict"), (paths, "a list"), (None, "None"), (7, "7")):
        with pytest.raises(InputError, match=f"or a data frame for the images, got {name}: give one of these"):
            graft.train(odd, out=tmp_path / "other", **OPTIONS)
    assert not (tmp_path / "other").exists()


def test_a_cleaned_dataset_can_be_trained(letters: Path, tmp_path: Path) -> None:
    paths, labels = listed(letters)
    audit = graft.audit(
        ([*paths, paths[0], b"no image"], [*labels, labels[0], labels[0]]), with_features=False, quiet=True
    )
    cleaned = audit.dataset.without(audit.findings)
    assert len(cleaned) == len(paths)
    assert not graft.train(cleaned, out=tmp_path / "run", **OPTIONS).skipped


def test_a_run_of_images_in_memory_says_that_no_path_resumes_it(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr("graft.training.heads.fit_head", stop)
        graft.train(listed(letters), out=tmp_path / "run", **OPTIONS)
    text = (tmp_path / "run" / "args.yaml").read_text()
    assert text.startswith("# The images were handed over in Python") and yaml.safe_load(text)["in_memory"] is True
    with pytest.raises(InputError, match=r"handed over in Python: hand the same over again, graft\.train"):
        graft.train(tmp_path / "run", resume=True, quiet=True)
    with pytest.raises(DataError, match=r"the images, labels and splits that .* was begun with"):
        other = [each[::-1] for each in listed(letters)]
        graft.train((other[0], other[1]), out=tmp_path / "run", resume=True, quiet=True)
    run = graft.train(listed(letters), out=tmp_path / "run", resume=True, quiet=True)
    assert model_of(run) == model_of(graft.train(letters, out=tmp_path / "at_once", **OPTIONS))
    with pytest.raises(DataError, match="handed over in Python and have no path: give others"):
        images_of_run(run.folder, "to look at", "give others")


def test_what_is_no_data_is_one_sentence(letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for data in (5, None, ([], [], []), object()):
        with pytest.raises(InputError, match=r"^expected a path, .* or a data frame for the images, got .*: give one"):
            graft.train(data, **OPTIONS)
    with pytest.raises(InputError, match="no options about a table"):
        graft.train(graft.DataOptions(listed(letters), table=graft.TableOptions(label_column="x")), **OPTIONS)
    assert not list(tmp_path.iterdir())
    run = graft.train(listed(letters), **OPTIONS)
    assert run.folder == tmp_path / "runs" / "images"
