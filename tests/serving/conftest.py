"""A saved model and a service for it, for all tests of this room."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Served, served

from graft.images.letters import LATIN
from graft.weights.base import load_base
from graft.weights.calibration import Calibration, ErrorBudget
from graft.weights.saved import SavedModel, save_model


@pytest.fixture(scope="session")
def letters_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled letters network as a saved model."""
    base = load_base("latin_letters")
    folder = tmp_path_factory.mktemp("served") / "letters"
    budgets = (
        ErrorBudget(0.01, None, 50, 0, 0, 299),
        ErrorBudget(0.05, 1.0, 50, 1, 0, 59),
        ErrorBudget(0.1, 0.0, 50, 50, 2, 29),
    )
    calibration = Calibration("val", 50, 0.95, budgets, ())
    saved = SavedModel(base.network, base.preprocessing, LATIN, temperature=1.5, calibration=calibration)
    save_model(folder / "model", saved)
    return folder


@pytest.fixture(scope="session")
def service(letters_run: Path) -> Iterator[Served]:
    """A running service of that model with the default options."""
    needs_extra()
    with served(letters_run) as running:
        yield running


@pytest.fixture(scope="session")
def extra() -> None:
    """Skip where the HTTP extra is not installed."""
    needs_extra()


def needs_extra() -> None:
    for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
        pytest.importorskip(name, reason="needs graft-vision[serve] and httpx")
