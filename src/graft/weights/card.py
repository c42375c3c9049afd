"""The card of a saved model, `README.md`: metadata for the Hub, then what a person should know.

https://huggingface.co/docs/hub/model-cards, "Model card metadata". Nothing in it depends on the machine or the time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from graft.names import plain
from graft.weights.packaged import PACKAGED
from graft.words import counted, in_percent

if TYPE_CHECKING:
    from graft.weights.saved import SavedModel

# The most classes listed in the card; labels.json names all.
MOST_CLASSES = 100
# The bases that are part of graft, and its own licence.
BUNDLED, BUNDLED_UNDER = ("latin_letters",), "Apache-2.0"
UNKNOWN = "unknown"
_STATED = re.compile(r"---\n(?:(?!---).*\n)*?license:[ \t]*(?P<licence>\S+)[ \t]*\n")
# What Markdown, or HTML in it, would interpret.
_MARKUP = re.compile(r"[&<>|`*]|\](?=[(\[])")


def model_card(model: SavedModel) -> str:
    """Return the card as Markdown; names are escaped."""
    facts = model.facts
    architecture, base = model.network.config.architecture, str(facts.get("base", ""))
    data = str(facts.get("data", ""))
    title = f"{architecture}, {counted(len(model.classes), 'class', 'classes')}"
    licence = _licence(base)
    parts = [
        f"---\n{_metadata(model, licence)}---\n",
        f"# {_text(title)}\n",
        f"An image classifier{f' trained on {_text(data)}' if data else ''}, saved by graft.\n",
        "| | |\n| --- | --- |\n"
        + "".join(f"| {_text(name)} | {_text(value)} |\n" for name, value in _facts(facts).items()),
        _classes(model),
        "## Limits\n",
        _limits(model),
        "## Licence\n",
        f"The base {_text(base)} is published under {licence}.\n"
        if licence is not None
        else f"That of the base{f' {_text(base)}' if base else ''}, which graft does not know: check the source of "
        "its weights.\n",
        "## Use\n",
        '```python\nimport graft\nclassifier = graft.load("FOLDER")        # this folder\n'
        'classifier.predict(["image.jpg"])\n```\n',
    ]
    return "\n".join(parts)


def _metadata(model: SavedModel, licence: str | None) -> str:
    import yaml

    facts = model.facts
    results = [
        {
            "task": {"type": "image-classification"},
            "dataset": {"name": plain(str(facts.get("data", "images"))), "type": "image-folder", "split": split},
            "metrics": [{"type": "accuracy", "name": "accuracy", "value": round(float(facts[split]["top1"]), 6)}],
        }
        for split in ("test", "val")
        if isinstance(facts.get(split), dict) and facts[split].get("top1") is not None
    ]
    base = str(facts.get("base", ""))
    values: dict[str, Any] = {
        "library_name": "graft",
        "pipeline_tag": "image-classification",
        "license": (licence or UNKNOWN).lower(),
        "tags": ["image-classification", "transfer-learning", model.network.config.architecture],
    }
    if base.startswith("hf:"):
        values["base_model"] = plain(base.removeprefix("hf:").partition(":")[0])
    if results:
        values["model-index"] = [{"name": model.network.config.architecture, "results": results}]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _facts(facts: dict[str, Any]) -> dict[str, str]:
    shown: dict[str, str] = {name: str(facts[name]) for name in ("base", "level", "cut", "data") if name in facts}
    for split in ("val", "test"):
        found = facts.get(split)
        if isinstance(found, dict) and found.get("mean_average_precision") is not None:
            low, high = found["mean_average_precision_ci95"]
            within = f"{in_percent(low)} to {in_percent(high)}"
            figure = f"{in_percent(found['mean_average_precision'])} of {found.get('n', 0):,} images ({within})"
            shown[f"mean average precision on {split}"] = figure
            shown[f"F1 on {split}"] = f"micro {found['micro_f1']:.3f}, macro {found['macro_f1']:.3f}"
        if isinstance(found, dict) and found.get("top1") is not None:
            interval = found.get("top1_ci95")
            within = f" ({in_percent(interval[0])} to {in_percent(interval[1])})" if interval else ""
            shown[f"accuracy on {split}"] = f"{in_percent(found['top1'])} of {found.get('n', 0):,} images{within}"
    return shown


def _classes(model: SavedModel) -> str:
    known = {row[0]: row for row in model.by_class}
    lines = []
    for name in model.classes[:MOST_CLASSES]:
        _, n, recall, precision = known.get(name, (name, 0, None, None))
        measured = f" {n:,} | {_percent(recall)} | {_percent(precision)} |" if known else ""
        lines.append(f"| {_text(name)} |{measured}\n")
    head = "| class | images | recall | precision |\n| --- | --- | --- | --- |\n" if known else "| class |\n| --- |\n"
    rest = len(model.classes) - MOST_CLASSES
    more = f"\n{counted(rest, 'more class is', 'more classes are')} in labels.json.\n" if rest > 0 else ""
    return f"## Classes\n\n{head}{''.join(lines)}{more}"


def _limits(model: SavedModel) -> str:
    if model.thresholds is not None:
        return (
            f"It knows these {counted(len(model.classes), 'label', 'labels')} and nothing else: an image is given "
            "each label whose probability reaches the threshold in calibration.json, so none, one or several. "
            "Figures are of images such as those it was trained on, and say nothing about others.\n"
        )
    return (
        f"It knows these {counted(len(model.classes), 'class', 'classes')} and nothing else: any image is given one of "
        "them. Figures are of images such as those it was trained on, and say nothing about others; probabilities are "
        "calibrated on such images too.\n"
    )


def _licence(base: str) -> str | None:
    """Return the licence of the base weights, None if it is not known."""
    return PACKAGED[base].licence if base in PACKAGED else BUNDLED_UNDER if base in BUNDLED else None


def stated_licence(card: str) -> str | None:
    """Return the licence in the metadata of a card, None if it states none or states that it is unknown."""
    found = _STATED.match(card)
    licence = found["licence"].strip("'\"") if found else UNKNOWN
    return None if licence.lower() == UNKNOWN else licence


def _percent(value: float | None) -> str:
    return "–" if value is None else in_percent(value)


def _text(value: object) -> str:
    """Return text that Markdown shows literally, written as `graft.names` writes names."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", plain(str(value)))
