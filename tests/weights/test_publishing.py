"""A model is sent to the Hub whole, says nothing of this machine, and comes back as a base and as a run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_stand_in import HubStandIn
from local_server import Server, is_one_sentence, unused_address
from typer.testing import CliRunner

import graft
from graft.cli.app import app
from graft.errors import FetchError, InputError
from graft.images.preprocessing import Preprocessing
from graft.models.catalog import build
from graft.models.network import Config
from graft.weights.base import load_base
from graft.weights.card import stated_licence
from graft.weights.publishing import push
from graft.weights.saved import SavedModel, load_model, save_model

pytestmark = pytest.mark.usefixtures("own_machine")
NAME = "someone/insects"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    folder = tmp_path / "run" / "model"
    network = build(Config("lenet5", 3, channels=1))
    facts = {"base": "lenet5", "level": "scratch", "val": {"top1": 0.9, "n": 10}}
    save_model(folder, SavedModel(network, Preprocessing(32, (0.5,), (0.5,)), ("ant", "bee", "wasp"), 1.3, facts))
    return folder


@pytest.fixture
def hub(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubStandIn:
    from huggingface_hub import constants

    stand_in = HubStandIn(NAME)
    server.answer = stand_in.answer
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    return stand_in


def test_a_dry_run_lists_names_and_sizes_and_asks_nobody(
    model: Path, server: Server, hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    done = CliRunner().invoke(app, ["push", str(model.parent), NAME, "--private", "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["repository"], said["private"], said["dry_run"]) == (NAME, True, True)
    sizes = {each["name"]: each["bytes"] for each in said["files"]}
    assert set(sizes) == {each.name for each in model.iterdir()}
    assert sizes["model.safetensors"] == (model / "model.safetensors").stat().st_size
    assert said["bytes"] == sum(sizes.values())
    assert not server.requests and not hub.asked


def test_sizes_are_told_in_units_that_show_them_and_the_licence_or_what_to_set(model: Path, hub: HubStandIn) -> None:
    asked = ["push", str(model), NAME, "--dry-run"]
    done = CliRunner().invoke(app, asked)
    assert f"{(model / 'labels.json').stat().st_size} B  labels.json" in done.stdout and "0.000" not in done.stdout
    assert "licence of the base: not known; set `license:`" in " ".join(done.stderr.split())
    card = model / "README.md"
    card.write_text(card.read_text().replace("license: unknown", "license: cc-by-4.0"))
    done = CliRunner().invoke(app, asked)
    assert "licence of the base: cc-by-4.0" in done.stdout and "not known" not in done.stderr
    for base, licence in (("efficientnet_lite0", "apache-2.0"), ("latin_letters", "apache-2.0"), ("x", None)):
        saved = load_model(model)
        save_model(model, replace(saved, facts={**saved.facts, "base": base}))
        assert push(str(model), NAME, dry_run=True).to_dict()["licence"] == licence
    assert stated_licence("no metadata\n\nlicense: mit\n") is None


def test_what_was_pushed_comes_back_as_a_base_and_as_a_run(model: Path, hub: HubStandIn, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["push", str(model), f"hf:{NAME}", "--private", "--quiet"])
    # The stand-in is public, until it is made private.
    assert isinstance(done.exception, InputError) and "everybody can see" in str(done.exception)
    assert not hub.files
    hub.private = True
    done = CliRunner().invoke(app, ["push", str(model), NAME, "--private"])
    assert done.exit_code == 0, done.output
    assert [each for path, each in hub.asked if path == "/api/repos/create"][-1]["visibility"] == "private"
    assert sum(path.endswith("/commit/main") for path, _ in hub.asked) == 1
    assert hub.files["model.safetensors"] == (model / "model.safetensors").read_bytes()
    assert f'graft.load("hf:{NAME}")' in hub.files["README.md"].decode()
    assert not any(b"hf_secret" in content for content in hub.files.values())

    base = load_base(f"hf:{NAME}")
    expected = load_model(model).network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in base.network.state_dict().items())
    assert (base.classes, base.temperature) == (("ant", "bee", "wasp"), 1.3)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    there, here = (graft.load(each, engine="torch").predict(pixels)[0] for each in (f"hf:{NAME}", model))
    assert there.top == here.top
    with pytest.raises(InputError, match="`out`"):
        graft.export(f"hf:{NAME}", quiet=True)


def test_a_repository_that_holds_no_run_is_named_as_it_was_asked_for(model: Path, hub: HubStandIn) -> None:
    push(str(model), NAME)
    del hub.files["config.json"]
    with pytest.raises(InputError, match=f"got 'hf:{NAME}', which holds no config.json .*`base`"):
        graft.load(f"hf:{NAME}")


@pytest.mark.parametrize("file", ["README.md", "config.json"])
def test_a_place_of_this_machine_is_not_told_to_others(file: str, model: Path, hub: HubStandIn, tmp_path: Path) -> None:
    text = (model / file).read_text()
    (model / file).write_text(text.replace("lenet5", str(tmp_path), 1))
    for dry_run in (True, False):
        with pytest.raises(InputError, match="without paths of this machine") as caught:
            push(str(model), NAME, dry_run=dry_run)
        assert is_one_sentence(caught.value) and file in str(caught.value)
    (model / file).write_text(text.replace("lenet5", "/home/ada/weights.pth", 1))
    with pytest.raises(InputError, match="/home/ada"):
        push(str(model), NAME, dry_run=True)
    assert not hub.asked


def test_what_the_hub_refuses_is_told_in_one_sentence(
    model: Path, hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status, words in ((401, "HF_TOKEN"), (403, "may write"), (500, "500")):
        hub.status = status
        with pytest.raises(FetchError, match=words) as caught:
            push(str(model), NAME)
        assert is_one_sentence(caught.value)
    monkeypatch.setenv("HF_ENDPOINT", unused_address())
    with pytest.raises(FetchError, match="check the network") as caught:
        push(str(model), NAME)
    assert is_one_sentence(caught.value) and "hf_secret" not in str(caught.value)
    for name in ("insects", "some one/insects", "a/../b", f"{NAME}@v1"):
        with pytest.raises(InputError):
            push(str(model), name, dry_run=True)
