"""What the verdict warns of, and what it does not."""

from dataclasses import replace

import numpy as np
import pytest
from made import report

from graft.evaluation.accuracy import Expected
from graft.evaluation.answers import Answers, most_doubtful, worst_mistakes, worst_pairs
from graft.evaluation.intervals import effective_count, hypergeometric_tail
from graft.evaluation.report.alarms import (
    audit_alarms,
    class_alarms,
    contradictions,
    is_miscalibrated,
    slice_alarms,
    split_alarms,
    two_rates,
)
from graft.evaluation.report.values import Alarm, Finding, Split, Trust
from graft.evaluation.report.verdict import decide
from graft.evaluation.scores import score
from graft.evaluation.slices import compare_slices, ends_of


def answers(labels: np.ndarray, probabilities: np.ndarray) -> Answers:
    names = tuple(map(str, range(len(labels))))
    return Answers(names, labels, probabilities, np.ones(len(labels), bool))


def drawn(seed: int, swapped: float = 0.0, classes: int = 4, images: int = 400, sure: float = 3.0) -> Answers:
    """Calibrated answers, and labels of which a share of class 0 is then relabelled as 1."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(images, classes)) * sure
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (probabilities.cumsum(1) > random.random((images, 1))).argmax(1)
    mixed = (labels == 0) & (random.random(images) < swapped)
    return answers(np.where(mixed, 1, labels), probabilities)


def test_labels_that_were_mixed_up_are_told_from_images_that_are_hard() -> None:
    for sure in (0.7, 1.5, 3.0):
        assert not [found for seed in range(30) for found in contradictions(drawn(seed, sure=sure))]
    found = [list(contradictions(drawn(seed, swapped=0.3))) for seed in range(20)]
    assert sum(bool(each) for each in found) >= 16
    assert {(each.label, each.answer) for several in found for each in several} == {(1, 0)}


def test_a_classifier_that_hardly_knows_the_classes_says_nothing_of_their_labels() -> None:
    # All labels are right, and the images are as hard as the answers say.
    for classes, images, sure in ((2, 60, 0.3), (2, 400, 0.3), (3, 60, 0.5), (2, 60, 2.0)):
        said = [list(contradictions(drawn(seed, classes=classes, images=images, sure=sure))) for seed in range(40)]
        assert sum(bool(each) for each in said) <= 3, (classes, images, sure)
    # One of eleven images is of a class that is never answered.
    random = np.random.default_rng(0)
    rare = np.linspace(0.05, 0.15, 66)
    unanswered = answers(
        (np.arange(66) % 11 == 0).astype(int), np.column_stack([1 - rare, rare])[random.permutation(66)]
    )
    assert not list(contradictions(unanswered))
    # Trained with balanced classes, it answers the rare one as often as the other.
    balanced = np.column_stack([1 - 6 * (rare - 0.02), 6 * (rare - 0.02)])[random.permutation(66)]
    assert not list(contradictions(answers(unanswered.labels, balanced)))


def test_classes_that_look_alike_are_not_said_to_be_mixed_up() -> None:
    # Two of four classes are taken for each other, each one time in six, however sure the answer is.
    alarms = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        labels = np.arange(200) % 4
        looks = np.where((labels < 2) & (random.random(200) < 1 / 6), 1 - labels, labels)
        confidences = random.uniform(0.6, 1, 200)
        probabilities, rows = np.zeros((200, 4)), np.arange(200)
        probabilities[rows, looks], probabilities[rows, looks ^ 1] = confidences, 1 - confidences
        alarms += bool(list(contradictions(answers(labels, probabilities))))
    assert alarms <= 3


def test_labels_that_were_mixed_up_are_found_where_the_classifier_has_learned_them() -> None:
    found = 0
    for seed in range(20):
        true = drawn(seed, swapped=0.3, classes=2, images=200, sure=6.0)
        # In folds it sees three of ten images of class 0 called 1, and states as much.
        learned = np.column_stack([0.7 * true.probabilities[:, 0], 1 - 0.7 * true.probabilities[:, 0]])
        found += [(each.label, each.answer) for each in contradictions(answers(true.labels, learned))] == [(1, 0)]
    assert found >= 16


def test_stated_probabilities_that_are_far_off_are_told_and_calibrated_ones_are_not() -> None:
    random = np.random.default_rng(0)
    confidences = random.uniform(0.5, 1, 500)
    right = random.random((1000, 500)) < confidences
    assert np.mean([is_miscalibrated(confidences, each) for each in right]) <= 0.01
    assert is_miscalibrated(np.minimum(confidences + 0.15, 1), right[0])
    # One wrong answer in a dozen proves nothing, however confident they were.
    assert not is_miscalibrated(np.full(12, 0.995), np.arange(12) > 0)
    # Images that are groups of their own are judged by the exact distribution, like images without groups.
    sure, one_wrong = np.full(40, 0.9995), np.arange(40) > 0
    assert effective_count(one_wrong, np.arange(40)) == 40
    assert is_miscalibrated(sure, one_wrong, np.arange(40)) == is_miscalibrated(sure, one_wrong)


def test_of_few_images_it_is_not_said_what_probabilities_mean() -> None:
    made, labels = report(), np.arange(24) % 3
    half = score(np.eye(3)[labels * (np.arange(24) < 12)], labels, made.classes)
    made = replace(made, splits=(Split("val", half),))
    said = decide(made, []).sentences[3]
    assert said.startswith("There are too few images to judge its probabilities") and "95 % interval" in said


def test_probabilities_a_point_off_mean_what_they_say_where_many_images_tell() -> None:
    made, labels = report(), np.arange(6000) % 3
    scores = score(np.eye(3)[np.where(np.arange(6000) % 10, labels, (labels + 1) % 3)], labels, made.classes)
    assert scores.top1 == pytest.approx(0.9)
    near, off = (
        decide(replace(made, splits=(Split("test", scores),), trust=Trust(stated, 0.9, False)), []).sentences[3]
        for stated in (0.89, 0.875)
    )
    assert near.startswith("Its probabilities can be trusted") and off.startswith("Its probabilities may be too low")


def test_the_chance_of_so_few_is_the_hypergeometric_one() -> None:
    from scipy.stats import hypergeom

    random = np.random.default_rng(0)
    for _ in range(200):
        count = int(random.integers(1, 300))
        successes, number = (int(random.integers(0, count + 1)) for _ in range(2))
        right = int(random.integers(0, number + 1))
        expected = hypergeom.cdf(right, count, successes, number)
        assert hypergeometric_tail(right, count, successes, number) == pytest.approx(expected, abs=1e-9)
    assert two_rates(50, 100, 90, 100) < 1e-6 < two_rates(88, 100, 90, 100)


def test_a_split_that_is_unlike_the_rest_is_told_and_one_that_differs_by_chance_is_not() -> None:
    good = drawn(1)
    bad = answers(np.roll(good.labels, 7), good.probabilities)
    one, other = (
        Split(name, score(each.probabilities, each.labels, tuple("abcd")))
        for name, each in (("test", bad), ("val", good))
    )
    assert [each.title for each in split_alarms(one, other)] == ["test is not like the rest"]
    assert not list(split_alarms(other, other)) and not list(split_alarms(None, other))


def test_a_split_with_other_class_shares_is_not_blamed_for_what_a_rare_class_costs() -> None:
    """A class that is one in seventeen in val and half of test, and recognised in one of six images."""

    def split(name: str, common: int, rare: int, known: float) -> Split:
        labels = np.repeat([0, 1], [common, rare])
        right = np.concatenate([np.arange(common) >= 0.01 * common, np.arange(rare) < known * rare])
        answered = np.where(right, labels, 1 - labels)
        probabilities = np.full((len(labels), 2), 0.1)
        probabilities[np.arange(len(labels)), answered] = 0.9
        return Split(name, score(probabilities, labels, ("car", "truck")))

    val, test = split("val", 160, 10, 0.15), split("test", 150, 150, 0.15)
    (alarm,) = split_alarms(test, val)
    assert (alarm.kind, alarm.severity) == ("class_shares_differ", "warning")
    assert (
        f"it would be {(160 * 148 + 10 * 23) / (170 * 150):.1%}" in alarm.sentence
        and "`--class-weights balanced`" in alarm.sentence
    )
    # The common class fails, too: no share explains that.
    damaged = split("test", 150, 150, 0.15)
    labels = np.repeat([0, 1], [150, 150])
    probabilities = np.full((300, 2), 0.5) + np.random.default_rng(0).normal(0, 0.1, (300, 2))
    damaged = replace(damaged, scores=score(probabilities, labels, ("car", "truck")))
    assert [each.kind for each in split_alarms(damaged, val)] == ["split_differs"]


def test_neither_splits_nor_probabilities_are_blamed_for_what_groups_differ_by() -> None:
    random, groups, blamed = np.random.default_rng(0), np.repeat(np.arange(10), 80), np.zeros((2, 2))
    labels = np.arange(800) % 4
    for _ in range(60):
        right = [random.random(800) < random.beta(4, 1, 10)[groups] for _ in range(2)]
        for which, of in enumerate((None, groups)):
            one, other = (
                Split(name, score(np.eye(4)[(labels + ~each) % 4], labels, tuple("abcd"), of))
                for name, each in zip(("test", "val"), right, strict=True)
            )
            blamed[which] += (
                len(list(split_alarms(one, other))),
                is_miscalibrated(random.uniform(0.7, 0.9, 800), right[0], of),
            )
    assert (blamed[0] > 5).all() and (blamed[1] <= 1).all()


def test_a_slice_is_flagged_for_failing_and_not_for_holding_a_hard_class() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 400)
    values = random.random(400) - (labels == 0)
    # Class 0 is dark and hard; nothing else goes with brightness.
    right = random.random(400) < np.where(labels == 0, 0.4, 0.95)
    ends = ends_of("brightness", ("darkest", "lightest"), values)
    assert not any(each.flagged for each in compare_slices(right, labels, ends))
    right &= ~((values < np.quantile(values, 0.1)) & (random.random(400) < 0.9))
    flagged = [each.name for each in compare_slices(right, labels, ends) if each.flagged]
    assert flagged == ["the darkest 10%"]
    assert ends_of("size", ("smallest", "largest"), np.full(400, 32.0)) == {}


def test_an_end_of_a_measure_has_all_images_of_a_value_or_none() -> None:
    random = np.random.default_rng(0)
    for kinds in (2, 3, 10, 40, 1000):
        values = random.integers(0, kinds, 400).astype(float)
        for (_, name), rows in ends_of("size", ("smallest", "largest"), values).items():
            inside, outside = values[rows], np.delete(values, rows)
            assert inside.max() < outside.min() if "smallest" in name else inside.min() > outside.max()
            assert name.endswith(f" {len(rows) / 400:.0%}") and (np.diff(rows) > 0).all()
    # Three of four images have one size. The first in order are wrong, which is not for their size.
    size, right = np.where(np.arange(400) % 4 == 3, 64.0, 28.0), np.arange(400) >= 45
    found = compare_slices(right, np.zeros(400, np.int64), ends_of("size", ("smallest", "largest"), size))
    assert [(each.name, each.n, each.flagged) for each in found] == [("the largest 25%", 100, False)]


def test_a_folder_that_is_called_as_the_end_of_a_measure_is_still_a_folder() -> None:
    right, labels = np.arange(400) >= 60, np.zeros(400, np.int64)
    parts = {("folder", "the darkest 10%"): np.arange(40), ("brightness", "the darkest 10%"): np.arange(100, 140)}
    named = {each.attribute: each.name for each in compare_slices(right, labels, parts)}
    assert named == {"folder": "of folder the darkest 10%", "brightness": "the darkest 10%"}
    (failing,) = slice_alarms(compare_slices(right, labels, {("folder", "left"): np.arange(40)}))
    assert failing.title == "it fails on images of folder left"


def test_findings_that_change_no_figure_are_no_alarm() -> None:
    many, few = Finding("near_duplicates", "warning", "so many", 30), Finding("near_duplicates", "warning", "few", 3)
    odd = Finding("odd_aspect_ratio", "warning", "odd", 300)
    assert [each.title for each in audit_alarms([many, odd], 300)] == ["near copies"]
    assert not list(audit_alarms([few, odd], 300))


def test_the_verdict_says_in_five_sentences_how_good_against_what_what_to_fix_and_whether_to_use_it() -> None:
    made = report()
    said = decide(made, [])
    assert len(said.sentences) == 5 and said.usable
    assert "95 % interval" in said.sentences[0] and "a head on the frozen base scores 50.0%" in said.sentences[1]
    alarm = Alarm("split_differs", "error", "test is not like the rest", "…")
    stopped = decide(made, [Alarm("tiny_class", "warning", "rare class", "…"), alarm])
    assert not stopped.usable and stopped.sentences[2].startswith(
        "Fix first: test is not like the rest, then rare class"
    )
    off = decide(replace(made, trust=Trust(0.97, 0.8, True)), [])
    assert off.sentences[3].startswith("Do not trust its probabilities")
    unmeasured = decide(replace(made, splits=(), judged=None, trust=None), [])
    assert not unmeasured.usable and "is not measured" in unmeasured.sentences[0]


def test_the_verdict_rounds_no_error_away() -> None:
    made = report()
    labels = np.arange(6000) % 3
    answered = labels.copy()
    answered[0] = 1
    of_one_wrong = Split("val", score(np.eye(3)[answered], labels, made.classes))
    said = decide(replace(made, splits=(of_one_wrong,), trust=None), []).sentences
    # One of 6,000 is wrong, and up to 0.09 % may be.
    assert said[0].startswith("Accuracy is 99.98% on 6,000 images") and "99.9% to 99.997%" in said[0]
    assert "if up to 0.1% wrong answers are acceptable" in said[-1]
    right = Split("val", score(np.eye(3)[labels[:900]], labels[:900], made.classes))
    said = decide(replace(made, splits=(right,), trust=None), []).sentences
    assert said[0].startswith("Accuracy is 100.0% on") and "if up to 0.5% wrong" in said[-1]
    for low, up_to in ((0.9, "10%"), (0.899, "11%"), (0.986, "2%"), (0.5, "50%")):
        said = decide(replace(made, expected=Expected(0.99, (low, 1.0), 10**6), trust=None), []).sentences
        assert f"if up to {up_to} wrong answers" in said[-1], low


def test_what_few_images_of_val_cannot_show_many_held_out_in_turn_can() -> None:
    made = report()
    classes = made.classes
    labels = np.array([0, 0, 0, 0, 1, 2])
    few = Split("val", score(np.eye(3)[[0, 0, 0, 0, 0, 2]], labels, classes))
    counts = {"train": dict.fromkeys(classes, 30), "val": dict.fromkeys(classes, 2), "test": {classes[0]: 9999}}
    made = replace(made, splits=(few,), judged=0, counts=counts, trust=None, expected=None)
    assert few.scores.top1_ci95[0] < few.scores.majority
    doubted = decide(made, [])
    assert not doubted.usable and "not been shown to beat guessing" in doubted.sentences[1]
    # A third of these images are of the majority class.
    for low, beats in ((0.34, True), (0.33, False)):
        said = decide(replace(made, expected=Expected(0.6, (low, 0.8), 96)), [])
        assert said.usable == beats and ("not been shown" in said.sentences[1]) != beats
        assert f"if up to {1 - low:.0%} wrong" in said.sentences[-1] if beats else "Do not use it" in said.sentences[-1]
    assert not decide(replace(made, expected=Expected(0.9, (0.85, 0.95), 8)), []).usable
    # Figures may be numpy's, and the verdict is written as JSON.
    of_numpy = decide(replace(made, expected=Expected(0.6, (np.float64(0.3), np.float64(0.8)), 96)), [])
    assert of_numpy.usable is False


def test_images_held_out_in_turn_do_not_outvote_a_test_split_that_is_not_like_them() -> None:
    made = report()
    labels = np.arange(40) % 3

    def said(right: int, expected: Expected, name: str = "test") -> tuple[str, ...]:
        answered = np.where(np.arange(40) < right, labels, (labels + 1) % 3)
        split = Split(name, score(np.eye(3)[answered], labels, made.classes))
        return decide(replace(made, splits=(split,), judged=0, trust=None, expected=expected), []).sentences

    many = Expected(0.95, (0.935, 0.965), 900)
    for right, up_to in ((21, "63%"), (34, "30%")):
        unlike = said(right, many)
        assert "900 images of train and val, held out in turn, gave 95.0%, so test is not like them" in unlike[0]
        assert f"if up to {up_to} wrong" in unlike[-1]
    # Nor does a test split that is easier promise anything for the others.
    easier = said(40, Expected(0.8, (0.77, 0.83), 900))
    assert "so test is not like them" in easier[0] and "if up to 23% wrong" in easier[-1]
    # One whose accuracy is in their interval is promised what they show, and one that may do worse only what it shows.
    for right, up_to in ((38, "7%"), (37, "20%")):
        alike = said(right, many)
        assert "expect 95.0% on unseen images" in alike[0] and f"if up to {up_to} wrong" in alike[-1]
    # Val is some of the images that were held out in turn, and says no more than all of them.
    assert "expect 95.0% on unseen images" in said(21, many, "val")[0]


def test_what_deserves_a_look_comes_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.45, 0.55], [0.01, 0.99], [0.3, 0.7]])
    found = answers(np.array([0, 0, 0, 1]), probabilities)
    assert worst_mistakes(found, 5) == [2, 1] and most_doubtful(found, 2) == [1, 3]
    assert worst_pairs(np.array([[5, 2], [0, 3]]), 5) == [(0, 1, 2)]


def test_a_classifier_that_is_mostly_wrong_is_not_to_be_used_though_it_beats_guessing() -> None:
    made = report(number=20, images=400)
    assert made.main is not None
    random, classes = np.random.default_rng(0), tuple(f"class {index}" for index in range(20))
    labels = np.arange(400) % 20
    answered = np.where(random.random(400) < 0.2, labels, (labels + 1) % 20)
    poor = Split(made.main.name, score(np.eye(20)[answered], labels, classes))
    said = decide(replace(made, splits=(poor,)), [])
    assert poor.scores.top1_ci95[0] > poor.scores.majority and not said.usable
    assert said.sentences[-1].startswith("Do not use it: most of its answers are wrong")


def split_of(labels: np.ndarray, answered: np.ndarray, groups: np.ndarray | None = None) -> Split:
    number = int(labels.max()) + 1
    classes = tuple(f"class {index}" for index in range(number))
    return Split("val", score(np.eye(number)[answered], labels, classes, groups))


def test_a_class_that_is_mostly_missed_is_told_however_high_the_accuracy() -> None:
    labels = np.repeat([0, 1, 2], [400, 30, 400])
    (alarm,) = class_alarms(split_of(labels, np.where((labels == 1) & (np.arange(830) % 10 > 0), 0, labels)))
    assert alarm.title == "it misses most images of class 1" and "3 of 30 images of class 1" in alarm.sentence
    every = np.repeat(np.arange(20), 30)
    (several,) = class_alarms(split_of(every, np.where(every < 5, 19, every)))
    assert several.title == "it misses most images of 5 classes" and "2 other classes" in several.sentence


def test_a_class_is_not_told_for_chance_for_few_images_or_where_most_answers_are_wrong() -> None:
    # Of so many classes, some have none of twelve right by chance.
    labels = np.repeat(np.arange(100), 12)
    made, random = split_of(labels, labels), np.random.default_rng(0)
    for _ in range(200):
        right = np.diag(random.binomial(12, 0.5, 100))
        confusion = right + np.roll(np.diag(12 - right.diagonal()), 1, axis=1)
        assert not list(class_alarms(replace(made, scores=replace(made.scores, confusion=confusion))))
    labels = np.repeat([0, 1, 2], 40)
    assert not list(class_alarms(split_of(labels, np.where(labels == 2, 2, (labels + 1) % 3))))
    few, missed = np.repeat([0, 1], [400, 30]), np.zeros(430, np.int64)
    assert list(class_alarms(split_of(few, missed)))
    # Thirty views of two objects are two images.
    assert not list(class_alarms(split_of(few, missed, np.concatenate([np.arange(400), 400 + np.arange(30) // 15]))))
