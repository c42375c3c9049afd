"""What makes a classifier doubtful, from measurements and never from its own word: the alarms of a report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graft.evaluation.answers import Answers
from graft.evaluation.intervals import (
    accuracy_interval,
    chance_of_at_most,
    effective_count,
    hypergeometric_tail,
    normal_below,
    wilson_interval,
)
from graft.evaluation.report.values import Alarm, Finding, Severity, Split, Trust
from graft.evaluation.scores import Scores
from graft.evaluation.slices import Slice
from graft.words import counted, in_percent

# Findings of the audit that make figures doubtful, with short titles.
ALARMING: dict[str, str] = {
    "split_leakage": "leak between splits",
    "label_conflict": "images with two labels",
    "likely_wrong_label": "labels that are probably wrong",
    "class_mark": "a mark in one class",
    "near_duplicates": "near copies",
    "exact_duplicates": "copies",
    "class_imbalance": "rare class",
    "tiny_class": "rare class",
    "missing_class": "class missing from a split",
    "unreadable": "unreadable images",
    "placeholder": "placeholders in place of images",
}
# Alarms that make every figure unreliable.
BLOCKING = ("swapped_labels", "split_differs", "damaged_split")
# The share of unreadable images that raises an alarm; fewer are left to the section on data.
MANY_UNREADABLE = 0.02
# Below this share of the images, copies change no figure.
MANY_COPIES = 0.02
# Stated probabilities raise an alarm when they are off by at least the first value, a count of right answers this
# extreme has at most the second as its chance, and the 95 % interval of the accuracy excludes them.
MISCALIBRATED, CHANCE_OFF = 0.03, 0.00135
# Beyond this many answers, the normal distribution is accurate enough.
MOST_COUNTED = 1000
# A gap between splits is reported when its chance is below this.
CHANCE = 1e-4
# A class counts as missed when, were half of its images recognised, the chance of so few would be below this in all.
MISSED = 1e-3
MOST_MISSED = 3
# Labels are wrong when one other class contradicts enough of the surer half of the answers: at least this share, at
# least half as often as in the other half, mostly by one class, and this many in all.
CONTRADICTED, AS_OFTEN, FROM_ONE, FEWEST_CONTRADICTED = 0.05, 0.5, 0.7, 4
# A classifier that hardly knows two classes contradicts correct labels, however sure it is. So it has to know the class
# of the labels, with at least this precision and this recall, and be mostly right where it is contradicted; or the
# contradictions must exceed what its own probabilities predict, at a chance below the last value.
RIGHT_OF_ANSWERS, FOUND_OF_LABEL, MORE_THAN_STATED = 0.75, 0.5, 1e-3
# Classes that look alike are taken for each other; a label that was mixed up is one class called the other. So, of the
# surer half of the answers of each, contradictions must be more frequent in one direction at a chance below this. In
# 700 draws of sketches, textures and small photographs with correct labels, it left an alarm in 0.6 % instead of 2.9 %,
# and of 346 draws with 30 % of a class called another, it left 54 % of them found instead of 55 %.
ONE_SIDED = 0.025


@dataclass(frozen=True)
class Contradiction:
    """Images labelled `label` among the surest answers `answer`: `rows` of `n` such answers."""

    label: int
    answer: int
    rows: tuple[int, ...]
    n: int


def contradictions(answers: Answers) -> Iterator[Contradiction]:
    """Yield classes whose surest answers are contradicted by labels of one other class: by wrong labels, not by doubt.

    On hard images, an answer is wrong less often the surer it is. A mixed-up label does not depend on how sure the
    answer is.
    """
    as_frequent = _as_frequent_as_labels(answers)
    for answer in np.unique(answers.answers).tolist():
        surer, other = _by_confidence(answers, answer)
        wrong = surer[answers.labels[surer] != answer]
        if len(wrong) < FEWEST_CONTRADICTED:
            continue
        labels, counts = np.unique(answers.labels[wrong], return_counts=True)
        of_one = int(counts.max())
        rate, rest = len(wrong) / len(surer), float((answers.labels[other] != answer).mean())
        certain = wilson_interval(len(wrong), len(surer))[0] >= CONTRADICTED / 2 and rate >= CONTRADICTED
        if certain and rate >= AS_OFTEN * rest and of_one >= FROM_ONE * len(wrong):
            label = int(labels[counts.argmax()])
            found = wrong[answers.labels[wrong] == label]
            stated = _chance_of_at_least(as_frequent[surer, label], len(found))
            known = rate <= 0.5 and _knows(answers, label) and _one_sided(answers, answer, label)
            if not known and stated > MORE_THAN_STATED:
                continue
            yield Contradiction(label, int(answer), tuple(found.tolist()), len(surer))


def _by_confidence(answers: Answers, answer: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that were answered with a class, surest first, in two halves."""
    rows = np.flatnonzero(answers.answers == answer)
    rows = rows[np.argsort(-answers.confidences[rows], kind="stable")]
    return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def _one_sided(answers: Answers, answer: int, label: int) -> bool:
    """Return whether sure answers `answer` are labelled `label` more often, beyond chance, than the other way round."""
    one, other = (answers.labels[_by_confidence(answers, each)[0]] for each in (answer, label))
    return two_rates(int((other == answer).sum()), len(other), int((one == label).sum()), len(one)) < ONE_SIDED


def _as_frequent_as_labels(answers: Answers) -> np.ndarray:
    """Return the probabilities (N, classes), rescaled so that each class is as frequent as among the labels.

    A classifier trained with balanced classes overstates rare ones.
    """
    frequent = np.bincount(answers.labels, minlength=answers.probabilities.shape[1]) / len(answers)
    scaled = answers.probabilities * (frequent / np.maximum(answers.probabilities.mean(0), 1e-12))
    return np.asarray(scaled / np.maximum(scaled.sum(1, keepdims=True), 1e-12))


def _knows(answers: Answers, label: int) -> bool:
    """Return whether the classifier knows class `label`, by its precision and its recall."""
    of_answers, of_label = answers.right[answers.answers == label], answers.right[answers.labels == label]
    known = len(of_answers) > 0 and of_answers.mean() >= RIGHT_OF_ANSWERS
    return bool(known and of_label.mean() >= FOUND_OF_LABEL)


def is_miscalibrated(confidences: np.ndarray, right: np.ndarray, groups: np.ndarray | None = None) -> bool:
    """Return whether mean confidence and accuracy differ by much, and by more than chance explains.

    If the confidences were true, the number of right answers would be a sum of independent events with those chances.
    Its distribution is computed exactly for few answers, where a single wrong one among sure ones proves nothing. It is
    normal for many (Spiegelhalter 1986), and for images in groups, with the deviation of the independent images they
    are worth.
    """
    low, high = accuracy_interval(right, groups)
    stated = float(confidences.mean())
    if abs(stated - float(right.mean())) < MISCALIBRATED or low <= stated <= high:
        return False
    times = 1.0 if groups is None else len(right) / effective_count(right, groups)
    return _chance_of_count(confidences, int(right.sum()), times) <= CHANCE_OFF


def _chance_of_count(chances: np.ndarray, count: int, times: float = 1.0) -> float:
    """Return the chance of at most or at least `count` successes of `chances`, whichever is less.

    The variance of their number is `times` that of independent ones.
    """
    if len(chances) > MOST_COUNTED or times > 1:
        deviation = float(np.sqrt(times * (chances * (1 - chances)).sum()))
        away = abs(float(chances.sum()) - count) - 0.5
        return normal_below(-away / deviation) if deviation else 0.0
    known = _distribution_of_count(chances)
    return float(min(known[: count + 1].sum(), known[count:].sum()))


def _chance_of_at_least(chances: np.ndarray, count: int) -> float:
    """Return the chance of `count` or more successes of independent events with these `chances`."""
    if len(chances) > MOST_COUNTED:
        deviation = float(np.sqrt((chances * (1 - chances)).sum()))
        return (
            normal_below((float(chances.sum()) - count + 0.5) / deviation)
            if deviation
            else float(chances.sum() >= count)
        )
    return float(_distribution_of_count(chances)[count:].sum())


def _distribution_of_count(chances: np.ndarray) -> np.ndarray:
    """Return the chance of each number of successes of events with the `chances` (N,), float64 (N + 1,)."""
    known = np.ones(1)
    for chance in chances.tolist():
        known = np.append(known * (1 - chance), 0.0) + np.append(0.0, known * chance)
    return known


def two_rates(right: int, count: int, other_right: int, other_count: int) -> float:
    """Return the chance, if both rates were equal, of a first rate this much lower: Fisher's exact test, one-sided."""
    return hypergeometric_tail(right, count + other_count, right + other_right, count)


def audit_alarms(findings: Sequence[Finding], images: int) -> Iterator[Alarm]:
    """Yield the audit's findings that make the figures doubtful; mere remarks stay in the section on data."""
    seen = set()
    for finding in findings:
        title = ALARMING.get(finding.kind)
        few = {"unreadable": MANY_UNREADABLE, "near_duplicates": MANY_COPIES, "exact_duplicates": MANY_COPIES}
        if title is None or finding.total < few.get(finding.kind, 0.0) * images or title in seen:
            continue
        seen.add(title)
        small = finding.total < MANY_COPIES * images
        severity: Severity = "error" if finding.severity == "error" and not small else "warning"
        yield Alarm(finding.kind, severity, title, f"{_upper(finding.message).rstrip('.')}.", finding.images[:4])


def split_alarms(one: Split | None, other: Split | None) -> Iterator[Alarm]:
    """Yield an alarm if the classifier is worse on the test split than on val by more than chance explains.

    Images in groups count as the number of independent ones they are worth. A classifier that knows a rare class less
    well is worse where that class is not rare: if the gap closes once the classes of the test split are weighted as in
    val, the alarm says that instead.
    """
    if one is None or other is None:
        return
    low, high = one.scores, other.scores
    count = max(1, round(high.worth or high.n))
    of_high = round(high.top1 * count), count

    def worse(accuracy: float, number: float) -> bool:
        count = max(1, round(number))
        return two_rates(round(accuracy * count), count, *of_high) < CHANCE

    if not worse(low.top1, low.worth or low.n):
        return
    of_low = f"{in_percent(low.top1)} on {counted(low.n, 'image')} of {one.name}"
    of_other = f"{in_percent(high.top1)} on {high.n:,} of {other.name}"
    weighted, number = _weighted_as(low, high)
    if not worse(weighted, number):
        yield Alarm(
            "class_shares_differ",
            "warning",
            f"class frequencies differ in {one.name}",
            f"Accuracy is {of_low}, but {of_other}, because the class frequencies differ; with those of {other.name} "
            f"it would be {in_percent(weighted)}. Judge by the recall of each class; `--class-weights balanced` makes "
            "recalls more even.",
        )
    else:
        yield Alarm(
            "split_differs",
            "error",
            f"{one.name} is not like the rest",
            f"Accuracy is {of_low}, but {of_other}: check whether the images or labels of {one.name} are damaged or "
            f"come from elsewhere, or whether the base was trained on the images of {other.name}.",
        )


def _weighted_as(low: Scores, high: Scores) -> tuple[float, float]:
    """Return the accuracy of `low` with its classes weighted by their shares in `high`, of those that both have.

    With it comes the number of images, independent and equally weighted, that it is worth (Kish 1965).
    """
    count, of_high = (each.confusion.sum(1).astype(np.float64) for each in (low, high))
    both = (count > 0) & (of_high > 0)
    if not both.any():
        return low.top1, low.worth or low.n
    count, right, wanted = count[both], low.confusion.diagonal()[both], of_high[both] / of_high[both].sum()
    worth = 1.0 if low.worth is None else low.worth / low.n
    return float(wanted @ (right / count)), worth / float((wanted**2 / count).sum())


def trust_alarms(trust: Trust | None) -> Iterator[Alarm]:
    if trust is not None and trust.off:
        word = "over-confidence" if trust.over_confident else "under-confidence"
        yield Alarm(
            word.replace("-", "_"),
            "warning",
            word,
            f"Its probabilities cannot be trusted: {stated_and_true(trust)}.",
        )


def class_alarms(main: Split | None) -> Iterator[Alarm]:
    """Yield an alarm if, by more than chance, most images of a class are missed, which a high accuracy can hide.

    Of a classifier that is mostly wrong, this is no news. Images in groups count as independent ones, as for accuracy.
    """
    if main is None or mostly_wrong(main):
        return
    scores, right = main.scores, main.scores.confusion.diagonal()
    count = scores.confusion.sum(1)
    worth = 1.0 if scores.worth is None else scores.worth / scores.n
    independent_right, of_all = (np.rint(each * worth).astype(np.int64) for each in (right, count))
    pairs = zip(independent_right.tolist(), np.maximum(of_all, 1).tolist(), strict=True)
    # Of classes of which half or more are right, nothing has to be computed.
    chance = np.array([1.0 if 2 * few >= of else chance_of_at_most(few, of, 0.5) for few, of in pairs])
    missed = np.flatnonzero((count > 0) & (chance * np.count_nonzero(count) < MISSED))
    if not len(missed):
        return
    worst = missed[np.argsort(right[missed] / count[missed], kind="stable")][:MOST_MISSED].tolist()
    of = [
        f"{right[each]:,} of {counted(int(count[each]), 'image')} of {short_name(scores.classes[each].name)}"
        for each in worst
    ]
    if len(missed) > MOST_MISSED:
        of.append(f"few of {counted(len(missed) - MOST_MISSED, 'other class', 'other classes')}")
    which = short_name(scores.classes[worst[0]].name) if len(missed) == 1 else f"{len(missed):,} classes"
    yield Alarm(
        "missed_class",
        "warning",
        f"it misses most images of {which}",
        f"On {main.name}, it recognises {', '.join(of)}: add such images to train, or balance the classes "
        "(`--class-weights balanced`).",
    )


def slice_alarms(slices: Sequence[Slice]) -> Iterator[Alarm]:
    for each in slices:
        if each.flagged:
            images = each.name if each.name.startswith("the ") else f"images {each.name}"
            yield Alarm(
                "failing_slice",
                "warning",
                f"it fails on {images}",
                f"Accuracy is {in_percent(each.top1)} on {counted(each.n, 'image')}, {each.name}, where "
                f"{in_percent(each.expected)} is expected of their classes: add such images to train, or do not use it "
                "on them.",
            )


def stated_and_true(trust: Trust) -> str:
    return f"mean confidence is {in_percent(trust.confidence)}, accuracy {in_percent(trust.accuracy)}"


def mostly_wrong(main: Split) -> bool:
    """Return whether accuracy is certainly below one half, which may still be far above chance with many classes."""
    return bool(main.scores.top1_ci95[1] < 0.5)


def short_name(name: str, most: int = 40) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
