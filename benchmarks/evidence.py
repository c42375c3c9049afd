"""Checks by simulation that graft's statistics keep their promises: python benchmarks/evidence.py

Intervals cover 95 %, a test errs in 5 %, conformal sets hold the right class, error budgets are kept, few slices are
flagged by chance, and a temperature corrects over-confident answers. Each line is a simulation whose truth is known. It
needs no data and takes about three minutes on one core.

    python benchmarks/evidence.py temperature RUN...

reports what the temperature does to the calibration error of existing runs: as they are, and each made over-confident
by dividing the temperature of its logits by four. The temperature is fitted on val and measured on test; without a test
split, it is fitted on one half of val and measured on the other, over 20 random halvings. Beside it stands the error
that perfectly calibrated answers would have on the same number of images. The last line has the means over all runs
with a test split, since one draw of two hundred images says little.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from graft.evaluation.calibration import fit_temperature, softmax
from graft.evaluation.conformal import class_thresholds, set_threshold
from graft.evaluation.error_budget import find_threshold, images_needed
from graft.evaluation.intervals import effective_count, f1_interval, mean_interval, wilson_interval
from graft.evaluation.mcnemar import compare_answers, mcnemar
from graft.evaluation.reliability import expected_calibration_error
from graft.evaluation.scores import score
from graft.evaluation.slices import compare_slices, ends_of, parts_by
from graft.workflows.kept_answers import KeptAnswers, read_answers

TIMES, SLICED = 2000, 300
# For `temperature`: how much sharper the answers are made, halvings of val, simulations of calibrated answers.
SHARPENED, HALVINGS, DRAWN = 4, 20, 200


def main() -> None:
    random = np.random.default_rng(0)
    if sys.argv[1:2] == ["temperature"]:
        for folder in map(Path, sys.argv[2:]):
            print(f"{folder.name}: {temperature_of(folder, random)}")
        rows = [row for folder in map(Path, sys.argv[2:]) for row in _of_test(read_answers(folder))]
        if rows:
            print(f"{len(rows)} runs, {_lowered('as trained', rows, random)}")
        return
    for part in (intervals, mcnemars, conformal_sets, budgets, slices):
        print(f"\n{part.__doc__}")
        part(random)


def intervals(random: np.random.Generator) -> None:
    """coverage of 95 % intervals"""
    rates = [(count, rate) for count in (20, 50, 150, 1000) for rate in (0.5, 0.7, 0.9, 0.95, 0.98)]
    covered = [_covered(random.binomial(count, rate, 20_000), count, rate) for count, rate in rates]
    print(
        f"Wilson, mean over {len(rates)} of n and accuracy: {np.mean(covered):.1%} (each {min(covered):.1%} and more)"
    )
    for groups, each in ((12, 10), (30, 6), (100, 5)):
        found = [_group_covered(random, groups, each) for _ in range(TIMES)]
        print(f"accuracy of {groups} groups of {each}: {np.mean(found):.1%}")
    for name, column in (("balanced accuracy", 0), ("macro F1", 1)):
        for count in (60, 300):
            found = [_means_covered(random, count)[column] for _ in range(400)]
            print(f"{name} of 3 unequal classes, {count} images: {np.mean(found):.1%}")
    for classes, count, rate in ((3, 60, 0.9), (5, 300, 0.9), (10, 300, 0.9), (20, 300, 0.8), (10, 60, 0.9)):
        found = [_mean_covered(random, classes, count, rate) for _ in range(TIMES)]
        print(f"balanced accuracy of {classes} equal classes, {count} images, {rate:.0%} right: {np.mean(found):.1%}")
    found = [_f1_covered(random, 200) for _ in range(TIMES)]
    print(f"F1 of a class, 200 images: {np.mean(found):.1%}")
    for count, agreeing in ((50, 0.8), (200, 0.9), (1000, 0.97)):
        found = [_difference_covered(random, count, agreeing) for _ in range(TIMES)]
        print(f"difference of two classifiers, {count} images: {np.mean(found):.1%}")


def mcnemars(random: np.random.Generator) -> None:
    """McNemar's exact test at 5 % where both classifiers are as good: how often it finds a difference"""
    for count, differing in ((50, 0.2), (200, 0.1), (1000, 0.05), (10_000, 0.02)):
        unequal = random.binomial(count, differing, 20_000)
        first = random.binomial(unequal, 0.5)
        found = np.mean([mcnemar(int(a), int(b - a)) <= 0.05 for a, b in zip(first, unequal, strict=True)])
        print(f"{count} images, of which {differing:.0%} are answered differently: {found:.2%}")


def conformal_sets(random: np.random.Generator) -> None:
    """conformal sets, 1,000 splits each: mean coverage, and the bounds of theory"""
    for count in (50, 200, 1000):
        for coverage in (0.8, 0.9, 0.95):
            found = []
            for _ in range(1000):
                scores = random.beta(3, 1, count + 500)
                found.append((scores[count:] >= set_threshold(scores[:count], coverage)).mean())
            deviation = np.std(found) / np.sqrt(1000)
            bounds = f"{coverage:.1%} to {coverage + 1 / (count + 1):.1%}"
            print(f"{count} images, {coverage:.0%}: {np.mean(found):.2%} ± {1.96 * deviation:.2%} ({bounds})")
    covered = np.zeros(4)
    for _ in range(1000):
        labels = random.permutation(np.arange(700) % 4)
        scores = random.beta(1 + labels, 1)
        thresholds = class_thresholds(scores[:200], labels[:200], 4, 0.9)
        held = scores[200:] >= thresholds[labels[200:]]
        covered += np.array([held[labels[200:] == index].mean() for index in range(4)]) / 1000
    print(f"per class, 50 images each, 90%: {', '.join(f'{each:.2%}' for each in covered)}")


def budgets(random: np.random.Generator) -> None:
    """error budgets, with 95 % confidence: broken in, answered of those that could be, not reachable"""
    risks: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "calibrated": lambda confidence: 1 - confidence,
        "over-confident": lambda confidence: np.minimum(2.5 * (1 - confidence) + 0.005, 1),
        "some sure errors": lambda confidence: np.maximum(1 - confidence, 0.01),
        "errors at the top": lambda confidence: np.where(confidence > 0.99, 0.03, 1 - confidence),
        "waves": lambda confidence: np.clip((1 - confidence) * (1 + 0.9 * np.sin(60 * confidence)), 0, 1),
    }
    for name, risk in risks.items():
        for count, budget in ((250, 0.02), (250, 0.05), (1000, 0.02), (4000, 0.02), (4000, 0.01)):
            # The risk above any threshold, from a sample large enough to make its error negligible.
            reference = np.sort(random.beta(6, 0.6, 200_000))
            above = np.cumsum(risk(reference)[::-1])[::-1] / np.arange(len(reference), 0, -1)
            possible = (above <= budget).mean()
            broken, answered, reached = 0, [], 0
            for _ in range(TIMES):
                confidences = random.beta(6, 0.6, count)
                found = find_threshold(confidences, random.random(count) >= risk(confidences), budget)
                if found.at is not None:
                    place = min(np.searchsorted(reference, found.at), len(reference) - 1)
                    broken += above[place] > budget
                    answered.append(1 - place / len(reference))
                    reached += 1
            share = f"{np.mean(answered):.0%}" if answered else "none"
            print(
                f"{name}, {count} images, {budget:.0%}: broken in {broken / TIMES:.1%}, answered {share} of "
                f"{possible:.0%}, not reachable in {1 - reached / TIMES:.0%}"
            )
    print(f"least images for 2 %: {images_needed(0.02)}, for 5 %: {images_needed(0.05)}")


def slices(random: np.random.Generator) -> None:
    """slices, classes of unequal difficulty: how often any is flagged by chance, and a dark tenth that fails"""
    for count in (150, 1000):
        flagged = found = 0
        for _ in range(SLICED):
            labels = random.integers(0, 5, count)
            # Hard classes are dark too.
            measures = [random.normal(size=count) - labels, random.normal(size=count), random.normal(size=count)]
            right = random.random(count) < np.array([0.98, 0.95, 0.9, 0.85, 0.6])[labels]
            parts = parts_by("folder", [str(row % 8) for row in range(count)])
            for number, values in enumerate(measures):
                parts |= ends_of(str(number), ("lowest", "highest"), values)
            flagged += any(each.flagged for each in compare_slices(right, labels, parts))
            dark = measures[1] <= np.quantile(measures[1], 0.1)
            failing = right & ~(dark & (random.random(count) < 0.5))
            found += any(each.flagged and each.attribute == "1" for each in compare_slices(failing, labels, parts))
        rates = f"by chance {flagged / SLICED:.1%}, half of a dark tenth wrong {found / SLICED:.0%}"
        print(f"{count} images, 20 parts: {rates}")


def temperature_of(folder: Path, random: np.random.Generator) -> str:
    """What the run's temperature does on test, if it has one, and what one fitted to over-confident logits does."""
    kept = read_answers(folder)
    if kept is None:
        return "no run of this version of graft"
    parts = {name: (each.logits[each.unseen], each.labels[each.unseen]) for name, each in kept.splits.items()}
    logits, labels = parts.get("test") or parts["val"]
    said = [f"{len(labels)} images, temperature {kept.temperature:.2f}"]
    if "test" in parts:
        said.append(_lowered("as trained", _of_test(kept), random))
    of_val, labels_of_val = parts["val"]
    rows = []
    for _ in range(1 if "test" in parts else HALVINGS):
        measured = np.arange(len(labels))
        if "test" not in parts:
            order = random.permutation(len(labels))
            of_val, labels_of_val, measured = logits[order[::2]], labels[order[::2]], order[1::2]
        sharp = SHARPENED / kept.temperature
        rows.append((logits[measured] * sharp, labels[measured], fit_temperature(of_val * sharp, labels_of_val)))
    said.append(_lowered("made over-confident", rows, random))
    return "; ".join(said)


def _of_test(kept: KeptAnswers | None) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Logits and labels of the test images that the run was not trained on, and its temperature."""
    test = None if kept is None else kept.splits.get("test")
    return [] if test is None else [(test.logits[test.unseen], test.labels[test.unseen], kept.temperature)]


def _lowered(what: str, rows: list[tuple[np.ndarray, np.ndarray, float]], random: np.random.Generator) -> str:
    """ECE of logits and labels without and with a temperature, and the ECE of perfectly calibrated answers."""
    before, after, floor = [], [], []
    for logits, labels, temperature in rows:
        stated = softmax(logits, temperature)
        before.append(expected_calibration_error(softmax(logits), labels))
        after.append(expected_calibration_error(stated, labels))
        for _ in range(max(1, DRAWN // len(rows))):
            drawn = (stated.cumsum(1) < random.random((len(labels), 1))).sum(1).clip(max=stated.shape[1] - 1)
            floor.append(expected_calibration_error(stated, drawn))
    one, other, least = (float(np.mean(each)) for each in (before, after, floor))
    return f"{what} ECE {one:.3f} to {other:.3f}, lowered by {1 - other / one:.0%} (by chance alone {least:.3f})"


def _covered(right: np.ndarray, count: int, rate: float) -> float:
    ends = np.array([wilson_interval(each, count) for each in range(count + 1)])
    return float(((ends[right, 0] <= rate) & (rate <= ends[right, 1])).mean())


def _group_covered(random: np.random.Generator, groups: int, each: int) -> bool:
    right = random.random(groups * each) < np.repeat(random.beta(8, 2, groups), each)
    worth = effective_count(right, np.repeat(np.arange(groups), each))
    low, high = wilson_interval(right.mean() * worth, worth)
    return bool(low <= 0.8 <= high)


# Probability of each answer given the class, and the share of each class.
ANSWERS, SHARES = np.array([[0.9, 0.08, 0.02], [0.15, 0.8, 0.05], [0.1, 0.2, 0.7]]), np.array([0.6, 0.3, 0.1])


def _drawn(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = random.choice(3, count, p=SHARES)
    return labels, (random.random(count)[:, None] > np.cumsum(ANSWERS, 1)[labels]).sum(1)


def _true_f1() -> np.ndarray:
    joint = SHARES[:, None] * ANSWERS
    return 2 * np.diag(joint) / (joint.sum(0) + joint.sum(1))


def _means_covered(random: np.random.Generator, count: int) -> tuple[bool, bool]:
    labels, answers = _drawn(random, count)
    found = score(np.eye(3)[answers], labels, ("a", "b", "c"))
    (low, high), (least, most) = found.balanced_accuracy_ci95, found.macro_f1_ci95
    return low <= np.diag(ANSWERS).mean() <= high, least <= _true_f1().mean() <= most


def _mean_covered(random: np.random.Generator, classes: int, count: int, rate: float) -> bool:
    counts = random.multinomial(count, np.full(classes, 1 / classes))
    counts = counts[counts > 0]
    low, high = mean_interval(random.binomial(counts, rate).tolist(), counts.tolist())
    return bool(low <= rate <= high)


def _f1_covered(random: np.random.Generator, count: int) -> bool:
    labels, answers = _drawn(random, count)
    both = int(((labels == 1) & (answers == 1)).sum())
    low, high = f1_interval(both, int(((labels == 1) | (answers == 1)).sum()))
    return bool(low <= _true_f1()[1] <= high)


def _difference_covered(random: np.random.Generator, count: int, agreeing: float) -> bool:
    case = random.choice(4, count, p=[agreeing - 0.02, 0.7 * (1 - agreeing), 0.3 * (1 - agreeing), 0.02])
    low, high = compare_answers((case == 0) | (case == 1), (case == 0) | (case == 2)).ci95
    return bool(low <= 0.4 * (1 - agreeing) <= high)


if __name__ == "__main__":
    main()
