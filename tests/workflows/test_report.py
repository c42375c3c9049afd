"""The page of a run: it names planted faults, is built again without the images, and stands beside another."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from calling import graft
from PIL import Image
from written_letters import write_letters

from graft.errors import InputError
from graft.evaluation.answers import Answers
from graft.evaluation.report.values import Alarm
from graft.images.letters import CYRILLIC
from graft.workflows import gathering
from graft.workflows.alarming import label_alarms
from graft.workflows.chosen_images import _answered
from graft.workflows.kept_answers import read_answers
from graft.workflows.material import Material
from graft.workflows.prepare import DataOptions
from graft.workflows.report import _compared, report
from graft.workflows.run import Run
from graft.workflows.run_folder import folder_of_job
from graft.workflows.thumbnails import Album
from graft.workflows.train import train

LETTERS = CYRILLIC[:5]


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "letters"
    for seed, (split, number) in enumerate((("train", 24), ("val", 12), ("test", 24))):
        write_letters(root / split, LETTERS, number, seed)
    return root


@pytest.fixture(scope="module")
def run(letters: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(letters, tmp_path_factory.mktemp("run") / "run")


def trained(data: Path, out: Path) -> Run:
    return train(data, "latin_letters", "head", out=out, quiet=True)


def values(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def titles(folder: Path) -> list[str]:
    return [alarm["title"] for alarm in values(folder)["verdict"]["alarms"]]


def planted(letters: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(letters, tmp_path / "data"))


def test_a_clean_set_raises_no_alarm_and_the_page_has_the_figures_of_the_run(run: Run) -> None:
    assert titles(run.folder) == []
    page, found = (run.folder / "report.html").read_text(encoding="utf-8"), values(run.folder)
    assert found["splits"]["test"]["top1"] == run.test.top1 and f"{run.test.top1:.1%}" in page
    assert page.count("data:image/jpeg") > 5 and len(page) < 500_000
    assert found["provenance"]["command"].startswith("graft train letters --base latin_letters --level head")


def test_mistakes_and_doubts_stand_beside_their_map_and_the_training_images_most_alike(run: Run) -> None:
    page, found = (run.folder / "report.html").read_text(encoding="utf-8"), values(run.folder)
    shown = [*found["mistakes"], *found["doubtful"]]
    assert shown and all(len(each["nearest"]) == 3 for each in shown)
    assert page.count("where the evidence lies in") == len(shown)
    for each in shown:
        names = [Path(near["name"]) for near in each["nearest"]]
        # The run was given a val of its own: it was trained on train alone.
        assert {path.parts[-3] for path in names} == {"train"}
        likeness = [float(near["lines"][1].removeprefix("likeness ")) for near in each["nearest"]]
        assert likeness == sorted(likeness, reverse=True) and likeness[0] <= 1
        assert [near["lines"][0] for near in each["nearest"]] == [f"labelled {path.parent.name}" for path in names]


def test_swapped_labels_of_one_class_are_named(letters: Path, tmp_path: Path) -> None:
    data = planted(letters, tmp_path)
    for split in ("train", "val", "test"):
        for path in sorted((data / split / LETTERS[0]).iterdir())[::3]:
            path.rename(data / split / LETTERS[1] / f"moved-{path.name}")
    run = trained(data, tmp_path / "run")
    assert f"labels mixed up: {LETTERS[0]} labelled {LETTERS[1]}" in titles(run.folder)
    assert not values(run.folder)["verdict"]["usable"]


def test_mixed_up_labels_are_shown_with_their_own_images_where_splits_have_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    for seed, split in enumerate(("train", "test"), start=7):
        write_letters(data / split, LETTERS, 60, seed)
    for path in sorted((data / "train" / LETTERS[0]).iterdir())[::3]:
        path.rename(data / "train" / LETTERS[1] / f"moved-{path.name}")
    for path in (data / "train" / LETTERS[1]).glob("moved-*"):
        # Another image in another place that is called the same.
        shutil.copy(next((data / "test" / LETTERS[1]).iterdir()), data / "test" / LETTERS[1] / path.name)
    shown: list[tuple[str, int]] = []
    jpeg = Album.jpeg
    monkeypatch.setattr(Album, "jpeg", lambda album, place: shown.append(place) or jpeg(album, place))
    found: list[Alarm] = []

    def noted(material: Material, answers: dict[str, Answers], album: Album) -> list[Alarm]:
        shown.clear()
        found.extend(label_alarms(material, answers, album))
        return found

    monkeypatch.setattr(gathering, "label_alarms", noted)
    where = data / "train", "latin_letters", "head"
    train(*where, test=data / "test", out=tmp_path / "run", quiet=True)
    (alarm,) = found
    images = alarm.images
    assert images and all("moved-" in each.name for each in images)
    assert {split for split, _ in shown[: len(images)]} <= {"train", "val"}


def test_a_leak_near_copies_a_rare_class_and_a_square_in_one_class_are_named(letters: Path, tmp_path: Path) -> None:
    data = planted(letters, tmp_path)
    for letter in LETTERS[:3]:
        for path in sorted((data / "train" / letter).iterdir())[:6]:
            shutil.copy(path, data / "test" / letter / f"leaked-{path.name}")
            with Image.open(path) as image:
                image.resize((40, 40)).save(path.with_name(f"near-{path.name}"))
    for path in sorted((data / "train" / LETTERS[4]).iterdir())[2:]:
        path.unlink()
    for path in (data / "train" / LETTERS[3]).iterdir():
        with Image.open(path) as image:
            image.paste((230, 40, 200), (3, 3, 11, 11)) if image.mode == "RGB" else image.paste(128, (3, 3, 11, 11))
            image.save(path)
    run = trained(data, tmp_path / "run")
    named = {"leak between splits", "near copies", "rare class", "a mark in one class"}
    assert named <= set(titles(run.folder))
    assert all(title in values(run.folder)["verdict"]["sentences"][2] for title in named)


def test_a_dark_subgroup_that_fails_and_over_confidence_are_named(letters: Path, tmp_path: Path) -> None:
    data = planted(letters, tmp_path)
    for path in (path for split in ("val", "test") for path in sorted((data / split).rglob("*.png"))[::6]):
        with Image.open(path) as image:
            image.point(lambda level: round(0.06 * level)).save(path)
    run = trained(data, tmp_path / "run")
    assert titles(run.folder) == ["it fails on the darkest 25%", "over-confidence"]


def test_a_corrupted_test_split_is_named(letters: Path, tmp_path: Path) -> None:
    data, random = planted(letters, tmp_path), np.random.default_rng(0)
    for path in sorted((data / "test").rglob("*.png")):
        with Image.open(path) as image:
            pixels = np.asarray(image, dtype=float)
        Image.fromarray(np.clip(pixels + random.normal(0, 200, pixels.shape), 0, 255).astype(np.uint8)).save(path)
    run = trained(data, tmp_path / "run")
    assert titles(run.folder)[0] == "test is not like the rest"


def test_a_split_with_many_unreadable_files_is_named_once(letters: Path, tmp_path: Path) -> None:
    data = planted(letters, tmp_path)
    for path in sorted((data / "test").rglob("*.png"))[::6]:
        path.write_bytes(b"no image")
    run = trained(data, tmp_path / "run")
    assert "test is damaged" in titles(run.folder) and "unreadable images" not in titles(run.folder)


def test_the_page_is_built_again_and_says_so_where_the_images_are_gone(letters: Path, tmp_path: Path) -> None:
    data = planted(letters, tmp_path)
    folder = trained(data, tmp_path / "run").folder
    before = {name: (folder / name).read_bytes() for name in ("report.html", "report.json")}
    report(folder)
    assert {name: (folder / name).read_bytes() for name in before} == before
    shutil.rmtree(data)
    done = graft("report", folder)
    assert done.returncode == 0 and str(folder / "report.html") in done.stdout
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg" not in page and "have been moved or deleted" in page
    # All but what needs the images.
    kept = json.loads(before["report.json"])
    for each in (*kept["mistakes"], *kept["doubtful"]):
        del each["nearest"]
    assert values(folder) == kept


def test_without_its_images_and_arguments_a_page_is_called_as_its_folder_and_a_bug_is_not_hidden(
    run: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(run.folder, tmp_path / "moved"))
    with (
        patch("graft.workflows.gathering.read_arguments", side_effect=RuntimeError("a bug")),
        patch("graft.workflows.report._images", return_value=(None, ())),
        pytest.raises(RuntimeError, match="a bug"),
    ):
        report(folder)
    (folder / "args.yaml").unlink()
    report(folder)
    assert values(folder)["data"] == "moved"


def test_robustness_is_measured_when_asked_for_and_stays_in_the_run(run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    done = graft("report", folder, "--robustness", "--robustness-time", "1s", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["robustness"]
    assert found["split"] == "test" and 20 <= found["n"] <= run.test.n and len(found["by_corruption"]) >= 11
    report(folder)
    assert values(folder)["robustness"] == found and 'id="robustness"' in (folder / "report.html").read_text()
    with patch("graft.workflows.report._measure_robustness"):
        told = graft("report", folder, "--robustness").stdout
    assert f"corrupted: {found['mean']:.1%} of {found['n']} images" in told and "  noise: " in told
    both = graft("report", folder, folder, "--robustness")
    assert both.returncode == 2 and "expected one run with --robustness" in both.stderr


def test_two_runs_stand_side_by_side(run: Run, letters: Path, tmp_path: Path) -> None:
    other = train(letters, "latin_letters", "stages:1", out=tmp_path / "other", epochs=1, quiet=True)
    done = graft("report", run.folder, other.folder, "--out", tmp_path / "two.html", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["difference"]["n"] == run.test.n
    assert found["difference"]["difference"] == pytest.approx(run.test.top1 - other.test.top1)
    # On the same images, `graft evaluate` says the same, for groups as for single images.
    again = graft("evaluate", run.folder, other.folder, letters, "--split", "test", "--json")
    assert json.loads(again.stdout)["difference"] == found["difference"]
    assert graft("report", run.folder, other.folder, "--out", tmp_path / "two.html").returncode == 2
    smaller = trained(planted_smaller(letters, tmp_path), tmp_path / "smaller")
    page = (tmp_path / "two.html").read_text(encoding="utf-8")
    assert (
        "Images by class and split" in page
        and page.count('</h3><div class="sheet">') == 2
        and "data:image/jpeg" in page
    )
    apart = report(run.folder, smaller.folder, out=tmp_path / "apart.html").to_dict()
    assert apart["difference"] is None and "images in test differ" in apart["reason"]


def test_two_runs_are_compared_over_groups_whichever_of_them_knows_of_any(run: Run) -> None:
    kept = read_answers(run.folder)
    assert kept is not None
    grouped = replace(kept, splits={name: replace(each, groups=each.rows // 4) for name, each in kept.splits.items()})
    found = [_compared(run.folder, one, run.folder, two)[0] for one, two in ((kept, grouped), (grouped, kept))]
    assert found[0] == found[1] and found[0] is not None
    assert found[0].p_value is None and found[0].groups == len(np.unique(kept.splits["test"].rows // 4))


def planted_smaller(letters: Path, tmp_path: Path) -> Path:
    data = planted(letters, tmp_path)
    next((data / "test" / LETTERS[0]).iterdir()).unlink()
    return data


def test_train_ends_with_the_verdict_and_opens_the_page_when_asked(letters: Path, tmp_path: Path) -> None:
    with patch("webbrowser.open", return_value=True) as opened:
        done = graft(
            "train",
            letters,
            "--base",
            "latin_letters",
            "--level",
            "head",
            "--out",
            tmp_path / "run",
            "--open",
            "--quiet",
        )
    assert done.returncode == 0, done.stderr
    for sentence in values(tmp_path / "run")["verdict"]["sentences"]:
        assert sentence in done.stdout
    assert done.stdout.rstrip().endswith(str(tmp_path / "run" / "report.html")) and "\x1b" not in done.stdout
    opened.assert_called_once_with((tmp_path / "run" / "report.html").as_uri())


def test_what_is_no_finished_run_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a finished run"):
        report(tmp_path)
    older = Path(shutil.copytree(run.folder, tmp_path / "older"))
    (older / "answers.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="answers"):
        report(older)


def test_an_edited_file_of_findings_or_robustness_is_as_good_as_none(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    (folder / "audit.json").write_text('{"findings": 5}')
    (folder / "robustness.json").write_text('{"rows": [{"corruption": "noise"}], "by_corruption": {}}')
    assert report(folder).page.is_file()
    assert not values(folder)["findings"] and not values(folder).get("robustness")


def test_slices_of_groups_have_the_names_of_the_groups(letters: Path, tmp_path: Path) -> None:
    rows = ["path,label,split,site"]
    for place in sorted(letters.rglob("*.png")):
        split, label = place.parts[-3:-1]
        rows.append(f"{place},{label},{split},{split} of site {int(place.stem) % 3}")
    (tmp_path / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    found = train(
        DataOptions(tmp_path / "table.csv", group="site"), "latin_letters", "head", out=tmp_path / "run", quiet=True
    )
    for _ in range(2):
        parts = {each["value"] for each in values(found.folder)["slices"] if each["attribute"] == "group"}
        assert parts == {f"test of site {number}" for number in range(3)}
        # The page is made again from what the run keeps.
        report(found.folder)
    names = read_answers(found.folder).group_names
    assert {*names.values()} == {f"{split} of site {number}" for split in ("val", "test") for number in range(3)}


def test_a_run_that_is_resumed_was_begun_by_no_other_job(run: Run) -> None:
    assert folder_of_job("a job", None, run.folder) is None


def test_of_two_classes_as_likely_as_each_other_the_second_is_not_the_answer_again() -> None:
    for probabilities, told in (([0.5, 0.5, 0.0], ("x", "y")), ([0.0, 0.5, 0.5], ("y", "z")), ([0.2, 0.2, 0.6], "zx")):
        label = np.array([int(np.argmax(probabilities))])
        found = Answers(("a.png",), label, np.array([probabilities]), np.ones(1, bool))
        shown = _answered(Album(None), "val", found, 0, ("x", "y", "z"), {})
        assert [line.removeprefix("then ")[0] for line in shown.lines] == list(told)
