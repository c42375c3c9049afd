"""Writes docs/recipe.md from docs/recipe_runs.jsonl, which benchmarks/recipe.py records.

python docs/recipe.py            write the page
python docs/recipe.py --check    change nothing; fail if the page is stale
"""

import json
from pathlib import Path
from statistics import mean, stdev

from written import write_page

HERE = Path(__file__).parent
RUNS, PAGE = HERE / "recipe_runs.jsonl", HERE / "recipe.md"
# What a change is compared with: the whole recipe of a practitioner, and the variant that differs in one part.
PLAIN, USUAL = "plain", "rate 0.0005"
SHARES = ("0.3", "0.5", "0.7", "0.85", "1.0")
PARTS = {
    "plain": "a new head for 3 epochs, then all layers for 20: batch norm by the batch, rate 0.001, one-cycle",
    "plain, stored statistics": "the same with batch norm at its stored statistics",
    "solved head, batch statistics": "from the solved head, batch norm by the batch, rate 0.001",
    "rate 0.002": "from the solved head, stored statistics (as all below), rate 0.002",
    "rate 0.001": "rate 0.001",
    "rate 0.0005": "rate 0.0005",
    "rate 0.0003": "rate 0.0003",
    "600 steps": "rate 0.0005, and as many epochs as make 600 steps",
    "layer decay 0.8": "rate 0.001, each stage at 0.8 of the next one's",
    "average of weights 0.98": "rate 0.0005, moving average of the weights",
    "no label smoothing": "rate 0.0005, no label smoothing",
    "crops of a third, jitter 0.4": "rate 0.0005, stronger augmentation",
    "no augmentation": "rate 0.0005, no augmentation",
    "mixup 0.2": "rate 0.0005, mixup",
    "stages:2": "rate 0.001, the last two stages only",
    "frozen:0.4": "rate 0.001, the last three fifths of the layers only",
    "half own statistics": "on eight tasks: rate 0.0005, batch norm's statistics half those of the training images",
    "own statistics": "on eight tasks: rate 0.0005, all of them those of the training images",
    "own statistics, batch statistics": "on eight tasks: the same, then by the batch, rate 0.001",
    "own statistics, batch statistics, 400 steps": "on eight tasks: the same in 400 steps",
}
TEXT = """# What each part of the recipe is worth

`python docs/recipe.py` writes this page from `docs/recipe_runs.jsonl`: {count} runs on {tasks} small tasks (six
sets of images, with 60 to 1,000 to train on, and two bases), which are development tasks: the recipe was chosen with
them in view. They ran on one H200 (those on eight tasks, whose images are far from the base's own, on one H100) with
images squeezed to 192 px and augmented on the device, which is what `benchmarks/recipe.py` does; not every variant had
time for both seeds. Differences are in points of test top-1, paired
by task and seed, with their standard error over the pairs. `plain` is the script that most practitioners have at hand
(`benchmarks/peers/plain.py`). The head that training begins with is {head:+.2f} points from it on average.

{table}

Columns to the right say how good the weights between the start and the end are: {shares} of the way.

## What follows

- **Batch norm at its stored statistics.** The head at the start is solved on features that are normalised by stored
  statistics. A batch of 32 has others: the loss then begins at three to five times what it was, accuracy falls by tens
  of points in the first epochs, and what was solved is lost. With stored statistics the solved start is worth having,
  and even the plain script gains. It also makes weights between start and end mean something: with statistics of the
  batch they were one to two points worse than the end.
- **A lower rate.** At 0.002 some runs never come back. MobileNet 0.25 is best at 0.0005, MobileNetV2 at 0.0003,
  so the rate falls with the fourth root of the size.
- **More steps.** 600 in place of 20 epochs (100 to 600 steps) is the largest single gain. graft takes 400, up to 60
  epochs, which is what two fits of a crown have time for while the plain script trains all layers once.
- **Augmentation** is worth about a point here; stronger crops, and mixup, no more than that.
- **Weights a little before the end.** A fifth of the start in the weights that are kept (WiSE-FT) is worth a little,
  most where the images are near the base's own, where training would otherwise lose to the head. With a moving average
  the optimum is flat, and the curve of val does not follow the noise of single steps.
- **The cut.** The last three fifths of the layers end where all layers end, in about half the time.

## The fall in the first epochs

Val falls after the start for two reasons. The first is above: batch statistics under a head that was solved for stored
ones. The second is the rate: while it is at its peak, each step moves the weights by about as much as Adam's rate says
whatever the gradient, and features move under the head faster than the head follows; with rate 0.0005 and no average,
val of sketches fell from 77.5 to 69.6 % in the third epoch and ended at 85.0 %.

The weights that graft scores and keeps are a moving average with a share of the start. That average used to forget its
start within some steps, as one from random weights should, and so followed the fall. Now the start counts as any step
does, the average reaches over a quarter of all steps, and the rate rises over 30 % of them in place of 10 %. Measured
with the test images as val (147 to 400), MobileNet 0.25, stages from 40 % on, 400 steps; ants and bees, blood cells,
sketches (20 per class), digits (10) and small photographs (20), development tasks, eleven pairs by task and seed:

| | falls by more than 2 points in the first ten epochs | lowest, on average | lowest | end, difference |
|---|--:|--:|--:|--:|
| rate rises over 10 %, an average of 0.98 that forgets its start | 7 of 11 | -4.0 | -11.3 | |
| an average of 0.99 from the start | 2 of 11 | -1.1 | -3.8 | +0.25 |
| the same, and the rate rises over 30 % (as it is now) | 1 of 11 | -0.5 | -2.0 | +0.62 |

Averages in which later steps count by a power of their number fell nearly as before (three pairs, -3.5 on average).

## Tried since, on two cores

With the recipe as it is, MobileNet 0.25, test top-1, single runs or pairs by task and seed, so that a difference of two
points on one task is chance.

- **Depth and steps.** Stages from 40 % on, 400 steps: ants and bees .876, sketches (20 per class) .738, blood cells
  .953. All stages, 400 steps: .902, .767, .960, in three times the time. 800 steps from 40 % on: .869, .725 (500),
  .960. All stages, 200 steps: .869, .763, .926. Only sketches gain from depth; more steps gain little but on digits
  (40 per class: .935, with 800 steps .953).
- **Depth, once more**, whole commands as `benchmarks/accuracy.py` runs them, seed 0: from 40 % on, from 20 % on and
  all stages give sketches (20 per class) .733, .746, .762, ants and bees .869, .863, .895, blood cells .946, .925,
  .946, small photographs (20) .577, .587, .588, digits (10) .887, .869, .882, textures (10) .654, .646, .646: all
  stages +0.9 over six pairs, in 1.0 to 1.9 times the time; from 20 % on nothing. Sketches, and ants and bees, gained
  before as well. Not taken yet: with a few images the race fits four times, so that all stages would cost minutes on
  a base of usual size.
- **A higher rate, now that the average begins at the start.** Twice the rate at stages from 40 % on: digits +0.5, +0.8
  (10 per class) and +2.1 (60), but ants and bees 0.0 and +1.3, textures (10) +0.8 and -2.8, small photographs -1.3 and
  -2.1 (20), +0.6 and -1.2 (60), -0.5 and -1.7 (100), sketches -0.8 and -0.8 (20), 0.0 and -1.7 (60): -0.4 over 17
  pairs. Three times the rate was worse than twice. Nothing that is measured before training tells digits from sketches.
- **Twenty epochs where there are more images.** From about 1,300 images on there were ten, and val still rose at their
  end. Stages from 40 % on, refitted, MobileNet 0.25 at 96 px, seed 0, ten and 20 epochs, beside the plain script: small
  photographs, 300 per class, .732, .755 and .753, digits, 200 per class, .968, .977 and .981; with 1,000 photographs,
  where there were 13, .665, .667 and .720. All layers for ten epochs gave .725 and .967. So there are 20 now; two fits
  of 20 from 40 % on take about as long as the 23 of the plain script.
- **What the race does not see.** Of 2,000 digits, seed 0, `auto` takes the head over all stages (.942 of the test
  images) before stages from 40 % on (.977): these gained 3.5 points over the head on the 400 images held out from all
  levels, the other 3.0 there and 4.7 on all images by cross-validation. Comparing the stages with the head by way of
  the other head, which is known from all images, gave them 5.2 points, but with a larger error, and the choice was the
  same; it was left.
- **A head that sees all stages that are trained.** Stages from 40 % on, begun with a head over the means and maxima of
  all of them in place of one over the last: sketches (20 per class) +2.1 and 0.0 with seeds 0 and 1, digits (10) +2.5
  and +1.0, digits (40) +1.9 and +1.5, textures (10) +2.0 and -0.7, ants and bees +1.3 and +2.6, small photographs (20)
  -0.9 and -1.2, blood cells (20) -1.3 and -5.4: +0.4 ± 0.6. In folds of the training images, before training, the head
  over all stages had the smaller loss by more than a standard error on digits and sketches alone, and there it was
  worth +1.5 on average; so these folds decide, set by set. Means without maxima: -0.1 ± 0.4 over twelve of the pairs.
- **The race, where the head sees several stages.** Training then begins about where the head over all stages ends: from
  40 % on it added +6.3 and +0.8 points on sketches (20 per class), +4.8 and +0.3 on digits (10), seeds 0 and 1, and,
  not in view when the rule was made, +5.0 and +5.0 on sketches (60 to 96 per class), +2.9 and +3.5 on digits (40). So
  stages are compared with that head on the images held out from both, with 3 ± 3 points expected, and stand on what it
  gains over the usual head on all images. Before, few images told them from the usual head directly, and `auto` took
  the head over all stages for 40 digits with both seeds (.925, .916); now it takes stages (.954, .951).
- **A head gains from refitting, too.** The head over all stages, 14 pairs on sketches, photographs, digits and cells,
  fitted on four fifths and again on all: +1.3 points, nearly as much as stages do, so the race gives neither credit.
- **All layers where there are more images.** Small photographs, 200 per class: .722 from 40 % on, .726 for all layers,
  .726 for the plain script, in 46, 79 and 275 s of processor. Digits, 60 per class: .928, .935 and .950; all layers at
  twice the rate .955.
- **Refitting.** Fitted again on all images: .803 on average over seven tasks. The fit on four fifths that was measured:
  .786. Weights of two such fits averaged: .789; of that fit and the refit: no better than the refit. That fit trained
  on for another quarter of the steps on all images, which would save most of the second fit's time: .785. So images
  are worth more than averages, and the second fit is done from the start.
- **Flips** are worth -1.8 points on digits (four pairs) and +0.3 elsewhere (ten pairs), where single tasks range from
  -1.8 to +4.2. They are used unless mirror images are known worse by more than a standard error.
- **Batch norm that knows the images.** Statistics moved half way to those of the training images were two to five
  points better on a test half of the blood cells, for the head and for what was trained from it, and worse on digits
  (-4), small photographs (-2) and sketches (-1). But cross-validation on the other half of the same cells had them two
  to five points worse, and with the halves exchanged they gained nothing: half of 300 cells is no evidence. A trial on
  the training images would have refused them, so graft has `--batch-norm` with `stored` and `batch` and no more.
- **A larger share of the start, on images like the base's own.** Half of the start in the weights that are kept, in
  place of a fifth, MobileNet 0.25, from 40 % on, seeds 0 and 1: textures (10 per class) -1.5 and +1.2, textures (40)
  +0.1 and -0.5, ants and bees +0.6 and +2.0; +0.3 over six pairs, which is nothing yet.
- **Few images like the base's own.** On the same six, training from 40 % on against the head: -6.8 and +2.0 with 10
  textures per class, -1.1 and +2.8 with 40, +2.6 and +1.9 on ants and bees (97). Where it loses, it loses with a
  tenth of the way already (.699 for the head, .689 at the start, .664, .639 with a quarter, .631 as it is), and with
  a rate of 0.0002 (.658). So what the race expects of it before it is tried grows with the images per class.
- **Crops of the head.** Heads on one crop, on that and a nearer or the whole image, and on all three, 23 sets of 20 to
  420 photographs, textures and sketches on two bases, four draws each: the three together are 0.6 points better than
  the one, two of them 0.3; what the folds choose between one and three is as good as always taking three, so
  one alone is taken only where the folds know it better by more than a standard error. (Before, the smaller loss
  counted: .0778 for one and .0782 for three on ants and bees in float32, with .954 of val in place of .961.)
- **Heads for a few images.** Class means, cosine classifiers and linear discriminants with shrinkage (Ledoit and Wolf
  2004; also fixed) were compared with the penalised logistic head on seven sets, with 1, 2, 3 and 5 images per class
  and six draws of each. On average the logistic head knows .450, .533, .577 and .648 of the test images, the cosine
  classifier, the best of the class means, .451, .530, .571 and .621, the discriminants .510, .557 and .627 from two
  on. The logistic head, whose penalty its folds choose, stays the only one.
"""


def read() -> dict[tuple[str, int], dict[str, dict[str, float]]]:
    """Accuracies by task and seed, then by variant."""
    found: dict[tuple[str, int], dict[str, dict[str, float]]] = {}
    for line in RUNS.read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        found.setdefault((run["task"], run["seed"]), {})[run["variant"]] = run["top1"]
    return found


def differences(runs: dict, variant: str, key: str) -> list[float]:
    """Points by which a variant's weights are above the end of the plain script, by task and seed."""
    both = [of for of in runs.values() if PLAIN in of and key in of.get(variant, {})]
    return [100 * (of[variant][key] - of[PLAIN]["end 1.0"]) for of in both]


def cell(found: list[float]) -> str:
    return f"{mean(found):+.2f}" if found else ""


def page() -> str:
    runs = read()
    rows = [
        f"| variant | pairs | {' | '.join(f'{share} of the way' for share in SHARES)} | error | average |",
        f"|---|--:|{'--:|' * (len(SHARES) + 2)}",
    ]
    for variant, words in PARTS.items():
        ends = differences(runs, variant, "end 1.0")
        error = stdev(ends) / len(ends) ** 0.5 if len(ends) > 1 else 0.0
        cells = [cell(differences(runs, variant, f"end {share}")) for share in SHARES]
        average = cell(differences(runs, variant, "average 1.0"))
        rows.append(f"| {words} | {len(ends)} | {' | '.join(cells)} | {error:.2f} | {average} |")
    count = sum(len(of) for of in runs.values())
    head = mean(100 * (of[PLAIN]["head"] - of[PLAIN]["end 1.0"]) for of in runs.values() if PLAIN in of)
    tasks = len({task for task, _ in runs})
    return TEXT.format(count=count, tasks=tasks, head=head, table="\n".join(rows), shares=", ".join(SHARES))


if __name__ == "__main__":
    write_page(PAGE, page, "recipe.py")
