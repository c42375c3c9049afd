"""A training by several processes: what the first hands to the others, and what these do.

What a run was begun on is all that it takes to go on with it, and so all that it takes to take part in it: the others
open the images and the base as a resumed run does, and are refused where these are others than those of the first.
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
    """Of the first process: the same training with the others, where stages are trained in steps."""
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
    """Of every other process: take part in the steps of the training that the first began; its run.

    `images` are the data where they were handed over. Raises InputError where data or base are not those of the first,
    EndedByFirst where that has come to nothing.
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
    """Of the first process: let the others have the run that it all came to."""
    processes.call({"run": {**run.to_dict(), "folder": str(run.folder)}})
