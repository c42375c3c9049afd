"""What the doors for scikit-learn and the search cost and bring, beside the command.

    python benchmarks/doors.py folds DATA      ten folds, and a grid of three levels, beside `graft train --level head`
    python benchmarks/doors.py tune DATA       20 trials beside `--level auto`, on a test split that none of them sees

DATA is a folder with `train/` and `val/`. `folds` takes all images; `tune` keeps `val/` for the verdict. Every part has
a cache of its own, so that none finds what another computed. Seconds are of the clock and, as other work on the machine
shows in these, of the processor.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import graft


def labelled(*folders: Path) -> tuple[list[Path], list[str]]:
    paths = [path for folder in folders for path in sorted(folder.glob("*/*")) if path.is_file()]
    return paths, [path.parent.name for path in paths]


def timed(work: Any) -> tuple[dict[str, float], Any]:
    """Time `work`, including the processes that it starts, and return its result too."""
    before, started = os.times(), time.perf_counter()
    found = work()
    spent = [after - earlier for after, earlier in zip(os.times()[:4], before[:4], strict=True)]
    took = {"seconds": time.perf_counter() - started, "processor": sum(spent)}
    print(took, file=sys.stderr, flush=True)
    return took, found


def whole_command(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "graft", *words], check=True, capture_output=True)


def folds(data: Path) -> dict[str, Any]:
    from sklearn.model_selection import GridSearchCV, cross_val_score

    from graft.sklearn import FEATURES, GraftClassifier

    images, labels = labelled(data / "train", data / "val")
    found: dict[str, Any] = {"images": len(images)}
    with tempfile.TemporaryDirectory() as place:
        os.environ["GRAFT_CACHE"] = str(Path(place) / "command")
        table = Path(place) / "all.csv"
        rows = "".join(f"{path.resolve()},{label}\n" for path, label in zip(images, labels, strict=True))
        table.write_text(f"path,label\n{rows}")
        words = ("train", str(table), "--level", "head", "--out", str(Path(place) / "run"))
        found["command"], _ = timed(lambda: whole_command(*words))
        os.environ["GRAFT_CACHE"] = str(Path(place) / "folds")
        found["ten folds"], scores = timed(
            lambda: cross_val_score(GraftClassifier(level="head"), images, labels, cv=10, error_score="raise")
        )
        found["accuracy"] = float(scores.mean())
        passes = FEATURES.computed
        grid = GridSearchCV(GraftClassifier(), {"level": ["head", "head:stages"], "seed": [0, 1]}, cv=3)
        found["grid"], _ = timed(lambda: grid.fit(images, labels))
        found |= {"images in trunk": passes, "more of them for the grid": FEATURES.computed - passes}
    for unit in ("seconds", "processor"):
        found[f"folds / command, {unit}"] = found["ten folds"][unit] / found["command"][unit]
    return found


def tune(data: Path, trials: int, base: str | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        os.environ["GRAFT_CACHE"] = str(Path(place) / "cache")
        images, labels = labelled(data / "train", data / "val")
        held_out = set(labelled(data / "val")[0])
        rows = "".join(
            f"{path.resolve()},{label},{'test' if path in held_out else 'train'}\n"
            for path, label in zip(images, labels, strict=True)
        )
        table = Path(place) / f"{data.name}.csv"
        table.write_text(f"path,label,split\n{rows}")
        chosen = {} if base is None else {"base": base}
        took, found = timed(lambda: graft.tune(table, trials=trials, **chosen, out=Path(place) / "search"))
        return {**took, **found.to_dict()}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("what", choices=("folds", "tune"))
    asked.add_argument("data", type=Path)
    asked.add_argument("--trials", type=int, default=20)
    asked.add_argument("--base", help="of the search; the default of graft without it")
    given = asked.parse_args()
    found = folds(given.data) if given.what == "folds" else tune(given.data, given.trials, given.base)
    print(json.dumps(found, indent=2, default=str))


if __name__ == "__main__":
    main()
