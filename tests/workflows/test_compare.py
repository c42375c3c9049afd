"""Levels compared on letters, and the verdicts on made-up figures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from written_letters import files, write_letters

from graft.data.dataset import TEST
from graft.errors import CutError, DataError, InputError, WeightsError
from graft.evaluation.intervals import wilson_interval
from graft.evaluation.paired import paired_difference
from graft.images.letters import CYRILLIC
from graft.progress import Reporter
from graft.training.comparison import Training, draw, summarise
from graft.training.mirroring import Mirroring
from graft.training.outlook import Outlook, StageOutlook
from graft.training.recipe import Recipe
from graft.transfer.levels import Plan
from graft.workflows import compare as compare_module
from graft.workflows.compare import compare
from graft.workflows.contact_sheet import check_png
from graft.workflows.prepare import BaseOptions, DataOptions
from graft.workflows.train import train

LEVELS = ("scratch", "all", "stages:2", "head")
EPOCHS, SEEDS = 3, 2


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without val, so that every seed sets its own images aside."""
    root = tmp_path_factory.mktemp("letters") / "cyrillic"
    write_letters(root / "train", CYRILLIC[:6], 10, seed=0)
    write_letters(root / "test", CYRILLIC[:6], 6, seed=2)
    return root


@pytest.fixture(scope="module")
def told() -> dict[str, list]:
    return {"steps": [], "notes": []}


@pytest.fixture(scope="module")
def found(letters: Path, told: dict[str, list]):
    reporter = Reporter(step=lambda *step: told["steps"].append(step[:3]), note=told["notes"].append)
    before = files(letters)
    found = compare(letters, "latin_letters", LEVELS, SEEDS, recipe=Recipe(epochs=EPOCHS), reporter=reporter)
    assert files(letters) == before
    return found


def test_every_level_has_curves_of_the_same_epochs_and_the_head_one_number(found) -> None:
    assert [each.level for each in found.levels] == list(LEVELS)
    assert (found.split, found.images, found.seeds, found.epochs) == (TEST, 36, (0, 1), EPOCHS)
    for each in found.levels:
        length = 1 if each.level == "head" else EPOCHS + 1
        assert np.shape(each.curves) == (SEEDS, length)
        assert len(each.by_seed) == SEEDS
        assert each.top1.value == pytest.approx(np.mean(each.by_seed))
        assert each.top1.ci95[0] <= each.top1.value <= each.top1.ci95[1]
        assert (each.slope is None) == (each.level == "head")
    assert found.outcome("all").cut == found.outcome("scratch").cut == "input"


def test_the_cheaper_level_has_fewer_parameters_to_train_and_less_to_compute(found) -> None:
    head, stages, every = (found.outcome(level) for level in ("head", "stages:2", "all"))
    assert head.trained_parameters < stages.trained_parameters < every.trained_parameters
    assert head.multiply_adds < stages.multiply_adds < every.multiply_adds
    assert found.outcome("scratch").multiply_adds == every.multiply_adds
    assert set(head.seconds) == {"features", "training"}


def test_a_pretrained_start_and_end_are_higher_than_random_ones(found) -> None:
    scratch = found.outcome("scratch")
    assert found.best != "scratch"
    assert scratch.difference.value < -0.2
    assert "scratch" not in found.as_good()
    claims = {(claim.level, claim.figure): claim for claim in found.claims}
    assert set(claims) == {
        (level, figure) for level in ("all", "stages:2") for figure in ("start", "slope", "asymptote")
    }
    assert claims["all", "start"].difference.value == pytest.approx(found.outcome("all").start - scratch.start)
    assert found.epochs_to_match_scratch("all") == 0
    assert found.epochs_to_match_scratch("head") == 0
    sentences = "\n".join(found.conclusion())
    assert f"{found.best} is the best on average" in sentences
    assert "all has a higher start than scratch" in sentences


def test_a_level_under_a_seed_is_what_training_it_alone_gives(found, letters: Path, tmp_path: Path) -> None:
    for level in ("head", "all"):
        alone = train(letters, "latin_letters", level, out=tmp_path / level, epochs=EPOCHS, seed=1, refit=False)
        assert found.outcome(level).by_seed[1] == pytest.approx(alone.test.top1)


@pytest.mark.parametrize("harmless", [True, False])
def test_levels_that_train_stages_mirror_images_only_where_a_trial_says_so(
    harmless: bool, letters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []
    tried = Mirroring(0.9, 0.9 if harmless else 0.2, 0.01, 60)
    monkeypatch.setattr("graft.training.mirroring.try_mirroring", lambda task: tried)
    real = compare_module.fit_level
    monkeypatch.setattr(compare_module, "fit_level", lambda task, plan: fitted.append(task) or real(task, plan))
    options = {"seeds": 1, "audit": False, "quiet": True}
    found = compare(letters, "latin_letters", "head,stages:1,scratch", recipe=Recipe(epochs=1), **options)
    assert [task.recipe.flip for task in fitted] == [harmless] * 3
    assert any("of their mirror images" in note for note in found.notes)
    # What is asked for is not tried, and neither is what nothing hangs on.
    for levels, recipe in (("stages:1", Recipe(epochs=1, flip=True)), ("head", Recipe(epochs=1))):
        fitted.clear()
        found = compare(letters, "latin_letters", levels, recipe=recipe, **options)
        assert [task.recipe.flip for task in fitted] == [True]
        assert not any("of their mirror images" in note for note in found.notes)


def test_progress_is_told_in_epochs_of_the_whole_and_every_training_has_a_line(found, told: dict[str, list]) -> None:
    name, total = "4 levels × 2 seeds", SEEDS * (1 + 3 * (1 + EPOCHS))
    whole = [(done, of) for step, done, of in told["steps"] if step == name]
    assert whole[0] == (0, total) and whole[-1] == (total, total)
    assert [done for done, _ in whole] == sorted(done for done, _ in whole)
    # Marks are looked for only once in unchanged images.
    steps = {step for step, *_ in told["steps"]} - {"looking for marks"}
    assert steps == {"looking", "comparing", name, "this training", "epochs"}
    assert sum("seed 1: val" in note for note in told["notes"]) == len(LEVELS)
    # What every training run would say is said once.
    assert sum("were set aside" in note for note in told["notes"]) == 1


def test_the_dictionary_is_plain(found) -> None:
    import json

    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    level = values["levels"][LEVELS.index("all")]
    assert level["top1_ci95"] == pytest.approx(found.outcome("all").top1.ci95)
    assert level["epochs_to_match_scratch"] == 0
    assert set(values["claims"][0]) == {"level", "figure", "difference", "holds"}
    assert values["levels"][LEVELS.index(found.best)]["difference"] is None
    assert values["seconds"]["total"] > 0


def test_the_curves_are_drawn_as_a_png(found, tmp_path: Path) -> None:
    draw(found, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_an_unreadable_image_is_skipped_and_the_others_stay_paired(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 8)
    (data / "А" / "0000.png").write_bytes(b"\x89PNG")
    found = compare(data, "latin_letters", "head, frozen:0.5", 3, recipe=Recipe(epochs=1))
    assert {Path(name).name for name in found.skipped} == {"0000.png"}
    assert found.split == "val"
    # Each of the three seeds sets two of a letter aside, and some are the same.
    assert 6 < found.images <= 15
    assert not found.claims


def test_a_head_and_one_over_all_stages_are_two_levels_at_one_cut(letters: Path) -> None:
    found = compare(letters, "latin_letters", "head,head:stages", 1)
    assert [(each.level, each.cut) for each in found.levels] == [("head", "stage4"), ("head:stages", "stage4")]
    one, other = found.levels
    assert one.trained_parameters < other.trained_parameters


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"levels": "head,hed"}, CutError, "'hed'"),
        ({"levels": ("all", "head", "all")}, InputError, "'all' twice"),
        ({"levels": "as-is,head"}, InputError, "graft evaluate"),
        ({"levels": ["auto"]}, InputError, "graft advise"),
        ({"levels": ","}, InputError, "got none"),
        ({"levels": "head,all,stages:4"}, CutError, "'all' and 'stages:4', which both cut lenet5 at 'input'"),
        ({"levels": "stages:9"}, CutError, "stages"),
        ({"seeds": 0}, InputError, "`seeds`"),
        ({"recipe": Recipe(epochs=0)}, InputError, "`epochs`"),
        ({"recipe": Recipe(batch_size=0)}, InputError, "`batch_size`"),
        ({"base": BaseOptions("latin_letters", image_size=3)}, InputError, "`image_size`"),
        ({"base": BaseOptions("latin_letters", image_size=20)}, InputError, "28 px or more for lenet5"),
        ({"recipe": Recipe(patience=2)}, InputError, "patience"),
        ({"base": "resnet20", "levels": "head,scratch"}, WeightsError, "resnet20"),
        ({"data": "nowhere"}, DataError, "nowhere"),
    ],
)
def test_a_wrong_argument_is_one_sentence(arguments: dict, error: type, words: str, letters: Path) -> None:
    with pytest.raises(error, match=words):
        compare(**{"data": letters, "base": "latin_letters", **arguments})


def test_a_random_start_gets_the_epochs_of_a_pretrained_one(letters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.training.recipe.MOST_EPOCHS_PRETRAINED", 2)
    monkeypatch.setattr("graft.training.recipe.EPOCHS_RANDOM", 4)
    found = compare(letters, "latin_letters", "scratch,all", 1)
    assert found.epochs == 2
    assert [len(each.curves[0]) for each in found.levels] == [3, 3]
    assert compare(letters, "latin_letters", "scratch", 1).epochs == 4


def test_a_random_start_alone_needs_no_weights(letters: Path) -> None:
    found = compare(letters, "lenet5", "scratch", 1, recipe=Recipe(epochs=1))
    assert found.best == "scratch"
    assert found.claims == ()


def test_the_curves_go_into_a_png_outside_the_images(letters: Path, tmp_path: Path) -> None:
    check_png(tmp_path / "curves.png", [letters], "--plot")
    for wrong in (letters / "curves.png", tmp_path / "curves.pdf", tmp_path / "curves"):
        with pytest.raises(InputError, match="`plot`"):
            check_png(wrong, [letters], "--plot")


def test_images_in_groups_are_compared_by_groups(letters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, noted = [], []

    def kept(of_levels, *more):
        runs.extend(training for of_level in of_levels.values() for training in of_level)
        return summarise(of_levels, *more)

    monkeypatch.setattr("graft.workflows.compare.summarise", kept)
    monkeypatch.setattr("graft.training.fitting.notes_on_baseline", lambda *given: noted.append(given[2]) or ())
    data = DataOptions(letters / "train", group=r"(\d)\.png")
    found = compare(data, "latin_letters", "head,head:stages", 1, quiet=True)
    for each, of_val in zip(runs, noted, strict=True):
        # The last digit of a name is its group, and val holds whole groups.
        assert len(each.groups) == len(each.right) == found.images > len(np.unique(each.groups))
        np.testing.assert_array_equal(each.groups, of_val)
        assert 1 <= each.val_images < found.images


# Made-up figures from here on: 100 images, three seeds.


def training(right: int, curve: list[float], first: int = 0) -> Training:
    return Training(np.arange(100) < right, np.arange(first, first + 100), np.array(curve), 100, 1.0, 2.0)


def summary(**trainings: list[Training]):
    plans = {level: Plan(level, "input", ()) for level in trainings}
    parameters = {"scratch": 100, "all": 100, "head": 10}
    outlooks = {
        level: Outlook((StageOutlook("stage", True, None, parameters[level], 1, 1),), 100, 2) for level in trainings
    }
    return summarise(trainings, plans, outlooks)


def test_of_equal_levels_the_cheaper_is_the_best_and_differences_are_paired_by_image() -> None:
    best, outcomes, _ = summary(
        scratch=[training(80, [0.1, 0.8])] * 3, all=[training(90, [0.1, 0.9])] * 3, head=[training(90, [0.9])] * 3
    )
    assert best == "head"
    assert outcomes[0].top1.ci95 == pytest.approx(wilson_interval(80, 100))
    expected = paired_difference(np.arange(100) < 80, np.arange(100) < 90, np.arange(100), np.zeros(100, int))
    assert outcomes[0].difference.ci95 == pytest.approx(expected.ci95)
    assert outcomes[0].difference.sign == -1
    assert outcomes[1].difference.value == 0
    assert outcomes[2].difference is None


def test_levels_on_few_groups_are_not_told_apart_by_their_many_images() -> None:
    right, groups = np.arange(100) % 10 > 0, np.arange(100) // 25
    # All that one level does better, it does on one patient.
    other = right & (np.arange(100) >= 15)

    def outcome(known: np.ndarray | None):
        made = {"scratch": other, "all": right}
        trainings = {level: [replace(training(0, [0.5]), right=each, groups=known)] for level, each in made.items()}
        return summary(**trainings)[1][0]

    assert outcome(None).difference.sign == -1 and outcome(groups).difference.sign == 0
    assert np.ptp(outcome(groups).top1.ci95) > np.ptp(outcome(None).top1.ci95)


def test_a_claim_holds_fails_or_is_undecided_by_the_interval_of_the_paired_difference() -> None:
    _, _, claims = summary(
        scratch=[training(60, [0.1, 0.5, 0.60]), training(60, [0.12, 0.5, 0.60]), training(60, [0.1, 0.49, 0.60])],
        all=[training(61, [0.6, 0.6, 0.61]), training(62, [0.62, 0.62, 0.62]), training(60, [0.6, 0.6, 0.60])],
    )
    assert {claim.figure: claim.holds for claim in claims} == {"start": True, "slope": False, "asymptote": None}


def test_claims_are_paired_by_seed() -> None:
    # The seeds lie far apart, and the level is above scratch by as much under each.
    scratch = [training(50, [0.0, end]) for end in (0.2, 0.5, 0.8)]
    every = [training(50, [0.0, end + 0.05]) for end in (0.2, 0.5, 0.8)]
    _, _, claims = summary(scratch=scratch, all=every)
    slope = next(claim for claim in claims if claim.figure == "slope")
    assert slope.difference.ci95 == pytest.approx((0.05, 0.05))
    assert slope.holds


def test_one_seed_decides_no_claim() -> None:
    _, outcomes, claims = summary(scratch=[training(10, [0.1, 0.1])], all=[training(90, [0.9, 0.9])])
    assert [claim.holds for claim in claims] == [None] * 3
    # Images alone decide which level is better.
    assert outcomes[0].difference.sign == -1


def test_few_images_leave_undecided_what_the_seeds_agree_on() -> None:
    close = {"scratch": [training(80, [0.1, 0.80])] * 3, "all": [training(82, [0.7, 0.82])] * 3}
    _, _, claims = summary(**close)
    assert next(claim for claim in claims if claim.figure == "asymptote").holds is None
