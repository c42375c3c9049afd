"""Several labels per image on mosaics of CIFAR-10: graft's levels beside scikit-learn's one-vs-rest regression.

    python benchmarks/multi_label.py SHARED [--train 1000] [--test 500] [--levels head,head:stages,frozen:0.4]

A mosaic is a 2 by 2 grid of four images of CIFAR-10, 64 px in all, and its labels are the classes among them: one to
four of ten. Every level is trained as a user would train it, on a table with a cell of labels for each image, and
measured on a test split that no weights saw. Beside it stands a logistic regression of scikit-learn for each label, on
the same frozen features, with the penalty of each label chosen by its own cross-validation, by log loss or by average
precision; graft's head on these features, each image in one crop as there; and the order by chance.
"""

import argparse
import csv
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, TILES = 32, 4
# How scikit-learn's folds score, and the inverse penalties: a grid like graft's, and scikit-learn's default ten.
PEERS = {
    "neg_log_loss": [10.0**power for power in np.arange(-5.0, 2.1, 0.5)],
    "average_precision": [10.0**power for power in np.linspace(-4, 4, 10)],
}


def mosaics(parquet: Path, count: int, seed: int, start: int = 0) -> tuple[list[np.ndarray], list[list[str]]]:
    """Draw `count` mosaics, uint8 (64, 64, 3), from the images of a Parquet file from row `start` on, with labels."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(parquet).slice(start, count * TILES)
    names = json.loads(table.schema.metadata[b"classes"])
    cells, labels = table["image"].combine_chunks().field("bytes"), table["label"].to_numpy()
    order = np.random.default_rng(seed).permutation(len(table))
    images, of_images = [], []
    for rows in order.reshape(count, TILES):
        tiles = [np.asarray(Image.open(io.BytesIO(cells[int(row)].as_py())).convert("RGB")) for row in rows]
        images.append(np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])]))
        of_images.append([names[label] for label in sorted(set(labels[rows].tolist()))])
    return images, of_images


def write_mosaics(shared: Path, folder: Path, train: int, test: int, seed: int = 0) -> Path:
    """Write mosaics as PNG files to `folder`, and their table: path, labels separated by bars, split."""
    rows = []
    for split, count in (("train", train), ("test", test)):
        images, labels = mosaics(shared / "datasets" / "cifar10" / f"{split}.parquet", count, seed)
        for number, (image, names) in enumerate(zip(images, labels, strict=True)):
            path = folder / f"{split}-{number:05}.png"
            Image.fromarray(image).save(path)
            rows.append((path.name, "|".join(names), split))
    table = folder / "mosaics.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return table


def features_of(table: Path, base: str, image_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features of the frozen base, float32 (n, D), and 0/1 labels (n, C): first of train and val, then of test."""
    import graft
    from graft.data.dataset import TEST, TRAIN
    from graft.features.engine import choose
    from graft.features.extraction import extract
    from graft.images.preprocessing import with_choices
    from graft.weights.base import load_base

    dataset, start = graft.Dataset.from_table(table, multi_label=True), load_base(base)
    preprocessing = with_choices(start.preprocessing, image_size, None)
    found = extract(start.network.before_head("last"), dict(dataset.splits), preprocessing, choose("auto", "auto"))
    parts = []
    for name in (TRAIN, TEST):
        parts += [found[name].values.float().numpy(), dataset.label_matrix(dataset.splits[name].labels)]
    return parts[0], parts[1], parts[2], parts[3]


def one_vs_rest(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, of_test: np.ndarray, scoring: str, penalties: list[float]
) -> float:
    """Mean average precision of scikit-learn's logistic regressions, one per label, each with the penalty that its own
    five folds score best."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.metrics import average_precision_score
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegressionCV(Cs=penalties, cv=5, scoring=scoring, max_iter=300)
    model = make_pipeline(StandardScaler(), OneVsRestClassifier(regression))
    model.fit(train, labels.astype(int))
    return float(average_precision_score(of_test.astype(int), model.decision_function(test), average="macro"))


def main() -> None:
    from sklearn.metrics import average_precision_score

    import graft
    from graft.transfer.label_head import fit_label_head

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--base", default="efficientnet_lite0")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--levels", default="head,head:stages,frozen:0.4")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as runs:
        table = write_mosaics(given.shared, Path(place), given.train, given.test)
        train, labels, test, of_test = features_of(table, given.base, given.image_size)
        print(f"by chance                 {of_test.mean(0).mean():.3f}")
        for scoring, penalties in PEERS.items():
            started = time.perf_counter()
            peer = one_vs_rest(train, labels, test, of_test, scoring, penalties)
            print(f"one-vs-rest, {scoring:17} {peer:.3f}   {time.perf_counter() - started:.0f} s", flush=True)
        head = fit_label_head(train, labels)
        same = average_precision_score(of_test.astype(int), test @ head.weight.T + head.bias, average="macro")
        print(f"graft, the same features  {same:.3f}", flush=True)
        for level in filter(None, given.levels.split(",")):
            run = graft.train(
                graft.DataOptions(str(table), table=graft.TableOptions(multi_label=True)),
                given.base,
                level,
                image_size=given.image_size,
                out=Path(runs) / f"run-{level.replace(':', '-')}",
                quiet=True,
            )
            found = run.to_dict()["test"]
            low, high = found["mean_average_precision_ci95"]
            print(
                f"graft, {level:18} {found['mean_average_precision']:.3f}   ({low:.3f} to {high:.3f}), micro F1 "
                f"{found['micro_f1']:.3f}, {run.seconds['total']:.0f} s"
            )


if __name__ == "__main__":
    main()
