"""Mixup and CutMix: inputs and targets mixed by one and the same share, drawn from a generator."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from graft.errors import InputError
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.images.mixing import cutmix, mixup

CLASSES = 8


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def letters() -> tuple[torch.Tensor, torch.Tensor]:
    """Images float32 (16, 1, 32, 32), two of each class, and labels; no two images share a value at a pixel."""
    pixels, labels = render_letters(LATIN[:CLASSES], dejavu_fonts(), 2, seed=0)
    noise = torch.rand((16, 1, 32, 32), generator=seeded(0))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() + noise, torch.from_numpy(labels)


def drawn(labels: torch.Tensor, targets: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The share kept and the partners, read from the targets alone: distinct labels, so each image is its class."""
    assert len(labels.unique()) == len(labels), "needs a class for every example"
    kept = float(targets[torch.arange(len(labels)), labels].min())
    others = targets.clone()
    others[torch.arange(len(labels)), labels] -= kept
    return kept, others.argmax(1)


@pytest.mark.parametrize("shape", [(6, 3, 5, 7), (6, 11), (6, 2, 3)])
@pytest.mark.parametrize("seed", range(5))
def test_mixup_is_the_convex_combination_that_its_targets_tell(shape: tuple[int, ...], seed: int) -> None:
    inputs, labels = torch.randn(shape, generator=seeded(9)), torch.arange(6)
    mixed, targets = mixup(inputs, labels, 6, 0.8, seeded(seed))
    kept, partners = drawn(labels, targets)
    assert 0 <= kept <= 1 and sorted(partners.tolist()) == list(range(6))
    weight = torch.full((6, *[1] * (len(shape) - 1)), kept)
    assert torch.allclose(mixed, weight * inputs + (1 - weight) * inputs[partners], atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_tells_the_area_that_it_pasted(letters: tuple[torch.Tensor, torch.Tensor], seed: int) -> None:
    inputs, labels = letters[0][::2], letters[1][::2]
    before = inputs.clone()
    mixed, targets = cutmix(inputs, labels, CLASSES, 1.0, seeded(seed))
    kept, partners = drawn(labels, targets)
    pasted = (mixed != inputs).any(1)
    moved = partners != torch.arange(len(labels))
    assert moved.any()
    for example in torch.nonzero(moved).flatten():
        assert float(pasted[example].float().mean()) == pytest.approx(1 - kept, abs=1e-6)
        assert torch.equal(mixed[example, :, pasted[example]], inputs[partners[example], :, pasted[example]])
        if pasted[example].any():
            rows, columns = torch.nonzero(pasted[example]).T
            area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            assert area == pasted[example].sum()
    assert torch.equal(mixed[~moved], inputs[~moved]) and torch.equal(inputs, before)


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_targets_are_probabilities_that_a_loss_takes(mix, letters: tuple[torch.Tensor, torch.Tensor]) -> None:
    inputs, labels = letters
    for seed in range(10):
        mixed, targets = mix(inputs, labels, CLASSES, 0.4, seeded(seed))
        assert mixed.shape == inputs.shape and mixed.dtype == inputs.dtype
        assert targets.dtype == torch.float32 and targets.shape == (16, CLASSES) and targets.min() >= 0
        assert torch.allclose(targets.sum(1), torch.ones(16))
        assert F.cross_entropy(torch.zeros(16, CLASSES), targets).item() == pytest.approx(np.log(CLASSES), rel=1e-5)


def test_two_of_one_class_keep_their_class() -> None:
    _, targets = mixup(torch.randn(4, 3), torch.full((4,), 2), 5, 1.0, seeded(0))
    assert torch.allclose(targets, F.one_hot(torch.full((4,), 2), 5).float())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_follow_their_beta_distribution(alpha: float) -> None:
    generator, inputs, labels = seeded(0), torch.eye(2), torch.arange(2)
    targets = [mixup(inputs, labels, 2, alpha, generator)[1][0, 0].item() for _ in range(1500)]
    # Where an example met itself its target is 1; the variance of Beta(a, a) is 1 / (4 (2a + 1)).
    shares = [share for share in targets if share < 1 - 1e-7]
    assert 600 < len(shares) < 900 and np.mean(shares) == pytest.approx(0.5, abs=0.05)
    if alpha >= 1:
        assert np.var(shares) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.12)


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_the_generator_decides_and_nothing_else(mix, letters: tuple[torch.Tensor, torch.Tensor]) -> None:
    inputs, labels = letters
    torch.manual_seed(0)
    first = mix(inputs, labels, CLASSES, 1.0, seeded(4))
    torch.manual_seed(1)
    again, other = mix(inputs, labels, CLASSES, 1.0, seeded(4)), mix(inputs, labels, CLASSES, 1.0, seeded(5))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_no_alpha_and_no_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected an alpha above zero .* got 0"):
        mixup(torch.randn(2, 3), torch.arange(2), 2, 0, seeded(0))
    with pytest.raises(InputError, match=r"shape \(N, C, H, W\) for CutMix, got \(2, 3\)"):
        cutmix(torch.randn(2, 3), torch.arange(2), 2, 1.0, seeded(0))


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_images_on_a_device_are_mixed_with_labels_on_the_cpu(mix) -> None:
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    _, expected = mix(images, labels, 3, 0.4, torch.Generator().manual_seed(1))
    there, targets = mix(images.to("meta"), labels, 3, 0.4, torch.Generator().manual_seed(1))
    assert there.device.type == "meta" and there.shape == images.shape
    assert torch.equal(targets, expected)
