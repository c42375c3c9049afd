"""What several files of tests of commands share."""

import pytest

from graft.images.letters import LATIN
from graft.weights.base import load_base
from graft.weights.saved import SavedModel, save_model


@pytest.fixture(scope="module")
def latin_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    base = load_base("latin_letters")
    folder = tmp_path_factory.mktemp("saved") / "run"
    save_model(folder / "model", SavedModel(base.network, base.preprocessing, LATIN))
    return str(folder)
