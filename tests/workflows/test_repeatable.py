"""One command, run twice on one machine, writes the same model to the byte."""

import os
import subprocess
import sys
from pathlib import Path

from written_letters import write_letters

from graft.images.letters import CYRILLIC


def test_two_processes_with_other_hash_seeds_write_the_same_bytes(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:4], 8)
    for number in ("1", "2"):
        command = [sys.executable, "-m", "graft", "train", str(data), "--base", "latin_letters", "--level", "stages:2"]
        # Each computes everything itself.
        environment = {**os.environ, "PYTHONHASHSEED": number, "GRAFT_CACHE": str(tmp_path / f"cache{number}")}
        options = ["--epochs", "2", "--augment", "light", "--quiet", "--deterministic", "--out", str(tmp_path / number)]
        subprocess.run([*command, *options], env=environment, check=True, capture_output=True)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name / "model").iterdir()} for name in "12")
    assert one == two and len(one) == 6
    for name in ("split.csv", "plan.json", "args.yaml"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name
