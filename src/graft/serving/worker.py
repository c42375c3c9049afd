"""A process that holds a classifier and answers batches: messages of `framing` on stdin, answers on stdout.

The pool starts it as `python -m graft.serving.worker`. It ends when its stdin closes, and so with the service, however
the service ends.
"""

from __future__ import annotations

import gc
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

# Batches in flight beside those being computed: the next one is decoded meanwhile.
AHEAD = 1


# The process that started this one repeats its messages in its own wording.
@in_options()
def main() -> None:
    """Load the model that the first argument describes, report it, and answer until stdin ends."""
    # Signals are for the service, which ends its workers once their last batch is answered.
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, signal.SIG_IGN)
    given, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Output that libraries print must not land between the answers.
    os.dup2(2, 1)
    options = json.loads(sys.argv[1])
    if options["cores"]:
        os.sched_setaffinity(0, options["cores"])
    try:
        classifier, about = load(options)
    except GraftError as error:
        _write(out, {"refused": readable(str(error)), "exit_code": error.exit_code})
        return
    # What is loaded by now stays: the garbage collector need not look through it while clients wait.
    gc.freeze()
    _write(out, {"ready": about})
    serve(classifier, options["pixels"], given, out, under_way(about["lanes"]))


def load(options: dict[str, Any]) -> tuple[Classifier, dict[str, Any]]:
    """Return the classifier with its engine running, and what to report about it. Raises GraftError."""
    import numpy as np
    from xxhash import xxh3_64

    from graft.serving.exported import ExportedClassifier
    from graft.serving.predictor import load as load_classifier
    from graft.weights.model_files import refuse_several_labels

    asked = {"engine": options["engine"], "precision": options["precision"]}
    classifier = load_classifier(options["run"], **asked, singles=True)
    refuse_several_labels(classifier.multi_label, "the service")
    # The first predictions are by far the slowest; no client should wait for them.
    for count in (1, 8):
        classifier.predict(np.zeros((count, 32, 32, 3), np.uint8))
    facts = classifier.facts
    engine = classifier.arithmetic if isinstance(classifier, ExportedClassifier) else str(classifier.choice)
    digest = xxh3_64(repr((facts.to_json(), classifier.outputs)).encode("utf-8", "surrogatepass"))
    about = {
        "classes": [plain(name) for name in classifier.classes],
        "version": facts.weights[:16],
        "engine": engine,
        "input_size": facts.preprocessing["size"],
        "budgets": _budgets(classifier),
        "lanes": classifier.lanes,
        "made_from": {name: str(value) for name, value in facts.made_from.items()},
        "digest": digest.hexdigest(),
    }
    return classifier, about


def _budgets(classifier: Classifier) -> list[tuple[float, float | None]]:
    """Return each known error budget with the confidence threshold that keeps it, None where no threshold is known."""
    calibration = classifier.calibration
    return [] if calibration is None else [(row.budget, row.threshold) for row in calibration.budgets]


def under_way(lanes: int) -> int:
    """Return how many batches a worker has in flight when its engine computes `lanes` single images side by side."""
    return max(1, lanes) + AHEAD


def serve(classifier: Classifier, most_pixels: int | None, given: IO[bytes], out: IO[bytes], most: int = 2) -> None:
    """Answer each batch of `given` under its number, in order of completion, at most `most` at a time."""
    writing = Lock()
    numbers = {name: number for number, name in enumerate(classifier.classes)}

    def work(header: dict[str, Any], blobs: list[bytes]) -> None:
        try:
            reply: dict[str, Any] = {"answers": answers(classifier, numbers, header["images"], blobs, most_pixels)}
        except Exception as error:  # reported to the service, which retries the images one by one
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
    """Return for every image `{"top": [[class number, probability], …]}`, likeliest first, or `{"error": reason}`.

    An image that asks for one also gets an `explanation`.
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
    """Return where the evidence for the class of an image lies, in the format of `graft.serving.explaining`."""
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
