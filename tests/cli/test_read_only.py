"""No command writes anything inside DATA: neither names, sizes nor times of anything in it change."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graft.cli.app import app


def times(root: Path) -> dict[str, tuple[int, int, int, int]]:
    """Inode, size and the times of change of everything below a folder, and of itself."""
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


@pytest.fixture(scope="module")
def photographs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photographs of each class and a file that is no image: in a folder, a zip, a tar and a manifest."""
    root = tmp_path_factory.mktemp("data") / "insects"
    for name in ("ants", "bees"):
        (root / "images" / name).mkdir(parents=True)
        for path in sorted((shared / "datasets" / "ants_bees" / "train" / name).glob("*.jpg"))[:10]:
            shutil.copy(path, root / "images" / name)
    (root / "images" / "ants" / "broken.jpg").write_bytes(b"no image")
    for kind in ("zip", "gztar"):
        shutil.make_archive(str(root / "archive"), kind, root / "images")
    rows = [f"images/{path.parent.name}/{path.name},{path.parent.name}" for path in root.glob("images/*/*")]
    (root / "manifest.csv").write_text("\n".join(["path,label", *rows, "images/gone.jpg,ants"]))
    return root


COMMANDS = (
    ("audit", "--no-features", "--out", "{out}/audit.html", "--fix-list", "{out}/kept.csv"),
    ("audit", "--base", "latin_letters"),
    # The race only trains, as the last commands do.
    ("advise", "--base", "latin_letters", "--no-race"),
    ("compare", "--base", "latin_letters", "--levels", "head,stages:1", "--seeds", "1", "--epochs", "1"),
    ("train", "--base", "latin_letters", "--level", "head", "--out", "{out}/run", "--contact-sheet", "{out}/a.png"),
    ("train", "--base", "latin_letters", "--level", "stages:1", "--epochs", "1", "--out", "{out}/run"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:4]))
@pytest.mark.parametrize("source", ["images", "manifest.csv", "archive.zip", "archive.tar.gz"])
def test_a_command_leaves_the_data_as_they_were(
    photographs: Path, source: str, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source.startswith("archive") and "--fix-list" in command:
        command = tuple("--fix-split" if word == "--fix-list" else word for word in command)
    # What is written without being asked for goes to the working folder.
    monkeypatch.chdir(tmp_path)
    before = times(photographs)
    arguments = [word.format(out=tmp_path) for word in command[1:]]
    result = CliRunner().invoke(app, [command[0], str(photographs / source), *arguments, "--quiet"])
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert times(photographs) == before
    if command[0] == "train":
        judged = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), str(photographs / source), "--quiet"])
        assert judged.exit_code == 0, judged.output
        said = CliRunner().invoke(app, ["predict", str(tmp_path / "run"), str(photographs / "images"), "--quiet"])
        assert said.exit_code in (0, 1), said.output
        assert times(photographs) == before


@pytest.mark.parametrize("option", ["--out", "--fix-list"])
def test_nothing_is_written_inside_the_data_even_if_asked(photographs: Path, option: str, tmp_path: Path) -> None:
    before = times(photographs)
    ending = {"--out": "html", "--fix-list": "csv"}[option]
    inside = photographs / "images" / f"new.{ending}"
    arguments = ["audit", str(photographs / "images"), "--no-features", option, str(inside)]
    assert CliRunner().invoke(app, arguments).exit_code != 0
    into = [
        "train",
        str(photographs / "images"),
        "--base",
        "latin_letters",
        "--out",
        str(photographs / "images" / "r"),
    ]
    assert CliRunner().invoke(app, into).exit_code != 0
    link = tmp_path / "link"
    link.symlink_to(photographs / "images")
    through = ["audit", str(photographs / "images"), "--no-features", option, str(link / f"new.{ending}")]
    assert CliRunner().invoke(app, through).exit_code != 0
    assert times(photographs) == before
