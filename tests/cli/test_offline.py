"""No command but a named download opens a socket or writes outside cache and run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from graft.workflows.demo import write_images

GUARDED = """
import sys
from pathlib import Path

def guard(event, arguments):
    if event.startswith("socket."):
        print("GUARD", event, arguments, file=sys.stderr)

sys.addaudithook(guard)
from graft.cli.app import main
data, few, run = sys.argv[1:]
for words in (
    ["train", data, "--base", "latin_letters", "--level", "stages:1", "--epochs", "1", "--out", run],
    ["predict", run, data],
    ["evaluate", run, data],
    ["audit", data, "--base", "latin_letters"],
    # Without --base, from weights that are installed with graft.
    ["train", few, "--level", "head", "--out", f"{run}_from_default"],
):
    sys.argv = ["graft", *words, "--json", "--quiet"]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
"""


def test_local_files_need_no_network_and_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    write_images(tmp_path / "letters")
    for split in ("train", "test"):
        for folder in sorted((tmp_path / "letters" / split).iterdir()):
            if folder.name not in "АБВЖФ":
                shutil.rmtree(folder)
    for letter in ("Ж", "Ф"):
        shutil.copytree(tmp_path / "letters" / "train" / letter, tmp_path / "few" / letter)
    (tmp_path / "home").mkdir()
    before = sorted((tmp_path / "letters").rglob("*"))
    traced = ["strace", "-f", "--seccomp-bpf", "-e", "trace=socket,connect", "-o", str(tmp_path / "trace")]
    command = [sys.executable, "-c", GUARDED, *(str(tmp_path / name) for name in ("letters", "few", "run"))]
    done = subprocess.run(
        [*(traced if shutil.which("strace") else []), *command],
        env={**os.environ, "HOME": str(tmp_path / "home"), "GRAFT_CACHE": str(tmp_path / "cache")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "GUARD" not in done.stderr
    if (tmp_path / "trace").exists():
        # Asking for the name of a user may look for a local daemon (AF_UNIX), which is no network.
        assert "AF_INET" not in (tmp_path / "trace").read_text()
    assert not list((tmp_path / "home").rglob("*"))
    assert sorted((tmp_path / "letters").rglob("*")) == before
    assert {path.name for path in tmp_path.iterdir()} - {"trace"} == {
        *("letters", "few", "home", "cache"),
        *("run", "run_from_default"),
    }
