"""What the page of a run that gives images several labels says, and what it does not."""

import numpy as np
import pytest

from graft.evaluation.label_scores import score_labels
from graft.evaluation.report.label_page import LabelReport, render_label_report


def measured(images: int, sure: float = 1.0):
    random = np.random.default_rng(0)
    matrix = (random.random((images, 3)) < 0.4).astype(int)
    probabilities = 1 / (1 + np.exp(-sure * (2 * matrix - 1) - random.normal(size=matrix.shape)))
    return score_labels(probabilities, matrix, ("a", "b", "c"), np.full(3, 0.5))


def report(optimistic: tuple[str, ...], **splits) -> LabelReport:
    return LabelReport("mosaics", "net", "head", "pool", splits, optimistic, (), (), (), (), ())


@pytest.mark.parametrize("optimistic", [(), ("test",)])
def test_the_verdict_rests_on_the_first_split_that_counts_no_copies_of_training_images(optimistic) -> None:
    made = report(optimistic, test=measured(50, 9.0), val=measured(60))
    name = "val" if optimistic else "test"
    assert made.sentences[0].startswith(f"Mean average precision on {name} is ")
    page = render_label_report(made)
    # The table has both, and says which one is optimistic.
    assert page.count("the worst first") >= 2 and ("test, counting copies" in page) == bool(optimistic)


def test_figures_that_all_count_copies_measure_nothing() -> None:
    made = report(("test", "val"), test=measured(50, 9.0), val=measured(60, 9.0))
    assert made.sentences == ("Nothing was measured: too few images have no copy among those trained on.",)
    assert made.to_dict()["optimistic"] == ["test", "val"]
