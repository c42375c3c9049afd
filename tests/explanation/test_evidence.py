"""Evidence beside answers under a time limit: what is left out, and that free evidence is kept."""

from dataclasses import dataclass

import numpy as np
import pytest
from tests.explanation.models import of_catalogue
from tests.explanation.test_neighbours import painted
from tests.features.trunks import TORCH

from graft.data.dataset import TRAIN, VAL, Dataset
from graft.explanation import evidence
from graft.explanation.evidence import Classifier, Evidence, evidence_of


@dataclass
class Time:
    """A clock that moves on by `seconds` for every four maps, and otherwise stands still."""

    seconds: float
    now: float = 0.0

    def perf_counter(self) -> float:
        return self.now


def found(monkeypatch: pytest.MonkeyPatch, until: float | None, kept: bool = False) -> Evidence:
    """The evidence of eight images, four of which take a second, with 40 images to compare them with."""
    model, clock = of_catalogue("resnet20", 32), Time(1.0)
    made = evidence.exact_maps

    def slowly(*given: object) -> object:
        clock.now += clock.seconds
        return made(*given)

    monkeypatch.setattr(evidence, "exact_maps", slowly)
    monkeypatch.setattr(evidence, "time", clock)
    monkeypatch.setattr(evidence, "is_kept", lambda *given: kept)
    dataset = Dataset("painted", tuple(model.classes), {TRAIN: painted(list(range(40))), VAL: painted(list(range(8)))})
    classifier = Classifier(model, TORCH, refitted=False, until=until)
    return evidence_of(classifier, dataset, VAL, dict.fromkeys(range(8), 0))


def test_with_time_for_all_each_image_has_a_map_and_its_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    for until in (None, 100.0):
        whole = found(monkeypatch, until)
        assert sorted(whole.maps) == sorted(whole.nearest) == list(range(8)) and whole.note is None
        assert all(each.dtype == np.uint8 for each in whole.maps.values())
        assert all(f"painted {row}" not in [one.path for one in each] for row, each in whole.nearest.items())
        assert all(len(each) == 3 for each in whole.nearest.values())


@pytest.mark.parametrize(("until", "maps"), [(-1.0, 0), (0.5, 4), (2.5, 8), (11.9, 8)])
def test_what_there_is_no_time_for_is_left_out_and_said(
    until: float, maps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Comparing 40 images may take as long as 40 maps: ten seconds after the two for the maps.
    some = found(monkeypatch, until)
    assert len(some.maps) == maps and not some.nearest and "graft report" in (some.note or "")


def test_images_whose_features_are_kept_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    some = found(monkeypatch, 2.5, kept=True)
    assert len(some.maps) == len(some.nearest) == 8
