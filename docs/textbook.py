"""Writes docs/textbook.md from the outcomes that `graft lab` recorded in docs/results, and from the catalogue.

python docs/textbook.py            write the page
python docs/textbook.py --check    change nothing; fail if the page is stale
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from written import write_page

from graft.lab.catalog import EXPERIMENTS
from graft.lab.record import recorded
from graft.models.catalog import CATALOG
from graft.training.recipe import Recipe
from graft.workflows.worked.examples import EXAMPLES

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results", HERE / "textbook.md"
ARCHITECTURES, GUIDE = "architectures.md", "guide.md"


@dataclass(frozen=True)
class Claim:
    """A claim that no experiment is needed for: the command that shows it, the figure that it prints, and a page."""

    number: str
    claim: str
    command: str
    figure: Callable[[], str]
    page: str


def _network(*names: str) -> Callable[[], str]:
    return lambda: "; ".join(
        f"{name}: {CATALOG[name].params:,} parameters, {CATALOG[name].macs:,} multiply-adds" for name in names
    )


def _published() -> str:
    shown = [row for row in CATALOG.values() if row.published and row.published.top1_error is not None]
    return f"{len(shown)} of {len(CATALOG)} networks have a published top-1 error"


def _rates() -> str:
    known, random = (Recipe().resolve(pretrained=known).learning_rate for known in (True, False))
    return f"peak rate {known:g} for pretrained layers, {random:g} for a random start"


def _worked() -> str:
    rows = [example for own in EXAMPLES.values() for example in own]
    agree = sum(example.verdict == "agrees" for example in rows)
    return f"{agree} of the textbook's {len(rows)} worked figures agree; the right one is given for the others"


# What the catalogue, the accounting and a command show.
SHOWN = (
    Claim(
        "N2",
        "LeNet-5 has 61,706 parameters.",
        "graft models lenet5",
        _network("lenet5", "lenet5_1998"),
        f"{ARCHITECTURES}#lenet-5-1998",
    ),
    Claim(
        "N5",
        "AlexNet has about 60 million parameters.",
        "graft models alexnet_2012",
        _network("alexnet_2012", "alexnet"),
        f"{ARCHITECTURES}#alexnet-2012",
    ),
    Claim(
        "N6",
        "VGG16, layer by layer, has 138,357,544 parameters.",
        "graft models vgg16",
        _network("vgg16", "vgg19"),
        f"{ARCHITECTURES}#vgg-2014",
    ),
    Claim(
        "N10",
        "GoogLeNet has 6.8 or 13 million parameters.",
        "graft models googlenet_2014",
        _network("googlenet_2014", "googlenet"),
        f"{ARCHITECTURES}#googlenet-2014",
    ),
    Claim(
        "N14",
        "Inception-ResNet joins inception and residual blocks.",
        "graft models inception_v4 inception_resnet_v2",
        _network("inception_v4", "inception_resnet_v2"),
        f"{ARCHITECTURES}#inception-resnet-v2-2016",
    ),
    Claim(
        "N16",
        "EfficientNet scales depth, width and resolution by one rule.",
        "graft models efficientnet_b0 efficientnet_b3",
        _network("efficientnet_b0", "efficientnet_b3", "efficientnet_b7"),
        f"{ARCHITECTURES}#efficientnet-2019",
    ),
    Claim(
        "N17",
        "One chart shows accuracy against size and operations.",
        "graft models --plot chart.svg",
        _published,
        f"{ARCHITECTURES}#at-a-glance",
    ),
    Claim(
        "N1–N18",
        "The worked examples.",
        "graft quiz --topic textbook --questions 54",
        _worked,
        f"{ARCHITECTURES}",
    ),
    Claim(
        "T5",
        "Pretrained layers are fine-tuned at a lower learning rate.",
        "graft train DATA --level all",
        _rates,
        "recipe.md",
    ),
    Claim(
        "T11",
        "A base that knows many breeds can tell dogs from cats as it is.",
        "graft train DATA --level as-is",
        lambda: "not recorded: graft carries no photographs of dogs and cats",
        GUIDE,
    ),
    Claim(
        "T13",
        "Images in production differ from the training images.",
        "graft evaluate RUN DATA --robustness",
        lambda: "accuracy under twelve corruptions, on your images",
        GUIDE,
    ),
    Claim(
        "T14",
        "A pretrained network consists of an architecture and weights, and is easily kept.",
        "graft train DATA",
        lambda: "a folder `model/` with weights, classes and preprocessing",
        GUIDE,
    ),
    Claim(
        "T15",
        "Weights, feature maps and activation maps can be inspected.",
        "graft walk lenet5 IMAGE --random",
        lambda: "its numbers equal the network's to four digits",
        f"{GUIDE}#a-walk-through-a-network",
    ),
)

TEXT = """# The textbook, claim by claim

`python docs/textbook.py` writes this page from `docs/results/`, where `graft lab NAME --out docs/results` keeps what it
measured. Every `graft lab` command runs offline, from a fresh install, on images that graft draws; with `--data DATA`,
the experiments on LeNet-5 take a folder of MNIST's IDX files instead. Most records are of the quick forms (`--quick`).

Intervals are at 95 %, over seeds. A claim *held* if its whole interval lies on the predicted side, *did not hold* if
the whole interval lies on the other side, and is *undecided* otherwise.

| claim | what the textbook says | command | measured | | figure |
| --- | --- | --- | --- | --- | --- |
{experiments}
Of {count} recorded experiments, {held} held, {failed} did not hold, and {undecided} are undecided.

The following claims are shown by a command rather than by an experiment:

| claim | what the textbook says | command | figure | more |
| --- | --- | --- | --- | --- |
{shown}"""


def page() -> str:
    kept = {name: recorded(RESULTS, name) for name in EXPERIMENTS}
    verdicts = [found["verdict"] for found in kept.values() if found is not None]
    return TEXT.format(
        experiments="".join(row(name, found) for name, found in kept.items()),
        shown="".join(
            f"| {each.number} | {each.claim} | `{each.command}` | {each.figure()} | [more]({each.page}) |\n"
            for each in sorted(SHOWN, key=_place)
        ),
        count=len(verdicts),
        held=verdicts.count("held"),
        failed=verdicts.count("did not hold"),
        undecided=verdicts.count("undecided"),
    )


def row(name: str, found: dict[str, Any] | None) -> str:
    """The line of an experiment; its measured figures are those that the claim predicts."""
    experiment = EXPERIMENTS[name]
    numbers = ", ".join(experiment.claims)
    if found is None:
        return f"| {numbers} | {experiment.claim} | `graft lab {name}` | not recorded | – | – |\n"
    measured = "<br>".join(
        f"{each['name']}: {each['shown']}{_mark(each['verdict'])}" for each in found["measures"] if each["verdict"]
    )
    stem = f"{name}-quick" if found["quick"] else name
    verdict = found["verdict"] if found["verdict"] == "held" else f"**{found['verdict']}**"
    link = f"[figure](results/{stem}.svg)"
    return f"| {numbers} | {found['claim']} | `{found['command']}` | {measured} | {verdict} | {link} |\n"


def _mark(verdict: str) -> str:
    return "" if verdict == "held" else f" ({verdict})"


def _place(each: Claim) -> tuple[str, int]:
    return each.number[0], int(each.number[1:].partition("–")[0])


def claimed() -> set[str]:
    """The numbers of all claims that the page has a row for."""
    numbers = {number for experiment in EXPERIMENTS.values() for number in experiment.claims}
    return numbers | {each.number for each in SHOWN}


def results() -> list[dict[str, Any]]:
    """Every recorded outcome, in the order of the files."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]


if __name__ == "__main__":
    write_page(PAGE, page, "textbook.py")
