"""The textbook's worked examples as questions, with what the textbook itself says about each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graft.workflows.question import LETTERS, Question
from graft.workflows.worked.example import Example
from graft.workflows.worked.examples import EXAMPLES
from graft.workflows.worked.formulas import FORMULAS

TEXTBOOK = "the textbook's own"
Answer = tuple[int | float | str, ...]


def worked_questions() -> tuple[Question, ...]:
    """Return a question for every worked example, in the order of the families."""
    return tuple(ask(example) for examples in EXAMPLES.values() for example in examples)


def ask(example: Example) -> Question:
    """Return the question whose answer graft computes, with the verdict on what the textbook prints."""
    asked = ASKED.get(example.id, Asked())
    right = example.right()
    choices = asked.choices or (("yes", "no") if isinstance(right, bool) else ())
    return Question(
        f"textbook-{example.id}",
        TEXTBOOK,
        asked.text or f"{example.question}{asked.more}",
        asked.read(right),
        FORMULAS[example.id],
        example.unit,
        choices,
        _verdict(example),
    )


def flat(value: Any) -> Answer:
    """Flatten a figure to its numbers, in order, through lists and dict values; True and False become the first two
    choices.
    """
    if isinstance(value, bool):
        return (LETTERS[0 if value else 1],)
    if isinstance(value, dict):
        return flat(list(value.values()))
    if isinstance(value, list | tuple):
        return tuple(number for each in value for number in flat(each))
    return () if value is None else (value,)


@dataclass(frozen=True)
class Asked:
    """How to ask for a figure: words after the question, how to read its answer, and choices if it is not a number.

    `text` is a full question for figures from a table whose wording refers to the rows above.
    """

    more: str = ""
    read: Callable[[Any], Answer] = flat
    choices: tuple[str, ...] = ()
    text: str = ""


def _number_in(text: Any) -> int:
    """Return the first number in a string."""
    digits = "".join(each if each.isdigit() else " " for each in str(text)).split()
    return int(digits[0])


def _scenario_letters(right: dict[str, str]) -> Answer:
    return tuple(LETTERS[SCENARIO_CHOICES.index(each)] for each in right.values())


SCENARIO_CHOICES = (
    "feature extractor",
    "freeze first third to half",
    "freeze 60-80 percent (text) or full fine-tuning (table)",
    "full fine-tuning",
)
WORDINGS = ("learn F(x) + x", "learn F(x) = H(x) - x, output F(x) + x")

ASKED = {
    "lenet_c1_map": Asked(" on 28 px padded by two, channels first"),
    "lenet_c3_params": Asked(": 16 filters of 5 × 5 over all six maps"),
    "lenet_c1_params": Asked(": six filters of 5 × 5 on one map"),
    "lenet_fc2_params": Asked(", a dense layer from 120 to 84"),
    "lenet_fc3_params": Asked(", a dense layer from 84 to 10"),
    "lenet_s4_output": Asked(", a 2 × 2 pool on 16 maps of 10 × 10, channels first"),
    "lenet_summary_table": Asked(
        ": enter the parameters of the convolution, pool, convolution, pool, convolution, flattening and the two "
        "dense layers",
        lambda rows: tuple(params for _, _, params in rows),
    ),
    "lenet_lr_schedule_code": Asked(
        " (5e-4 while the number is at most 2, 2e-4 up to 5, 5e-5 up to 9): epochs at the first three"
    ),
    "lenet_lr_schedule_paper": Asked(": passes and rate of each stage in pairs, then the rate of all later passes"),
    "alexnet_input_size": Asked(
        " (11 × 11, stride 4, no padding)", lambda sides: tuple(map(_number_in, sides.values()))
    ),
    "alexnet_layer_text": Asked(
        " (convolutions, pools and dense layers, the softmax with the last): its number",
        lambda name: (_number_in(name),),
    ),
    "vgg_configuration_table": Asked(" as the textbook prints them: A, A-LRN, B, C, D, E"),
    "vgg19_more_than_144": Asked(
        f" ({144_000_000:,})", lambda params: (LETTERS[0 if params > 144_000_000 else 1],), ("yes", "no")
    ),
    "vgg16_head_replaced": Asked(
        ": parameters of the frozen part, then of a head on the flattened map, on 4,096 and on 512"
    ),
    "googlenet_module_count": Asked(": three numbers"),
    "googlenet_params": Asked(
        " of 2014, without and with its two auxiliary classifiers",
        lambda counts: (counts["paper_network"], counts["paper_network_with_auxiliary"]),
    ),
    "inception_5x5_cost": Asked(text="Multiplications of 32 filters of 5 × 5, padded, on 200 maps of 32 × 32"),
    "inception_reduce_1x1": Asked(text="Multiplications of 16 filters of 1 × 1 on 200 maps of 32 × 32"),
    "inception_reduce_5x5": Asked(text="Multiplications of 32 filters of 5 × 5, padded, on 16 maps of 32 × 32"),
    "inception_reduced_cost": Asked(
        text="Multiplications of 16 filters of 1 × 1 on 200 maps of 32 × 32 and 32 of 5 × 5, padded, on these 16"
    ),
    "conv5x5_direct": Asked(text="Weights, without biases, of a 5 × 5 convolution from 256 to 32 channels"),
    "conv1x1_reduce": Asked(text="Weights, without biases, of a 1 × 1 convolution from 256 to 64 channels"),
    "conv5x5_after_reduce": Asked(text="Weights, without biases, of a 5 × 5 convolution from 64 to 32 channels"),
    "conv1x1_then_5x5": Asked(
        text="Weights, without biases, of a 1 × 1 convolution from 256 to 64 channels and a 5 × 5 one from there to 32"
    ),
    "standard_conv_3x3": Asked(text="Weights, without biases, of a 3 × 3 convolution from 16 to 32 channels"),
    "depthwise_separable_3x3": Asked(
        text="Weights, without biases, of a depthwise separable 3 × 3 convolution from 16 to 32 channels"
    ),
    "residual_wording": Asked(read=lambda right: (LETTERS[WORDINGS.index(right)],), choices=WORDINGS),
    "transfer_scenarios": Asked(
        ": small and similar, large and similar, small and different, large and different, a letter for each",
        _scenario_letters,
        SCENARIO_CHOICES,
    ),
}


def _verdict(example: Example) -> str:
    """Return what the textbook prints and whether it is right, with the comment of the gallery."""
    printed = _printed(example.textbook)
    verdict = {
        "agrees": f"the textbook prints {printed}, which agrees",
        "wrong": f"the textbook prints {printed}, which is wrong; right is {_printed(example.right())}",
        "ambiguous": "the textbook gives no figure, or several that differ",
    }[example.verdict]
    comment = example.explained()
    return f"{verdict}. {comment}" if comment else f"{verdict}."


def _printed(figure: Any) -> str:
    if isinstance(figure, bool):
        return "yes" if figure else "no"
    if isinstance(figure, int):
        return f"{figure:,}"
    if isinstance(figure, dict):
        return ", ".join(f"{key}: {_printed(value)}" for key, value in figure.items())
    if isinstance(figure, list | tuple):
        return ", ".join(map(_printed, figure))
    return "the rest" if figure is None else f"{figure:g}" if isinstance(figure, float) else str(figure)
