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
    "plain": "a new head for 3 epochs, then all layers for 20: batch norm with batch statistics, rate 0.001, one-cycle",
    "plain, stored statistics": "the same with batch norm at its stored statistics",
    "solved head, batch statistics": "from the solved head, batch statistics, rate 0.001",
    "rate 0.002": "from the solved head, stored statistics (as in all rows below), rate 0.002",
    "rate 0.001": "rate 0.001",
    "rate 0.0005": "rate 0.0005",
    "rate 0.0003": "rate 0.0003",
    "600 steps": "rate 0.0005, as many epochs as make 600 steps",
    "layer decay 0.8": "rate 0.001, each stage at 0.8 of the next one's rate",
    "average of weights 0.98": "rate 0.0005, moving average of the weights",
    "no label smoothing": "rate 0.0005, no label smoothing",
    "crops of a third, jitter 0.4": "rate 0.0005, stronger augmentation",
    "no augmentation": "rate 0.0005, no augmentation",
    "mixup 0.2": "rate 0.0005, mixup",
    "stages:2": "rate 0.001, the last two stages only",
    "frozen:0.4": "rate 0.001, the last three fifths of the layers only",
    "half own statistics": "on eight tasks: rate 0.0005, batch norm's statistics halfway to the training images'",
    "own statistics": "on eight tasks: rate 0.0005, batch norm's statistics those of the training images",
    "own statistics, batch statistics": "on eight tasks: the same, then batch statistics, rate 0.001",
    "own statistics, batch statistics, 400 steps": "on eight tasks: the same in 400 steps",
}
TEXT = """# What each part of the recipe is worth

`python docs/recipe.py` writes this page from `docs/recipe_runs.jsonl`: {count} runs on {tasks} small tasks, made from
six sets of images, with 60 to 1,000 to train on, and two bases. These are development tasks: the recipe was chosen with
them in view.

The runs were made on one H200, except those marked "on eight tasks", whose images are far from the base's own: they
were made on one H100. `benchmarks/recipe.py` squeezes the images to 192 px and augments them on the device. Not every
variant had time for both seeds.

Differences are in points of test top-1 from `plain`, the script that most practitioners have at hand
(`benchmarks/peers/plain.py`). They are paired by task and seed, and `error` is their standard error over the pairs. The
head that training begins with differs from `plain` by {head:+.2f} points on average.

{table}

The columns "of the way" score weights between the start and the end of training: {shares} of the way.
`average` scores the moving average of the weights.

## What follows

- **Batch norm at its stored statistics.** The initial head is solved on features that are normalised by stored
  statistics. A batch of 32 has different ones, so the loss begins at three to five times its former value, accuracy
  falls by tens of points in the first epochs, and the solution is lost. With stored statistics, the solved start is
  worth having, and even the plain script gains. Stored statistics also make weights between the start and the end
  meaningful: with batch statistics, such weights were one to two points worse than those at the end.
- **A lower rate.** At 0.002, some runs never recover. MobileNet 0.25 is best at 0.0005 and MobileNetV2 at 0.0003, so
  the rate falls with the fourth root of the network's size.
- **More steps.** Training for 600 steps instead of 20 epochs (100 to 600 steps) is the largest single gain. graft takes
  400 steps, in up to 60 epochs: in the time that the plain script takes to train all layers once, two fits of a crown
  can take that many.
- **Augmentation** is worth about a point here. Stronger crops, and mixup, are worth no more.
- **Weights a little before the end.** Blending a fifth of the starting weights into those that are kept (WiSE-FT) is
  worth a little. It is worth most on images near the base's own, where training would otherwise lose to the head. With
  a moving average, the optimum is flat, and the `val` curve does not follow the noise of single steps.
- **The cut.** Training the last three fifths of the layers ends where training all layers ends, in about half the time.

## The fall in the first epochs

`val` accuracy falls after the start for two reasons:

- **Batch statistics**, as above, under a head that was solved for stored ones.
- **The learning rate.** At its peak, each step moves the weights by about as much as Adam's rate says, whatever the
  gradient, and the features under the head move faster than the head can follow. At rate 0.0005 without an average,
  `val` accuracy on sketches fell from 77.5 to 69.6 % in the third epoch, and ended at 85.0 %.

The weights that graft scores and keeps are a moving average, blended with a share of the start. That average used to
forget its start within a few steps, as an average that begins at random weights should, and so it followed the fall.
Now the start counts as much as any step, the average reaches over a quarter of all steps, and the rate rises over 30 %
of them instead of 10 %.

This was measured with the test images as `val` (147 to 400 of them), on MobileNet 0.25 with stages trained from 40 % of
the layers on, in 400 steps. The eleven pairs by task and seed come from development tasks: ants and bees, blood cells,
sketches (20 per class), digits (10) and small photographs (20).

| | falls by more than 2 points in the first ten epochs | lowest, on average | lowest | end, difference |
|---|--:|--:|--:|--:|
| rate rises over 10 %, an average of 0.98 that forgets its start | 7 of 11 | -4.0 | -11.3 | |
| an average of 0.99 from the start | 2 of 11 | -1.1 | -3.8 | +0.25 |
| the same, and the rate rises over 30 % (as it is now) | 1 of 11 | -0.5 | -2.0 | +0.62 |

Averages that weight later steps by a power of their number fell nearly as much as before (three pairs, -3.5 on
average).

## Tried since, on two cores

These experiments use the current recipe and MobileNet 0.25 unless they say otherwise. They report test top-1 from
single runs or from pairs by task and seed, so a difference of two points on one task may be chance. "From 40 %" means
that all stages from 40 % of the layers on are trained; numbers in brackets are images per class.

### Depth, steps and rate

**Depth and steps.** Only sketches gain from depth with 200 steps as well as with 400. More steps gain little except on
digits (40): .935, and .953 with 800 steps.

| | ants and bees | sketches (20) | blood cells |
|---|--:|--:|--:|
| from 40 %, 400 steps | .876 | .738 | .953 |
| all stages, 400 steps, in three times the time | .902 | .767 | .960 |
| from 40 %, 800 steps | .869 | .725 (500 steps) | .960 |
| all stages, 200 steps | .869 | .763 | .926 |

**Depth, once more**, in whole commands as `benchmarks/accuracy.py` runs them, with seed 0. All stages gain +0.9 points
on average over the six pairs, in 1.0 to 1.9 times the time. Training from 20 % gains nothing.

| | from 40 % | from 20 % | all stages |
|---|--:|--:|--:|
| sketches (20) | .733 | .746 | .762 |
| ants and bees | .869 | .863 | .895 |
| blood cells | .946 | .925 | .946 |
| small photographs (20) | .577 | .587 | .588 |
| digits (10) | .887 | .869 | .882 |
| textures (10) | .654 | .646 | .646 |

Sketches, and ants and bees, had gained before as well.

**Depth, with the luck of single fits averaged out.** A fit of the same images in another order ends elsewhere: its
accuracy varies by 0.9 points (standard deviation). So the refit alone was repeated, four times from 40 % and three
times with all stages, on six sets. On average over them, all stages change accuracy by -0.3 points and take 2.5 times
as long. The gains above were mostly chance, and training all stages has not been adopted.

| mean of repeated fits | from 40 % | all stages | weights of the four fits averaged |
|---|--:|--:|--:|
| ants and bees | .886 | .882 | .889 |
| sketches (20) | .753 | .764 | .746 |
| textures (10), seed 0 | .643 | .633 | .658 |
| textures (10), seed 1 | .644 | .638 | .652 |
| small photographs (20) | .582 | .592 | .579 |
| digits (10) | .857 | .836 | .860 |

Averaging the weights of the four fits from 40 %, which costs nothing at prediction, gains +0.3 points over their mean
in these six sets and four times the training time. That has not been adopted, either.

**All layers with more images.** From 40 %, with all layers, and with the plain script, small photographs (200) gave
.722, .726 and .726, in 46, 79 and 275 s of processor time. Digits (60) gave .928, .935 and .950; all layers at twice
the rate gave .955.

Once more, in whole commands with 455 to 600 images: digits (60) gave .949 from 40 % and .941 with all layers, sketches
(65) .817 and .838, textures (59) .747 and .754, small photographs (60) .655 and .651. All layers take twice the time
for +0.4 points on average, and again it is the sketches that gain.

**A higher rate, now that the average begins at the start.** With training from 40 %, doubling the rate changed
accuracy by -0.4 points on average over 17 pairs. Three times the rate was worse than twice. Nothing that is measured
before training tells digits from sketches. The changes by pair:

- digits: +0.5 and +0.8 (10), +2.1 (60)
- ants and bees: 0.0 and +1.3
- textures: +0.8 and -2.8 (10)
- small photographs: -1.3 and -2.1 (20), +0.6 and -1.2 (60), -0.5 and -1.7 (100)
- sketches: -0.8 and -0.8 (20), 0.0 and -1.7 (60)

**Twenty epochs with more images.** From about 1,300 images on, training used to take ten epochs, and `val` accuracy was
still rising when they ended. The table compares ten and 20 epochs from 40 %, refitted, at 96 px with seed 0, and the
plain script.

| | ten epochs | 20 epochs | plain script |
|---|--:|--:|--:|
| small photographs (300) | .732 | .755 | .753 |
| digits (200) | .968 | .977 | .981 |
| small photographs (1,000 in all) | .665 (13 epochs) | .667 | .720 |

All layers for ten epochs gave .725 on the first of these sets and .967 on the second. So training now takes 20 epochs:
two fits of 20 from 40 % take about as long as the plain script's 23.

### A head over several stages

**What the race does not see.** With 2,000 digits and seed 0, `auto` prefers the head over all stages (.942 of the test
images) to stages from 40 % (.977). On the 400 images held out from all levels, the stages gained 3.5 points over the
usual head, and the head over all stages gained 3.0; by cross-validation on all images, that head gained 4.7. Comparing
the stages with the usual head by way of the head over all stages, which is known from all images, gave them a gain of
5.2 points, but with a larger error. The choice was the same, so the comparison was left as it was.

**A head that sees all trained stages.** Training from 40 % began with a head over the means and maxima of all trained
stages instead of one over the last stage. On average over all pairs, that changed accuracy by +0.4 ± 0.6 points.

| | seed 0 | seed 1 |
|---|--:|--:|
| sketches (20) | +2.1 | 0.0 |
| digits (10) | +2.5 | +1.0 |
| digits (40) | +1.9 | +1.5 |
| textures (10) | +2.0 | -0.7 |
| ants and bees | +1.3 | +2.6 |
| small photographs (20) | -0.9 | -1.2 |
| blood cells (20) | -1.3 | -5.4 |

Before training, in folds of the training images, the head over all stages had a loss smaller by more than a standard
error on digits and sketches alone. There it was worth +1.5 points on average, so these folds now decide for each set.
Means without maxima changed accuracy by -0.1 ± 0.4 over twelve of the pairs.

**The race, when the head sees several stages.** Training then begins about where the head over all stages ends.
Training from 40 % added these gains to that head, in points:

- with seeds 0 and 1: +6.3 and +0.8 on sketches (20), +4.8 and +0.3 on digits (10)
- not in view when the rule was made: +5.0 and +5.0 on sketches (60 to 96), +2.9 and +3.5 on digits (40)

So stages are compared with that head on the images held out from both, with an expected gain of 3 ± 3 points. To this
is added what that head gains over the usual head on all images. Before, stages were compared with the usual head
directly, on few images, and `auto` took the head over all stages for 40 digits with both seeds (.925, .916). Now it
takes stages (.954, .951).

### Refitting and the weights that are kept

**Refitting**, on average over seven tasks:

- .803 when fitted again on all images
- .786 for the fit on four fifths that was measured
- .789 for the averaged weights of two such fits; averaging the measured fit and the refit was no better than the refit
- .785 when the measured fit was trained further, on all images, for another quarter of the steps, which would save most
  of the second fit's time

So more images are worth more than averages, and the second fit starts from the beginning.

**A head gains from refitting, too.** Fitted on four fifths and again on all images, the head over all stages gained
+1.3 points over 14 pairs on sketches, photographs, digits and cells. That is nearly as much as stages gain, so the race
gives credit to neither.

**A larger share of the start, on images like the base's own.** Keeping half of the starting weights instead of a
fifth, with training from 40 % and seeds 0 and 1, changed textures (10) by -1.5 and +1.2 points, textures (40) by +0.1
and -0.5, and ants and bees by +0.6 and +2.0. That averages +0.3 over six pairs, which is no evidence yet.

**Few images like the base's own.** On the same six pairs, training from 40 % differed from the head by -6.8 and +2.0
points on textures (10), by -1.1 and +2.8 on textures (40), and by +2.6 and +1.9 on ants and bees (97).

Where training loses, it already loses a tenth of the way from the start: .699 for the head, .689 at the start, .664 a
tenth of the way, .639 a quarter of the way, and .631 with the recipe as it is. At a rate of 0.0002 it loses too
(.658). So the gain that the race expects before a trial grows with the number of images per class.

### Augmentation and batch norm

**Flips** are worth -1.8 points on digits (four pairs) and +0.3 elsewhere (ten pairs), where single tasks range from
-1.8 to +4.2. They are used unless mirror images are classified worse by more than a standard error.

**Batch norm that adapts to the images.** Moving its statistics halfway to those of the training images gained two to
five points on one test half of the blood cells, both for the head and for what was trained from it. It lost on digits
(-4), small photographs (-2) and sketches (-1).

But cross-validation on the other half of the same cells put the adapted statistics two to five points behind, and with
the halves exchanged they gained nothing: half of 300 cells is no evidence. A trial on the training images would have
rejected them, so `--batch-norm` offers `stored` and `batch` and nothing else.

### Heads

**Crops.** Heads were fitted on one crop, on that crop and either a nearer one or the whole image, and on all three: 23
sets of 20 to 420 photographs, textures and sketches, on two bases, four draws each. Three crops are 0.6 points better
than one, and two are 0.3 better.

Letting the folds choose between one crop and three is as good as always taking three. So one crop is used only if it is
better in the folds by more than a standard error. (Before, the smaller loss decided. On ants and bees in float32, it
was .0778 for one crop and .0782 for three, and one crop gave .954 of `val` instead of .961.)

**Heads for a few images.** Three alternatives were compared with the penalised logistic head: class means, cosine
classifiers, and linear discriminants with shrinkage (Ledoit and Wolf 2004; also fixed). Seven sets were used, with 1,
2, 3 and 5 images per class and six draws of each. The table shows the share of the test images that is classified
correctly, on average.

| images per class | 1 | 2 | 3 | 5 |
|---|--:|--:|--:|--:|
| logistic head | .450 | .533 | .577 | .648 |
| cosine classifier, the best of the class means | .451 | .530 | .571 | .621 |
| discriminants | – | .510 | .557 | .627 |

The logistic head, whose penalty its folds choose, remains the only one.
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
