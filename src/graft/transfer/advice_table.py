"""The advice in rows and sentences for the terminal, and as HTML for notebooks."""

from graft.evaluation.intervals import over_groups
from graft.html import escaped, table
from graft.transfer.advisor import Advice

STAGE_COLUMNS = ("stage", "shift", "linear probe", "95 % interval")
RACE_COLUMNS = ("level", "accuracy", "images", "over the head", "on", "expected", "seconds")


def stage_rows(advice: Advice) -> list[tuple[str, ...]]:
    """Return the shift (nats per channel) and probe of every stage, in the order of `STAGE_COLUMNS`."""
    probes = {row.stage: row for row in advice.evidence.probe}
    rows: list[tuple[str, ...]] = []
    for row in advice.evidence.shift.stages:
        probe = probes.get(row.stage)
        shift = "–" if row.value is None else f"{row.value:.3f}"
        accuracy, interval = ("", "") if probe is None else (f"{probe.accuracy:.1%}", _interval(probe.ci95))
        rows.append((row.stage, shift, accuracy, interval))
    return rows


def race_rows(advice: Advice) -> list[tuple[str, ...]]:
    """Return the result of every level in the race, in the order of `RACE_COLUMNS`; gains are points over the head.

    A star marks the chosen level.
    """
    rows: list[tuple[str, ...]] = []
    for standing in advice.race:
        tried = standing.gain is not None and standing.error is not None
        rows.append(
            (
                f"{standing.level} *" if standing.level == advice.plan.level else standing.level,
                "" if standing.accuracy is None else f"{standing.accuracy:.1%}",
                f"{standing.n:,}" if tried else "",
                _points(standing.gain or 0.0, standing.error or 0.0) if tried else "",
                f"{standing.n_gain:,}" if tried else "",
                _points(standing.expected, standing.deviation),
                f"{standing.seconds:.1f}" if tried else "",
            )
        )
    return rows


def outcome(advice: Advice) -> list[str]:
    """Return the chosen level, its expected accuracy and its cost, one per line."""
    lines = [f"level {advice.plan.level}, cut {advice.plan.cut}"]
    if advice.accuracy is not None and advice.accuracy_ci95 is not None:
        over = over_groups(advice.race[0].n or 0, advice.accuracy_groups) if advice.race else ""
        lines.append(f"expected on unseen images {advice.accuracy:.1%} ({_interval(advice.accuracy_ci95)}{over})")
    if advice.cost is not None:
        seconds = "" if advice.cost.seconds is None else f"about {advice.cost.seconds:.0f} s of training, "
        memory, disk = advice.cost.peak_bytes / 2**20, advice.cost.cache_bytes / 2**20
        lines.append(f"takes {seconds}{memory:,.0f} MiB of memory, {disk:,.0f} MiB of cache")
    return lines


def reasons(advice: Advice) -> list[str]:
    """Return why this level, what could not be measured, and the warning if the base does not suit the images."""
    return [*advice.plan.reasons, *advice.evidence.notes, *([advice.warning] if advice.warning else [])]


def advice_html(advice: Advice) -> str:
    """Return the tables, the outcome and the reasons as self-contained HTML."""
    parts = [table(STAGE_COLUMNS, stage_rows(advice))]
    if advice.race:
        parts.append(table(RACE_COLUMNS, race_rows(advice)))
    chosen, *others = map(escaped, outcome(advice))
    parts.append(f"<p>{'<br>'.join([f'<b>{chosen}</b>', *others])}</p>")
    parts.append(f"<ul>{''.join(f'<li>{escaped(reason)}</li>' for reason in reasons(advice))}</ul>")
    return "\n".join(parts)


def _interval(ci95: tuple[float, float]) -> str:
    return f"{ci95[0]:.1%} to {ci95[1]:.1%}"


def _points(gain: float, error: float) -> str:
    """Format a gain in points of accuracy with its 95 % interval."""
    return f"{100 * gain:+.1f} ± {196 * error:.1f}"
