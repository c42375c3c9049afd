"""Linear probes by stage, and all that is measured of a base."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from graft.data.loading import batches
from graft.data.opening import open_dataset
from graft.data.splitting import stratified_folds
from graft.errors import DataError
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.images.preprocessing import normalise
from graft.models.catalog import build, default_config
from graft.models.cuts import ALL_STAGES
from graft.models.network import Network
from graft.transfer.evidence import Evidence, gather_evidence, means_by_stage
from graft.transfer.probe import fit_ridge, held_out_answers, probe
from graft.transfer.shift import Shift, domain_shift
from graft.weights.base import load_base


def blobs(per_class: int, classes: int, width: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    return random.normal(size=(len(labels), width)) + apart * random.normal(size=(classes, width))[labels], labels


@pytest.mark.parametrize("width", [8, 400])
def test_separable_classes_are_told_apart_and_random_labels_are_not(width: int) -> None:
    features, labels = blobs(40, 4, width, apart=4)
    shuffled = np.random.default_rng(1).permutation(labels)
    (row,) = probe({"stage1": features}, labels)
    assert row.accuracy == 1 and row.n == 160 and row.ci95[0] > 0.97
    (row,) = probe({"stage1": features}, shuffled)
    assert row.ci95[0] < 0.25 < row.ci95[1]


def test_rows_are_in_the_order_of_the_stages_and_the_same_for_the_same_seed() -> None:
    features, labels = blobs(20, 3, 30, apart=0.5)
    stages = {"stem": features[:, :2], "stage1": features[:, :10], "pool": features.astype(np.float32)}
    rows = probe(stages, labels, seed=3)
    assert [row.stage for row in rows] == ["stem", "stage1", "pool"]
    assert rows == probe(stages, labels, seed=3)
    assert rows != probe(stages, labels, seed=4)
    low, high = rows[0].ci95
    assert low < rows[0].accuracy < high
    assert rows[0].to_dict() == {"stage": "stem", "accuracy": rows[0].accuracy, "ci95": [low, high], "n": 60}


@pytest.mark.parametrize("width", [6, 60])
def test_an_image_is_answered_by_a_classifier_that_has_not_seen_it(width: int) -> None:
    features, labels = blobs(10, 3, width, apart=0.7)
    fold = stratified_folds(labels, 5, seed=0)
    answers = held_out_answers(features, labels, fold)
    for number in range(5):
        kept = fold != number
        weight, bias = fit_ridge(features[kept], np.eye(3)[labels[kept]])
        assert ((features @ weight + bias).argmax(1) == answers)[~kept].all()


@pytest.mark.parametrize("seed", range(8))
def test_the_penalty_has_the_least_error_when_each_image_is_left_out_in_turn(seed: int) -> None:
    features, labels = blobs(4, 2, 5, apart=0.8, seed=seed)
    targets = np.eye(2)[labels]
    centred = features - features.mean(0)
    scale = np.square(centred).sum() / len(centred)

    def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        centre, base = x.mean(0), y.mean(0)
        weight = np.linalg.solve((x - centre).T @ (x - centre) + penalty * np.eye(5), (x - centre).T @ (y - base))
        return weight, base - centre @ weight

    def left_out(penalty: float) -> float:
        error = 0.0
        for row in range(len(features)):
            weight, bias = ridge(np.delete(features, row, 0), np.delete(targets, row, 0), penalty)
            error += float(np.square(features[row] @ weight + bias - targets[row]).sum())
        return error

    best = min((scale * 10**power for power in np.arange(-4, 3.1, 0.5)), key=left_out)
    weight, bias = fit_ridge(features, targets)
    expected, offset = ridge(features, targets, best)
    assert weight == pytest.approx(expected) and bias == pytest.approx(offset)


def test_a_rare_class_is_in_every_training_part_and_a_single_image_is_never_asked() -> None:
    labels = np.array([0] * 20 + [1] * 2 + [2] + [3] * 7)
    fold = stratified_folds(labels, 5, seed=0)
    assert fold[labels == 2].tolist() == [-1]
    for label in (0, 1, 3):
        sizes = np.bincount(fold[labels == label], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    features = np.random.default_rng(0).normal(size=(30, 4))
    (row,) = probe({"pool": features}, labels)
    assert row.n == 29


def test_features_that_say_nothing_give_the_majority_class() -> None:
    labels = np.array([0] * 10 + [1] * 30)
    (row,) = probe({"stem": np.ones((40, 3), np.float32)}, labels)
    assert row.accuracy == 0.75


@pytest.mark.parametrize(("labels", "message"), [([4] * 5, "two classes or more"), ([0, 1, 2], "one of each")])
def test_too_few_images_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        probe({"pool": np.random.default_rng(0).normal(size=(len(labels), 4))}, np.array(labels))


@pytest.mark.parametrize("patients", [2, 3, 4, 5, 8, 20])
def test_a_probe_does_not_recognise_a_patient_it_has_seen(patients: int) -> None:
    accuracies = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        groups = np.repeat(np.arange(patients), 120 // patients)
        # Features that tell the patient and nothing else; the diagnosis is drawn for each patient.
        features = 3 * np.eye(patients)[groups] + 0.1 * random.normal(size=(len(groups), patients))
        diagnosis = random.permutation(np.arange(patients) % 2)
        with suppress(DataError):
            accuracies.append(probe({"pool": features}, diagnosis[groups], seed, groups=groups)[0].accuracy)
    assert patients == 2 or np.mean(accuracies) < 0.65
    assert patients > 2 or not accuracies


def test_images_of_a_class_that_no_other_fold_has_are_not_asked() -> None:
    labels, groups = np.repeat([0, 0, 1, 1, 2], 8), np.repeat([0, 1, 0, 1, 2], 8)
    features = 4 * np.eye(3)[labels]
    (row,) = probe({"pool": features}, labels, groups=groups)
    assert row.n == 32 and row.accuracy == 1


@pytest.mark.parametrize("groups", [np.zeros(20, np.int64), np.arange(20) % 2])
def test_if_each_class_is_in_one_group_nothing_is_measured_and_that_is_noted(groups: np.ndarray) -> None:
    labels, features = np.arange(20) % 2, {"pool": np.random.default_rng(0).normal(size=(20, 4))}
    with pytest.raises(DataError, match="images in two groups or more to probe with, got each class in one group"):
        probe(features, labels, groups=groups)
    found = gather_evidence(Shift((), (), None), features, labels, groups)
    assert found.probe == () and any("in two groups or more" in note for note in found.notes)


def evidence(network: Network, parts: list[torch.Tensor], labels: np.ndarray) -> Evidence:
    """The evidence of batches of normalised images."""
    with torch.inference_mode():
        vectors = torch.cat([network.before_head(ALL_STAGES).eval()(images) for images in parts]).numpy()
    return gather_evidence(domain_shift(network, parts), means_by_stage(network, vectors), labels)


def test_a_network_is_measured_on_its_own_letters() -> None:
    base = load_base("latin_letters")
    drawn, labels = render_letters(LATIN[:6], dejavu_fonts(), 20, 0)
    pixels = torch.from_numpy(np.ascontiguousarray(drawn.transpose(0, 3, 1, 2)))
    order = np.random.default_rng(0).permutation(len(labels))
    parts = [normalise(pixels[rows], base.preprocessing) for rows in np.array_split(order, 4)]
    found = evidence(base.network, parts, labels[order])
    names = [stage.name for stage in base.network.stages[:-1]]
    assert [row.stage for row in found.shift.stages] == names
    assert [row.stage for row in found.probe] == [row.stage for row in found.transferability] == names
    assert found.n == found.probe[0].n == 120
    assert len(found.notes) == 1 and "lenet5 has no batch norm" in found.notes[0]
    assert found.probe[-1].accuracy > 0.95 > 0.8 > found.probe[0].accuracy
    assert found.transferability[-1].logme > found.transferability[0].logme
    assert evidence(base.network, parts, labels[order]) == found


@pytest.mark.parametrize(("name", "size"), [("lenet5", 32), ("mobilenet_v1_025", 64), ("resnet20", 32)])
def test_a_stage_is_probed_on_its_maps_averaged_over_space_and_on_its_vectors_as_they_are(name: str, size: int) -> None:
    network = build(default_config(name)).eval()
    images = torch.randn(3, network.config.channels, size, size)
    with torch.inference_mode():
        vectors, outputs = network.before_head(ALL_STAGES)(images), network.feature_maps(images)
    found = means_by_stage(network, vectors.numpy())
    assert list(found) == list(outputs)
    for stage, maps in outputs.items():
        expected = maps.mean((2, 3)) if maps.ndim == 4 else maps
        np.testing.assert_allclose(found[stage], expected.numpy(), atol=1e-6)


def test_what_cannot_be_measured_is_noted() -> None:
    network = build(default_config("lenet5"))
    found = evidence(network, [torch.randn(3, 1, 32, 32)], np.array([0, 1, 2]))
    assert found.probe == found.transferability == ()
    assert ["batch norm" in found.notes[0], "one of each" in found.notes[1]] == [True, True]


def test_a_network_trained_on_cifar_knows_it_and_not_its_negative(shared: Path) -> None:
    base = load_base(str(shared / "weights" / "resnet20-12fca82f.th"))
    split = open_dataset(shared / "datasets" / "cifar10").splits["test"]
    decoded = list(batches(split, base.preprocessing, 50, order=np.arange(150)))
    parts = [normalise(each.pixels, base.preprocessing) for each in decoded]
    labels = np.concatenate([split.labels[each.indices] for each in decoded])
    found, negative = evidence(base.network, parts, labels), evidence(base.network, [-x for x in parts], labels)
    assert found.notes == () and found.to_dict()["shift"]["mean"] == found.shift.mean
    # Accuracy 0.81 and 0.46 before the head, shift of the last stage 0.014 and 0.031.
    assert found.probe[0].accuracy < 0.4 and found.probe[-1].accuracy > 0.75
    assert negative.probe[-1].ci95[1] < found.probe[-1].ci95[0]
    assert found.shift.mean < 0.05 and negative.shift.stages[3].value > 1.5 * found.shift.stages[3].value
    assert negative.transferability[-1].logme < found.transferability[-1].logme
    assert negative.transferability[-1].h_score < found.transferability[-1].h_score
