"""The page on recorded trainings is made from them, and its regrets are those computed by hand."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def transfer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transfer_page", DOCS / "transfer.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_recorded_runs_give(transfer: ModuleType) -> None:
    assert transfer.page(transfer.read(transfer.RUNS), transfer.bases()) == transfer.PAGE.read_text(encoding="utf-8")


def test_regret_is_what_a_choice_misses_to_the_best_level_on_average(transfer: ModuleType, tmp_path: Path) -> None:
    rows = []
    for seed, (head, whole) in enumerate(((0.80, 0.70), (0.84, 0.90), (0.82, 0.92))):
        seconds = {"features": 1.0, "training": 3.0}
        common = {"task": "digits 10 resnet20 32", "seed": seed, "images": 80}
        rows.append({**common, "level": "head", "cut": "pool", "test": head, "seconds": seconds})
        rows.append({**common, "level": "all", "cut": "input", "test": whole, "seconds": seconds})
        chosen = "pool" if seed == 0 else "input"
        rows.append({**common, "level": "advice", "chosen": chosen, "textbook": "pool", "scenario": 1, "shift": 0.03,
                     "seconds": {"deciding": 2.0}})  # fmt: skip
    path = tmp_path / "runs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    (outcome,) = transfer.read(path)
    # On average 82 for the head and 84 for all.
    assert outcome.best == "input"
    assert outcome.regret(outcome.textbook) == pytest.approx(2.0)
    assert outcome.regret(outcome.advised) == pytest.approx(2.0 / 3)
    assert (outcome.seconds, outcome.deciding) == (8.0, 2.0)
    path.write_text("\n".join(map(json.dumps, rows[:-1])))
    # A task that is not finished is not shown.
    assert transfer.read(path) == []
