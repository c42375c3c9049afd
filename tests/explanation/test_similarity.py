"""Linear CKA between the stages of two networks."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.explanation.models import of_catalogue
from tests.explanation.test_neighbours import painted

from graft.errors import DataError
from graft.explanation.similarity import compare_stages, linear_cka


def test_a_rotation_and_a_scale_change_nothing_and_unrelated_features_have_nothing_in_common():
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 10)) + 5
    rotation, _ = np.linalg.qr(random.normal(size=(10, 10)))
    assert linear_cka(x, 3 * x @ rotation - 7) == pytest.approx(1)
    # More features than images: the plain estimate would be 0.9.
    unrelated = [linear_cka(random.normal(size=(40, 300)), random.normal(size=(40, 300))) for _ in range(50)]
    assert abs(np.mean(unrelated)) < 0.01
    assert 0.3 < linear_cka(x, x + random.normal(size=x.shape)) < 0.9
    assert linear_cka(x, np.ones((60, 4))) == 0


def test_the_unbiased_estimate_is_that_of_the_paper_written_out():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(9, 4)), random.normal(size=(9, 6))
    y[:, :4] += x

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        n, one = len(a), np.ones(len(a))
        k, other = (z @ z.T * (1 - np.eye(n)) for z in (a, b))
        whole = np.trace(k @ other) + one @ k @ one * (one @ other @ one) / ((n - 1) * (n - 2))
        return float((whole - 2 / (n - 2) * one @ k @ other @ one) / (n * (n - 3)))

    # It does not depend on where the features are centred.
    assert linear_cka(x, y) == pytest.approx(hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y)))


def test_stages_are_alike_up_to_the_one_that_was_trained():
    model = of_catalogue("resnet20", 32)
    tuned = copy.deepcopy(model.network)
    with torch.no_grad():
        for parameter in tuned.layer3.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    found = compare_stages(replace(model, network=tuned), model, painted(list(range(16)), (3,)))
    assert found.n == 15 and found.stages == found.other_stages == ("stem", "stage1", "stage2", "stage3", "pool")
    same = np.diag(found.values)
    assert same[:3] == pytest.approx(1) and (same[3:] < 0.95).all()


def test_networks_with_other_stages_are_compared_all_with_all():
    found = compare_stages(of_catalogue("resnet20", 32), of_catalogue("lenet5", 28), painted(list(range(6))))
    assert found.values.shape == (5, 4) and np.isfinite(found.values).all()


def test_too_few_images_are_refused():
    model = of_catalogue("resnet20", 32)
    with pytest.raises(DataError, match=r"4 images or more .* got 2 images"):
        compare_stages(model, model, painted([0, 1, 2], (2,)))
