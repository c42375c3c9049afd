"""What workflows return shows itself on a line, floats rounded."""

from pathlib import Path

from written_letters import write_letters

import graft
from graft.workflows.letters import CYRILLIC
from graft.workflows.run import Accuracy


def test_results_fit_on_a_line(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 8)
    run = graft.train(data, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    found = (run, graft.evaluate(run.folder, data, quiet=True), graft.audit(data, "latin_letters", quiet=True))
    for value in found:
        assert "\n" not in repr(value) and len(repr(value).replace(str(tmp_path), "")) < 200, value
        assert value._repr_html_().count("<table>") == 1 and "<script" not in value._repr_html_()
    assert repr(Accuracy(148 / 153, (0.92588, 0.98601), 153)) == (
        "Accuracy(top1=0.967, top1_ci95=(0.926, 0.986), n=153)"
    )


def test_nothing_is_written_to_stderr_when_quiet_and_progress_is_when_not(tmp_path: Path, capfd) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 8)
    graft.train(data, "latin_letters", "head", out=tmp_path / "quiet", quiet=True)
    assert capfd.readouterr().err == ""
    graft.train(data, "latin_letters", "head", out=tmp_path / "told")
    said = capfd.readouterr()
    assert "level head, cut stage4, because" in said.err and said.out == ""
