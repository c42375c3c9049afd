"""Train one run in several processes: what the first hands to the others, and what those do.

What a run began with is all that resuming needs, and so all that taking part needs. The other processes open the images
and the base as a resumed run does, and are refused if these differ from the first's.
"""

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from graft.data.dataset import Dataset
from graft.data.split_file import write_split
from graft.features.determinism import repeatable
from graft.progress import NOBODY
from graft.training.crowns import follow_fits
from graft.training.processes import Processes
from graft.training.shared_descent import pieces_of
from graft.words import counted
from graft.workflows.arguments import Arguments
from graft.workflows.deciding import Beginning, Decided, choice_of, decide
from graft.workflows.run import Run, run_of


def share(processes: Processes, folder: Path, arguments: Arguments, decided: Decided) -> Decided:
    """In the first process: return the task shared with the others, if stages are trained in steps."""
    task, chosen = decided.task, decided.plan
    if processes.alone:
        return replace(decided, task=replace(task, processes=processes))
    if chosen.cut in task.base.network.cuts[-2:]:
        task.reporter.note(
            f"level {chosen.level} trains no stage in steps: the first of {processes.count} processes does it alone"
        )
        return decided
    pieces = pieces_of(task.recipe.batch_size, processes.count, task.choice.device)
    if processes.count > pieces:
        task.reporter.note(
            f"a batch of {task.recipe.batch_size} is cut into {counted(pieces, 'piece')}: "
            f"{processes.count - pieces} of {processes.count} processes get none and compute nothing"
        )
    processes.call({"folder": str(folder), "arguments": arguments.to_dict(), "said": decided.said})
    processes.gather()
    split = StringIO(newline="")
    write_split(task.dataset, split)
    processes.of_first({}, split.getvalue())
    return replace(decided, task=replace(task, processes=processes))


def follow(processes: Processes, images: Dataset | None, started: float) -> Run:
    """In every other process: take part in the training steps that the first began, and return the run.

    `images` are the data if they were given in memory. Raises InputError if data or base differ from the first's,
    EndedByFirst if the first ended without a run.
    """
    word = processes.called()
    if "folder" in word:
        word = _take_part(processes, word, images, started)
    return run_of(Path(word["run"].pop("folder")), word["run"])


def _take_part(processes: Processes, word: dict[str, Any], images: Dataset | None, started: float) -> dict[str, Any]:
    processes.answer()
    _, split = processes.of_first({})
    arguments = Arguments.from_dict(word["arguments"])
    begun = Beginning(Path(word["folder"]), word["said"], split)
    with repeatable(choice_of(arguments)):
        decided = decide(arguments, images, None, NOBODY, started, begun, writes=False)
        return follow_fits(replace(decided.task, processes=processes), decided.plan)


def tell_run(processes: Processes, run: Run) -> None:
    """In the first process: send the finished run to the others."""
    processes.call({"run": {**run.to_dict(), "folder": str(run.folder)}})
