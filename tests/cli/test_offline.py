"""No command but a named download opens a socket or writes outside cache and run."""

import shutil
from pathlib import Path

from offline import run_offline

from graft.workflows.demo import write_images


def test_local_files_need_no_network_and_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    write_images(tmp_path / "letters")
    for split in ("train", "test"):
        for folder in sorted((tmp_path / "letters" / split).iterdir()):
            if folder.name not in "АБВЖФ":
                shutil.rmtree(folder)
    for letter in ("Ж", "Ф"):
        shutil.copytree(tmp_path / "letters" / "train" / letter, tmp_path / "few" / letter)
    before = sorted((tmp_path / "letters").rglob("*"))
    data, few, run = (str(tmp_path / name) for name in ("letters", "few", "run"))
    commands = (
        ["train", data, "--base", "latin_letters", "--level", "stages:1", "--epochs", "1", "--out", run],
        ["predict", run, data],
        ["evaluate", run, data],
        ["audit", data, "--base", "latin_letters"],
        # Without --base, from weights that are installed with graft.
        ["train", few, "--level", "head", "--out", f"{run}_from_default"],
    )
    run_offline([[*words, "--json", "--quiet"] for words in commands], tmp_path)
    assert sorted((tmp_path / "letters").rglob("*")) == before
    assert {path.name for path in tmp_path.iterdir()} == {
        *("letters", "few", "home", "cache"),
        *("run", "run_from_default"),
    }
