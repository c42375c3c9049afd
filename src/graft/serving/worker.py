"""A process that holds a classifier and answers batches: messages of `framing` on stdin, answers on stdout.

The pool starts it as `python -m graft.serving.worker`. It ends when its stdin does, and so with the service, however
that ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import IO, TYPE_CHECKING, Any

from graft.errors import GraftError, ImageError
from graft.names import plain, readable
from graft.serving import framing
from graft.words import in_options

if TYPE_CHECKING:
    import numpy as np

    from graft.serving.predictor import Classifier

# Batches under way at once beside those that are computed: while these are, the next is decoded.
AHEAD = 1


# Whoever started this one says again what it says, in words of its own.
@in_options()
def main() -> None:
    """Load the model that the first argument describes, say so, and answer until stdin ends."""
    # A signal is for the service, which ends its workers when their last batch is answered.
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, signal.SIG_IGN)
    given, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What libraries print must not come between the answers.
    os.dup2(2, 1)
    options = json.loads(sys.argv[1])
    if options["cores"]:
        os.sched_setaffinity(0, options["cores"])
    try:
        classifier, about = load(options)
    except GraftError as error:
        _write(out, {"refused": readable(str(error)), "exit_code": error.exit_code})
        return
    _write(out, {"ready": about})
    serve(classifier, options["pixels"], given, out, under_way(about["lanes"]))


def load(options: dict[str, Any]) -> tuple[Classifier, dict[str, Any]]:
    """The classifier, its engine at work, and what there is to say of it. Raises GraftError."""
    import numpy as np

    from graft.serving.exported import ExportedClassifier
    from graft.serving.predictor import load as load_classifier
    from graft.weights.model_files import refuse_several_labels

    asked = {"engine": options["engine"], "precision": options["precision"]}
    classifier = load_classifier(options["run"], **asked, singles=True)
    refuse_several_labels(classifier.multi_label, "the service")
    # The first predictions take longer than all others; no client is to wait for them.
    for count in (1, 8):
        classifier.predict(np.zeros((count, 32, 32, 3), np.uint8))
    facts = classifier.facts
    engine = classifier.arithmetic if isinstance(classifier, ExportedClassifier) else str(classifier.choice)
    about = {
        "classes": [plain(name) for name in classifier.classes],
        "version": facts.weights[:16],
        "engine": engine,
        "input_size": facts.preprocessing["size"],
        "budgets": _budgets(classifier),
        "lanes": classifier.lanes,
        "made_from": {name: str(value) for name, value in facts.made_from.items()},
    }
    return classifier, about


def _budgets(classifier: Classifier) -> list[tuple[float, float | None]]:
    """Every error budget that is known of, with the confidence from which on answers keep it; None: none is known."""
    calibration = classifier.calibration
    return [] if calibration is None else [(row.budget, row.threshold) for row in calibration.budgets]


def under_way(lanes: int) -> int:
    """How many batches a worker has at once, whose engine computes so many single images side by side."""
    return max(1, lanes) + AHEAD


def serve(classifier: Classifier, most_pixels: int | None, given: IO[bytes], out: IO[bytes], most: int = 2) -> None:
    """Answer each batch of `given` by its number, in whatever order they are done, at most so many at once."""
    writing = Lock()
    numbers = {name: number for number, name in enumerate(classifier.classes)}

    def work(header: dict[str, Any], blobs: list[bytes]) -> None:
        try:
            reply: dict[str, Any] = {"answers": answers(classifier, numbers, header["images"], blobs, most_pixels)}
        except Exception as error:  # told to the service, which tries the images one by one
            reply = {"failed": f"{type(error).__name__}: {readable(str(error))}"[:500]}
        with writing, suppress(BrokenPipeError):
            _write(out, {"batch": header["batch"], **reply})

    with ThreadPoolExecutor(most, thread_name_prefix="batch") as pool:
        while (message := framing.read(given)) is not None:
            pool.submit(work, *message)


def answers(
    classifier: Classifier,
    numbers: dict[str, int],
    images: list[dict[str, Any]],
    blobs: list[bytes],
    most_pixels: int | None,
) -> list[dict[str, Any]]:
    """For every image `{"top": [[number of the class, probability], …]}`, likeliest first, or `{"error": reason}`.

    With an `explanation` where the image asks for one.
    """
    found: list[dict[str, Any]] = [{} for _ in images]
    taken: list[tuple[int, Any]] = []
    for index, (image, blob) in enumerate(zip(images, blobs, strict=True)):
        try:
            taken.append((index, _content(image["shape"], blob, most_pixels)))
        except ImageError as error:
            found[index] = {"error": readable(str(error))}
    if taken:
        predictions = classifier.predict([content for _, content in taken], top=max(image["top"] for image in images))
        for (index, _), prediction in zip(taken, predictions, strict=True):
            if prediction.error is not None:
                found[index] = {"error": readable(prediction.error)}
            else:
                likeliest = prediction.top[: images[index]["top"]]
                found[index] = {"top": [(numbers[name], probability) for name, probability in likeliest]}
        wanted = [
            (index, content) for index, content in taken if images[index].get("explain") and "top" in found[index]
        ]
        for index, content in wanted:
            found[index]["explanation"] = explanation(classifier, content)
    return found


def explanation(classifier: Classifier, content: bytes | np.ndarray) -> dict[str, Any]:
    """Where the evidence for the class of an image lies, as `graft.serving.explaining` tells it."""
    from graft.serving.explaining import explain_one
    from graft.serving.exported import ExportedClassifier

    if isinstance(classifier, ExportedClassifier):
        return {"error": "expected a run to explain, got an exported file, which shows no maps: serve the run"}
    return explain_one(classifier, content)


def _content(shape: list[int] | None, blob: bytes, most_pixels: int | None) -> bytes | np.ndarray:
    import numpy as np

    from graft.images.decoding import read_size

    if most_pixels is not None:
        width, height = read_size(blob) if shape is None else (shape[1], shape[0])
        if width * height > most_pixels:
            raise ImageError(
                f"expected an image of at most {most_pixels:,} pixels, got {width:,} x {height:,}: scale it down"
            )
    return blob if shape is None else np.frombuffer(blob, np.uint8).reshape(shape)


def _write(out: IO[bytes], header: dict[str, Any]) -> None:
    out.writelines(framing.pack(header))
    out.flush()


if __name__ == "__main__":
    main()
