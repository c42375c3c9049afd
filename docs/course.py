"""Writes docs/course.md from its texts and the outcomes in docs/results: each output is what the command printed.

python docs/course.py            write the page
python docs/course.py --check    change nothing; fail if the page is stale
"""

import io
import os
import textwrap
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from written import write_page

from graft.cli.lab import tell
from graft.lab.record import recorded

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results", HERE / "course.md"


@dataclass(frozen=True)
class Lesson:
    """A title, what to know before, the experiment that shows it, and three questions with their answers."""

    title: str
    text: str
    experiment: str
    questions: tuple[tuple[str, str], ...]


LESSONS = (
    Lesson(
        "What a convolution sees",
        "A convolution looks at a small window and uses the same weights everywhere. Convolutions in a row see more: "
        "the second 3 × 3 sees 3 × 3 outputs of the first, which together see 5 × 5 pixels.",
        "stacked",
        (
            ("How far do four 3 × 3 convolutions see?", "9 px: each adds 2 to the first one's 3."),
            ("How many weights per pair of channels does that take, and one 9 × 9?", "36 against 81."),
            ("What else does the stack have that one kernel has not?", "An activation after each convolution."),
        ),
    ),
    Lesson(
        "What a 1 × 1 convolution is for",
        "It looks at one pixel, and mixes its channels. It cannot see shapes, but it changes how many channels there "
        "are, so that what comes after it is cheap.",
        "pointwise",
        (
            ("What does a 1 × 1 convolution do to the size of the maps?", "Nothing."),
            ("How many weights has one from 256 to 64 channels?", "256 · 64 = 16,384, without biases."),
            ("When does the detour through it not pay?", "When the kernel after it is 1 × 1 itself."),
        ),
    ),
    Lesson(
        "Every channel on its own",
        "A depthwise convolution filters each channel alone, and a 1 × 1 mixes them afterwards. That is how networks "
        "for phones are built.",
        "separable",
        (
            ("Where do the 656 weights come from?", "16 · 9 for the filters and 16 · 32 for the mixing."),
            ("By what factor is it cheaper for many channels?", "By nearly 9, the weights of a 3 × 3 kernel."),
            ("What can it not do that a full one can?", "Filter a channel in several ways for several outputs."),
        ),
    ),
    Lesson(
        "The plan of a network",
        "From the image on, maps become smaller and more numerous, until dense layers classify what is left.",
        "patterns",
        (
            ("Why may there be more maps when they are smaller?", "A map of half the side costs a quarter."),
            ("What does a pixel of a late map stand for?", "A large part of the image: its receptive field."),
            ("Where do you see the plan of any network?", "`graft models NAME`, stage by stage."),
        ),
    ),
    Lesson(
        "How weights must start",
        "A layer multiplies the size of its signal. Twenty layers do so twenty times, so the variance of the first "
        "weights decides whether anything arrives.",
        "variance",
        (
            ("Why does ReLU need twice the variance?", "It drops half of what it gets."),
            ("What becomes of a signal that shrinks by half in each of 20 layers?", "A millionth."),
            ("What makes the start matter less?", "Batch norm, which sets the size anew in each layer."),
        ),
    ),
    Lesson(
        "Blocks that add",
        "A residual block computes what to add to its input. With zero weights it adds nothing, so a deeper network "
        "can always do what a shallower one does.",
        "identity",
        (
            ("What does a block of zeros return?", "Its input."),
            ("Does the textbook's reason, vanishing gradients, hold?", "See `graft lab gradients --quick`: not so."),
            ("What else may become of the input?", "It may be put beside the output: `graft lab joining`."),
        ),
    ),
    Lesson(
        "Early stages are general",
        "Two networks that learn different things can still see with the same first filters. That is why a network "
        "that knows one task is a start for another.",
        "alike",
        (
            ("Which stage is the most alike?", "The first."),
            ("What does that say about freezing?", "What is general can stay as it is."),
            ("What measures how alike stages are?", "Centred kernel alignment (CKA), 1 for the same."),
        ),
    ),
    Lesson(
        "Transfer, and where it ends",
        "A network that knows Latin letters learns Cyrillic ones from five images of each. Of the same letters cut "
        "into shuffled tiles it knows less.",
        "letters",
        (
            ("Where does transfer show first?", "At the start: after ten steps it is already ahead."),
            (
                "Why does it help less with mosaics?",
                "They have strokes, which early maps know, but no letters, which late ones do.",
            ),
            ("How do you see this on your own images?", "`graft compare DATA`."),
        ),
    ),
    Lesson(
        "Choosing the level",
        "A level is a cut: the stages before it keep their weights, the others train. What is frozen does not change "
        "in any bit, so it is computed once.",
        "frozen",
        (
            ("Which level trains least?", "`head`."),
            ("What does the textbook advise for few images like the base's?", "A head on frozen features."),
            ("What does graft do instead of following a rule?", "`graft advise` measures, and shows the evidence."),
        ),
    ),
    Lesson(
        "Trusting the result",
        "A test on images from the same place says little. Here a pattern behind the letters goes with the class, and "
        "in the second test the patterns are swapped.",
        "background",
        (
            ("Which level fell more?", "`all`: it had the freedom to learn the background."),
            ("Why was its accuracy perfect before?", "The background told the class, in the test as well."),
            ("What do you do about your own images?", "Test on other places, and `graft evaluate --robustness`."),
        ),
    ),
)

OPENING = """# A course in ten lessons

`python docs/course.py` writes this page; each output is what the command printed as its outcome was recorded in
`docs/results/`. All commands run offline on what graft carries. Think about the questions before you open an answer.
"""


def page() -> str:
    return "\n".join((OPENING, *(lesson(number, each) for number, each in enumerate(LESSONS, start=1))))


def lesson(number: int, each: Lesson) -> str:
    """A lesson with the recorded output. Raises ValueError for an experiment of which nothing is recorded."""
    found = recorded(RESULTS, each.experiment)
    if found is None:
        raise ValueError(f"expected an outcome of {each.experiment} in {RESULTS}, got none: record it")
    stem = f"{each.experiment}-quick" if found["quick"] else each.experiment
    with patch.dict(os.environ, {"COLUMNS": "100"}), redirect_stdout(io.StringIO()) as printed:
        tell(found)
    output = "\n".join(line.rstrip() for line in printed.getvalue().splitlines())
    answers = "\n".join(
        f"<details><summary>{question}</summary>\n\n{answer}\n\n</details>" for question, answer in each.questions
    )
    return f"""## {number}. {each.title}

{textwrap.fill(each.text.replace(" × ", chr(160) + "×" + chr(160)), 120).replace(chr(160), " ")}

```console
$ {found["command"]}
{output}
```

![{each.title}](results/{stem}.svg)

{answers}
"""


if __name__ == "__main__":
    write_page(PAGE, page, "course.py")
