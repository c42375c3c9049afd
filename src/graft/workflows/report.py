"""The page of a run, written as training ends and again whenever it is asked for; two runs side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.data.dataset import Dataset
from graft.errors import InputError
from graft.evaluation.report.page import render_report
from graft.evaluation.report.values import Report
from graft.files import write_aside, write_json
from graft.given import path
from graft.images.levels import Levels
from graft.weights.saved import ARGUMENTS_FILE
from graft.workflows.arguments import read_arguments
from graft.workflows.gathering import gather, read_material
from graft.workflows.kept_answers import ANSWERS_FILE, KeptAnswers, read_answers
from graft.workflows.prepare import DataOptions, open_images
from graft.workflows.run import SPLIT_FILE, Run, finished, near

PAGE_FILE, VALUES_FILE = "report.html", "report.json"


@dataclass(frozen=True)
class Written:
    """A page that was written, and the values that it shows."""

    page: Path
    report: Report

    def to_dict(self) -> dict[str, Any]:
        return {"page": near(self.page), **self.report.to_dict()}


def write_report(run: Run, kept: KeptAnswers, dataset: Dataset | None, levels: Levels = ()) -> Report:
    """Write `report.html` and `report.json` into the folder of a run; without its `dataset` there are no thumbnails."""
    report = gather(read_material(run.folder, run, kept, dataset, levels))
    page = render_report(report)
    write_aside(run.folder / PAGE_FILE, lambda file: file.write(page.encode()))
    write_json(run.folder / VALUES_FILE, report.to_dict())
    return report


def report(run: str | Path) -> Written:
    """Write the page of a finished run again, with thumbnails where its images are still there.

    Raises InputError for what is no finished run of this version of graft.
    """
    folder = Path(path(run, "RUN")).expanduser().absolute()
    found = finished(folder)
    if found is None and (folder.parent / ARGUMENTS_FILE).is_file():
        folder = folder.parent
        found = finished(folder)
    kept = read_answers(folder)
    if found is None or kept is None:
        what = "which is no finished run" if found is None else f"which has no {ANSWERS_FILE} of this version of graft"
        raise InputError(
            f"expected the folder of a finished run, got {near(folder)}, {what}: name another, or train again"
        )
    made = write_report(found, kept, *_images(folder))
    return Written(folder / PAGE_FILE, made)


def _images(folder: Path) -> tuple[Dataset | None, Levels]:
    """The images of the run in `folder` and how deep ones are read; None where they are not as they were."""
    from graft.images.preprocessing import Preprocessing

    try:
        arguments = read_arguments(folder)
        dataset = open_images(DataOptions(arguments.data, arguments.group, folder / SPLIT_FILE, arguments.table))
        import json

        text = (folder / "model" / "preprocessing.json").read_text(encoding="utf-8")
        return dataset, Preprocessing.from_dict(json.loads(text)).levels
    except (InputError, OSError, ValueError):
        return None, ()
