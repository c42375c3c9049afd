"""The advice as a chart: shift and probe by stage on the left, the race on the right."""

from pathlib import Path

from graft.files import write_aside
from graft.transfer.advisor import Advice


def draw_advice(advice: Advice, path: Path) -> None:
    """Write the chart as a PNG, atomically. Raises OSError if the file cannot be written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    shifts = [row for row in advice.evidence.shift.stages if row.value is not None]
    left.bar([row.stage for row in shifts], [row.value for row in shifts], color="tab:gray", alpha=0.5)
    left.set_ylabel("shift, nats per channel (bars)")
    left.tick_params(axis="x", rotation=45)
    probes, accuracy = advice.evidence.probe, left.twinx()
    if probes:
        ends = [(row.accuracy - row.ci95[0], row.ci95[1] - row.accuracy) for row in probes]
        errors = list(zip(*ends, strict=True))
        stages = [row.stage for row in probes]
        accuracy.errorbar(stages, [row.accuracy for row in probes], errors, fmt="o-", color="tab:blue", capsize=3)
    accuracy.set_ylim(0, 1)
    accuracy.set_ylabel("accuracy of a linear probe (line)", color="tab:blue")
    left.set_title(f"scenario {advice.scenario}, the textbook's rule: {advice.textbook}")
    for row, standing in enumerate(advice.race):
        chosen = standing.level == advice.plan.level
        colour = "tab:orange" if chosen else "tab:blue"
        right.errorbar(100 * standing.expected, row, xerr=196 * standing.deviation, fmt="o", color=colour, capsize=3)
        if standing.gain is not None:
            right.plot(100 * standing.gain, row, "x", color=colour)
    right.set_yticks(range(len(advice.race)), [standing.level for standing in advice.race])
    right.axvline(0, color="tab:gray", linewidth=1)
    right.set_xlabel("accuracy over the head in points: expected with 95 % interval (o), measured (x)")
    right.set_title(f"chosen: {advice.plan.level}")
    write_aside(path, lambda file: figure.savefig(file, dpi=120, format="png"))
