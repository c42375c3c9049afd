"""The verdict on a run in five sentences, worst alarms first."""

from collections.abc import Sequence
from math import ceil

from graft.evaluation.accuracy import Expected
from graft.evaluation.report.alarms import BLOCKING, MISCALIBRATED, mostly_wrong, short_name, stated_and_true
from graft.evaluation.report.values import Alarm, Pair, Report, Split, Trust, Verdict
from graft.words import counted, in_percent, independent

# If the interval of the accuracy reaches further than this to either side, nothing is said about what probabilities
# mean.
TOO_WIDE = 0.1
# The accuracy expected from images held out in turn is mentioned if they are this many times those of the split.
TELLING_MORE = 2
# The splits whose images are then held out in turn.
HELD_OUT = ("train", "val")


def decide(report: Report, alarms: Sequence[Alarm]) -> Verdict:
    """Write the five sentences of the verdict; `report` need not have one yet."""
    order = {"error": 0, "warning": 1, "info": 2}
    ranked = tuple(sorted(alarms, key=lambda each: (each.kind not in BLOCKING, order[each.severity])))
    main = report.main
    if main is None:
        usable, said = (
            False,
            ["Its accuracy is not measured: too few images have no copy among those it was trained on."],
        )
    else:
        usable = (
            _beats_guessing(report, main)
            and not mostly_wrong(main)
            and not any(each.kind in BLOCKING for each in ranked)
        )
        said = [
            f"Accuracy is {in_percent(main.scores.top1)} on {counted(main.scores.n, 'image')} of {main.name} that it "
            f"was not trained on ({main.scores.interval}){_expected(report, main)}.",
            _against(report, main),
        ]
    said.append(_to_fix(report, ranked))
    if report.trust is not None:
        said.append(_trusted(report.trust, main))
    said.append(_use(report, usable, ranked))
    return Verdict(tuple(said), usable, ranked)


def _telling_more(report: Report, main: Split) -> Expected | None:
    """Return what many more images than those of the split say about how good it is, if there are any like them."""
    if report.expected is None or report.expected.n < TELLING_MORE * main.scores.n or _is_unlike(report, main):
        return None
    return report.expected


def _is_unlike(report: Report, main: Split) -> bool:
    """Return whether a split from elsewhere, like test, excludes the accuracy on the images held out in turn.

    However many these are, they then say nothing about images like those of the split.
    """
    if report.expected is None or main.name in HELD_OUT:
        return False
    (low, high), (lower, higher) = main.scores.top1_ci95, report.expected.top1_ci95
    return bool(high < lower or higher < low)


def _expected(report: Report, main: Split) -> str:
    if report.expected is not None and _is_unlike(report, main):
        found = report.expected
        return (
            f"; {counted(found.n, 'image')} of {' and '.join(HELD_OUT)}, held out in turn, gave "
            f"{in_percent(found.top1)}, so {main.name} is not like them"
        )
    expected = _telling_more(report, main)
    return "" if expected is None else f"; expect {expected}"


def _beats_guessing(report: Report, main: Split) -> bool:
    """Return whether it is surely better than always answering the majority class, on the split or by more images."""
    expected = _telling_more(report, main)
    if main.scores.top1_ci95[0] > main.scores.majority or expected is None:
        return bool(main.scores.top1_ci95[0] > main.scores.majority)
    of_classes = [sum(report.counts.get(split, {}).get(name, 0) for split in HELD_OUT) for name in report.classes]
    return bool(expected.top1_ci95[0] > max(of_classes) / max(sum(of_classes), 1))


def _surely(report: Report, main: Split) -> float:
    """Return the accuracy that it reaches at least, on the split or, if these tell more, by more images.

    More than a split from elsewhere shows is promised only if its own accuracy agrees with the others' interval.
    """
    own = float(main.scores.top1_ci95[0])
    if report.expected is not None and _is_unlike(report, main):
        return min(own, float(report.expected.top1_ci95[0]))
    expected = _telling_more(report, main)
    if expected is None or (main.name not in HELD_OUT and main.scores.top1 < expected.top1_ci95[0]):
        return own
    return float(expected.top1_ci95[0])


def _against(report: Report, main: Split) -> str:
    scores = main.scores
    guess = f"lways answering {short_name(report.majority_class)} would score {in_percent(scores.majority)}"
    doubt = "" if _beats_guessing(report, main) else "It has not been shown to beat guessing: a"
    guess = f"{doubt or 'A'}{guess}"
    if report.level.startswith("head"):
        return f"{guess}; this classifier is a head on the frozen base, the cheapest level."
    if report.frozen_head is None:
        return f"{guess}; a head on the frozen base was not measured."
    return f"{guess}, and a head on the frozen base scores {in_percent(report.frozen_head)} on val."


def _to_fix(report: Report, alarms: Sequence[Alarm]) -> str:
    if alarms:
        more = f", then {', '.join(each.title for each in alarms[1:])}" if alarms[1:] else ""
        return f"Fix first: {alarms[0].title}{more}."
    worst = max(report.pairs, key=lambda pair: pair.count, default=None)
    if worst is None:
        return "No fault was found among those checked for."
    return f"No fault was found among those checked for; its most frequent mistake is {_mistake(worst)}."


def _mistake(pair: Pair) -> str:
    return (
        f"{short_name(pair.label)} taken for {short_name(pair.answer)}, {pair.count:,} of {counted(pair.of, 'image')}"
    )


def _trusted(trust: Trust, main: Split | None) -> str:
    means = stated_and_true(trust)
    if trust.off:
        return f"Do not trust its probabilities: {means}."
    if main is not None:
        low, high = main.scores.top1_ci95
        if high - low > 2 * TOO_WIDE:
            few = "images" if main.scores.groups is None else "groups"
            return f"There are too few {few} to judge its probabilities: {means} ({main.scores.interval})."
        # If the whole interval is near the stated confidence, that is true enough.
        far = max(abs(low - trust.confidence), abs(high - trust.confidence)) >= MISCALIBRATED
        if far and not low <= trust.confidence <= high:
            way = "high" if trust.confidence > trust.accuracy else "low"
            return f"Its probabilities may be too {way}: {means} ({main.scores.interval}); more images would tell."
    reachable = next((each for each in trust.budgets if each.at is not None), None)
    if reachable is None or reachable.at is None:
        return f"Its probabilities can be trusted: {means}."
    share = reachable.answered / reachable.n
    which = (
        "its answers"
        if share == 1
        else f"its answers at {in_percent(reachable.at)} or more ({in_percent(share, 0)} of all)"
    )
    return (
        f"Its probabilities can be trusted: {means}. With 95 % confidence, at most {reachable.budget:.0%} of {which} "
        f"are wrong, judging by {independent(reachable.n, trust.held_out)} held out."
    )


def _use(report: Report, usable: bool, alarms: Sequence[Alarm]) -> str:
    of = f"images like those of {short_name(report.data)} ({counted(len(report.classes), 'class', 'classes')})"
    if usable and report.main is not None:
        limit = "; fix the above first" if alarms else ""
        wrong = _at_most(1 - _surely(report, report.main))
        return f"It may be used on {of} if up to {wrong} wrong answers are acceptable{limit}."
    if report.main is None:
        return f"Do not use it before it has been measured on new {of}."
    if not _beats_guessing(report, report.main):
        return "Do not use it: add images, or try another level or base."
    if mostly_wrong(report.main) and not any(each.kind in BLOCKING for each in alarms):
        return "Do not use it: most of its answers are wrong; add images, or try another level or base."
    return f"Do not use it, even on {of}, until that is fixed: its figures cannot be relied on."


def _at_most(share: float) -> str:
    """Return a share in per cent, rounded up, since no more than that is promised; below one, to a tenth."""
    of_one = 1 if share >= 0.01 else 10
    return f"{ceil(100 * of_one * share - 1e-9) / of_one:g}%"
