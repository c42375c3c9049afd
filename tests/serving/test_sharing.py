"""A classifier used by several threads, streams and processes answers each as if it were alone."""

import copy
import gc
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

import graft
from graft.features.engine import open_engine
from graft.images.letters import LATIN
from graft.serving import predictor
from graft.serving.prediction import Prediction
from graft.serving.predictor import Classifier
from graft.weights.base import load_base
from graft.weights.saved import SavedModel, save_model

ENGINES = ("torch", "openvino")
# Seconds after which a process that waits for missing threads counts as hanging.
PATIENCE = 60


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = load_base("latin_letters")
    folder = tmp_path_factory.mktemp("saved")
    save_model(folder / "model", SavedModel(base.network, base.preprocessing, LATIN))
    return folder


@pytest.fixture(params=ENGINES)
def classifier(request: pytest.FixtureRequest, run_folder: Path) -> Classifier:
    pytest.importorskip(request.param)
    return graft.load(run_folder, engine=request.param, precision="float32")


def noise(count: int, seed: int) -> list[np.ndarray]:
    """Images uint8 (24, 24, 3), all different, so that an answer to the wrong caller shows."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, 24, 24, 3), dtype=np.uint8))


def test_threads_get_the_answers_that_they_would_get_alone(run_folder: Path, classifier: Classifier) -> None:
    # Several batches, one that is not full, and a single image.
    groups = [noise(count, seed) for seed, count in enumerate((70, 33, 5, 1))]
    alone = graft.load(run_folder, engine=classifier.choice.engine, precision="float32")
    expected = [alone.predict(group) for group in groups]
    together = Barrier(len(groups))

    def ask(number: int) -> list[list[Prediction]]:
        # The first calls come together, when the engine is not open yet.
        together.wait()
        return [classifier.predict(groups[number]) for _ in range(50)]

    with ThreadPoolExecutor(len(groups)) as pool:
        for number, answers in enumerate(pool.map(ask, range(len(groups)))):
            assert answers == [expected[number]] * 50


def test_the_engine_is_opened_once(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, together = [], Barrier(4)

    def counted(*arguments: object) -> object:
        opened.append(arguments)
        return open_engine(*arguments)

    monkeypatch.setattr(predictor, "open_engine", counted)
    classifier = graft.load(run_folder, engine="torch", precision="float32")

    def ask(number: int) -> None:
        together.wait()
        classifier.predict(noise(1, number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert len(opened) == 1


def test_interleaved_streams_keep_to_their_own_images(classifier: Classifier) -> None:
    left, right = noise(300, 1), noise(300, 2)
    expected = [classifier.predict(images) for images in (left, right)]
    streams = zip(classifier.stream(left), classifier.stream(right), strict=True)
    assert [list(answers) for answers in zip(*streams, strict=True)] == expected


def test_a_prediction_within_a_stream_disturbs_neither(classifier: Classifier) -> None:
    images, others = noise(60, 3), noise(40, 4)
    expected, answers = classifier.predict(images), classifier.predict(others)
    found = []
    for prediction in classifier.stream(images):
        found.append(prediction)
        assert classifier.predict(others) == answers
    assert found == expected


def test_streams_left_half_way_give_back_what_they_hold(run_folder: Path) -> None:
    pytest.importorskip("openvino")
    from graft.features.openvino_engine import BATCH

    classifier = graft.load(run_folder, engine="openvino", precision="float32")
    images = noise(300, 5)
    expected = classifier.predict(images)
    idle = classifier._engine()._idle[BATCH].qsize()
    assert idle > 0

    def closed() -> None:
        stream = classifier.stream(images)
        next(stream)
        stream.close()

    def forgotten() -> None:
        next(classifier.stream(images))

    def in_a_ring() -> None:
        stream = classifier.stream(images)
        next(stream)
        ring = [stream]
        ring.append(ring)

    def failed() -> None:
        with pytest.raises(ZeroDivisionError):
            for _ in classifier.stream(images):
                _ = 1 / 0

    leave: Callable[[], None]
    for leave in (closed, forgotten, in_a_ring, failed) * 3:
        leave()
        gc.collect()
        assert classifier._engine()._idle[BATCH].qsize() == idle
    assert classifier.predict(images) == expected


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_is_a_classifier_of_its_own(classifier: Classifier, duplicate: Callable) -> None:
    images = noise(9, 6)
    expected = classifier.predict(images)
    twin = duplicate(classifier)
    assert twin.classes == classifier.classes and twin.choice == classifier.choice
    assert twin.predict(images) == expected
    assert twin._engine() is not classifier._engine()


def run(file: Path, script: str, *arguments: object) -> str:
    """The output of `script`, written to `file` because a spawned process reads it again."""
    file.write_text(script)
    # Waiting threads sleep, as in the command `graft`.
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, file, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


FORKING = """
import os, sys
import numpy as np, torch
import graft

folder, engine = sys.argv[1:]
# More than one, whatever the machine: a single thread of PyTorch's has no other to wait for.
torch.set_num_threads(2)
images = list(np.random.default_rng(0).integers(0, 256, (400, 24, 24, 3), dtype=np.uint8))
classifier = graft.load(folder, engine=engine, precision="float32")
stream = classifier.stream(images)

def fork():
    if os.fork() == 0:
        global classifier
        for work in (lambda: classifier.predict(images[:40]), lambda: stream):
            try:
                print(len(list(work())))
            except graft.GraftError as error:
                print(error)
        # As a worker does that the message above sent here; the one that it replaces is taken apart.
        classifier = graft.load(folder, engine="torch", precision="float32")
        print(len(classifier.predict(images[:40])), flush=True)
        # The long way out, which takes every object apart.
        sys.exit(0)
    _, status = os.wait()
    print("ended", status, flush=True)

fork()
# So far that others are being decoded ahead.
for _ in range(20):
    next(stream)
fork()
print(len(classifier.predict(images[:40])))
"""

CANNOT = "expected a process that OpenVINO can work in, got one forked"
BEGUN_ELSEWHERE = "expected a stream to continue in the process that it began in"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(("engine", "after_use"), [("torch", "40"), ("openvino", CANNOT)])
def test_a_forked_process_works_or_says_at_once_that_it_cannot(
    run_folder: Path, tmp_path: Path, engine: str, after_use: str
) -> None:
    pytest.importorskip(engine)
    lines = run(tmp_path / "forking.py", FORKING, run_folder, engine).splitlines()
    before = ["40", "400", "40", "ended 0"]
    expected = [*before, after_use, BEGUN_ELSEWHERE, "40", "ended 0", "40"]
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=True)] == expected


SPAWNING = """
import multiprocessing, sys
import numpy as np
import graft

def answer(classifier, images):
    return classifier.predict(images)

if __name__ == "__main__":
    images = list(np.random.default_rng(0).integers(0, 256, (9, 24, 24, 3), dtype=np.uint8))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for engine in sys.argv[2:]:
            classifier = graft.load(sys.argv[1], engine=engine, precision="float32")
            expected = classifier.predict(images)
            assert pool.apply(answer, (classifier, images)) == expected
"""


def test_a_spawned_process_is_given_a_classifier(run_folder: Path, tmp_path: Path) -> None:
    run(tmp_path / "spawning.py", SPAWNING, run_folder, *(name for name in ENGINES if find_spec(name)))
