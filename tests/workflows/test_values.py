"""The values that workflows return print on one line, with rounded floats."""

from pathlib import Path

import numpy as np
import pandas
import pytest
from written_letters import write_letters

import graft
from graft.images.letters import CYRILLIC
from graft.workflows.run import Accuracy


def test_results_fit_on_a_line(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 8)
    run = graft.train(data, "latin_letters", "head", out=tmp_path / "run", refit=False, quiet=True)
    found = (run, graft.evaluate(run.folder, data, quiet=True), graft.audit(data, "latin_letters", quiet=True))
    image = next(data.rglob("*.png"))
    made = graft.explain(run, image, maps=graft.MapOptions(test=False), nearest=0, quiet=True)
    report, network = graft.report(run, quiet=True), graft.explain_network(run, quiet=True)
    others = (report, report.values, made, *made.explanations, network, found[1].answered, found[1].answers)
    for value in (*found, *others):
        assert "\n" not in repr(value) and len(repr(value).replace(str(tmp_path), "")) < 200, value
    assert report.page == run.folder / "report.html" and report.page.is_file()
    for value in found:
        assert "\n" not in repr(value) and len(repr(value).replace(str(tmp_path), "")) < 200, value
        assert value._repr_html_().count("<table>") == 1 and "<script" not in value._repr_html_()
    assert repr(Accuracy(148 / 153, (0.92588, 0.98601), 153)) == (
        "Accuracy(top1=0.967, top1_ci95=(0.926, 0.986), n=153)"
    )


def test_an_evaluation_lists_its_mistakes_worst_first_and_counts_them_in_its_confusion_matrix(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 8)
    run = graft.train(data, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    paths = sorted(write_letters(tmp_path / "new", CYRILLIC[:3], 5, seed=7).glob("*/*.png"))
    # The labels of two images are those of other classes.
    names = [path.parent.name for path in paths]
    names[1], names[12] = CYRILLIC[1], CYRILLIC[0]
    found = graft.evaluate(run, (paths, names), quiet=True)
    answers, wrong = found.answers, found.mistakes()
    assert [(each.index, each.name, each.label) for each in answers] == [
        (place, str(path), name) for place, (path, name) in enumerate(zip(paths, names, strict=True))
    ]
    assert {1, 12} <= {each.index for each in wrong} and not any(each.right or each.trained_on for each in wrong)
    assert wrong == sorted((each for each in answers if not each.right), key=lambda each: each.probability_of_label)
    assert all(each.probability > each.probability_of_label for each in wrong)
    counted = np.zeros((3, 3), int)
    for each in answers:
        counted[found.classes.index(each.label), found.classes.index(each.answer)] += 1
    assert (found.scores.confusion == counted).all() and len(wrong) == 15 - np.trace(counted)
    frame = pandas.DataFrame(answers)
    assert frame.right.tolist() == (frame.label == frame.answer).tolist() == [each.right for each in answers]
    assert repr(wrong) == f"ImageAnswers({len(wrong)} images, {len(wrong)} answered wrongly)"
    assert wrong._repr_html_().count("<tr>") == len(wrong) + 1


def test_a_finished_run_is_opened_again_by_resuming_it(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 8)
    run = graft.train(data, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    again = graft.train(tmp_path / "run", resume=True, quiet=True)
    assert again == run and again.logs == run.logs


def test_two_audits_of_the_same_images_are_equal(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 8)
    one, other = (graft.audit(data, "latin_letters", quiet=True) for _ in range(2))
    assert one == other and hash(one) == hash(other)
    next(data.rglob("*.png")).write_bytes(b"no image")
    assert graft.audit(data, "latin_letters", quiet=True) != one


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda data: graft.audit(data, with_features="no"), "with_features, got 'no'"),
        (lambda data: graft.audit(data, seed="1"), "`seed`, got '1'"),
        (lambda data: graft.audit(3), "the images, got 3"),
        (lambda data: graft.advise(data, with_race=1), "`with_race`, got 1"),
        (lambda data: graft.advise(data, graft.BaseOptions(image_size="96")), "`image_size`, got '96'"),
        (lambda data: graft.advise(graft.DataOptions(data, group=3)), "`group`, got 3"),
        (lambda data: graft.compare(data, seeds=True), "`seeds`, got True"),
        (lambda data: graft.compare(data, levels=3), "`levels`, got 3"),
        (lambda data: graft.compare(data, audit="no"), "`audit`, got 'no'"),
        (lambda data: graft.evaluate(3, data), "RUN, got 3"),
        (lambda data: graft.evaluate("latin_letters", data, split=3), "`split`, got 3"),
        (lambda data: graft.load(3), "RUN, got 3"),
        (lambda data: graft.create("resnet20", classes="3"), "classes, got '3'"),
    ],
)
def test_what_is_of_another_kind_is_refused_by_name(call, word: str) -> None:
    with pytest.raises(graft.InputError, match=f"expected .* for {word}"):
        call("nowhere")


def test_nothing_is_written_to_stderr_when_quiet_and_progress_is_when_not(tmp_path: Path, capfd) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 8)
    graft.train(data, "latin_letters", "head", out=tmp_path / "quiet", quiet=True)
    assert capfd.readouterr().err == ""
    graft.train(data, "latin_letters", "head", out=tmp_path / "told")
    said = capfd.readouterr()
    assert "level head, cut stage4, because" in said.err and said.out == ""
