"""Networks of timm as bases: cut where they run in a chain, refused where they do not, saved and loaded again.

timm builds them; no weights are fetched, random ones stand in for the published ones.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import graft
from graft.errors import FetchError, InputError, WeightsError
from graft.features.extraction import check_input_size
from graft.models.blocks import PointwiseHead
from graft.models.network import Config, Network
from graft.transfer.levels import plan_level
from graft.weights import base as module
from graft.weights.architectures import resolve
from graft.weights.base import load_base, untrained_base
from graft.weights.download import Download
from graft.weights.saved import SavedModel, load_model, save_model
from graft.weights.timm_network import build_timm
from graft.workflows.train import train

timm = pytest.importorskip("timm")

# Families of convolutional networks, each by a small member, and how many stages of maps it has.
CHAINS = {
    "test_resnet": 5,
    "resnest14d": 5,
    "resnext26ts": 5,
    "regnetx_002": 5,
    "test_efficientnet": 6,
    "tf_mobilenetv3_small_minimal_100": 5,
    "mobilenetv4_conv_small_035": 5,
    "test_convnext": 5,
    "densenet121": 5,
    "repvgg_a0": 5,
    "res2net50_14w_8s": 5,
    "dla46_c": 6,
    "ghostnet_050": 6,
    "xception41": 6,
    "test_nfnet": 5,
}


def made(name: str, classes: int = 4, channels: int = 3) -> Network:
    torch.manual_seed(0)
    return resolve(f"timm:{name}").build(Config(f"timm:{name}", classes, channels))


def theirs(name: str, classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=classes)


def largest_difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def published(folder: Path, name: str, classes: int = 4, **changes: object) -> nn.Module:
    """A repository on the Hub as timm writes it, with random weights."""
    model = theirs(name, classes).eval()
    folder.mkdir(exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    settings = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "crop_pct": 0.9, "input_size": [3, 96, 96]}
    config = {"architecture": name, "pretrained_cfg": settings, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    return model


# Chains and stages


@torch.no_grad()
@pytest.mark.parametrize("name", list(CHAINS))
def test_stages_give_what_the_whole_gives_and_every_cut_is_exact(name):
    network, model = made(name).eval(), theirs(name).eval()
    x = torch.randn(2, 3, 64, 64)
    logits = network(x)
    assert largest_difference(logits, model(x)) <= (1e-5 if isinstance(network.head, PointwiseHead) else 0)
    names = [stage.name for stage in network.stages]
    assert names[: CHAINS[name]] == ["stem", *(f"stage{number}" for number in range(1, CHAINS[name]))]
    assert names[CHAINS[name] :] in (["pool", "head"], ["pool", "fc", "head"])
    for cut in network.cuts:
        trunk, crown = network.split(cut)
        assert torch.equal(crown(trunk(x)), logits), cut
        assert trunk.state_dict().keys() | crown.state_dict().keys() == network.state_dict().keys()


@torch.no_grad()
@pytest.mark.parametrize("name", list(CHAINS))
def test_stages_say_their_channels_and_stride_and_leave_each_others_outputs_alone(name):
    network = made(name).eval()
    x = torch.randn(1, 3, 64, 64)
    for stage in network.stages:
        given = x.clone()
        y = network.split(stage.name)[0](x)
        assert torch.equal(x, given)
        assert y.shape[1] == stage.channels
        assert y.shape[2:] == ((64 // stage.stride,) * 2 if stage.stride else ())
    maps = list(network.feature_maps(x).items())
    for name, values in maps:
        assert torch.equal(network.split(name)[0](x), values)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "dla46_c", "mobilenetv3_small_050"])
def test_tensors_have_timms_names_and_load_there(name):
    network, model = made(name), theirs(name)
    assert list(network.state_dict()) == list(model.state_dict())
    assert network.state_dict()[f"{network.head_name}.weight"].shape == model.get_classifier().weight.shape
    model.load_state_dict(network.state_dict(), strict=True)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "dla46_c"])
def test_a_new_head_is_of_the_old_ones_kind(name):
    network = made(name).eval()
    x = torch.randn(2, 3, 64, 64)
    pooled = network.pooled(x)
    weight = network.new_head(7).weight
    assert network(x).shape == (2, 7)
    assert weight.shape == theirs(name, 7).get_classifier().weight.shape
    assert torch.equal(network.pooled(x), pooled)
    assert pooled.shape == (2, network.head.in_features)


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050", "ghostnet_050"])
def test_training_is_that_of_timm_dropout_included(name):
    network, model = made(name), theirs(name)
    x = torch.randn(4, 3, 64, 64)
    outputs = []
    for each in (network, model):
        assert each.training
        torch.manual_seed(1)
        outputs.append(each(x))
        outputs[-1].square().sum().backward()
    assert torch.equal(*outputs)
    gradients = dict(model.named_parameters())
    assert all(torch.equal(each.grad, gradients[path].grad) for path, each in network.named_parameters())


def test_levels_know_the_stages():
    network = made("mobilenetv3_small_050")
    assert plan_level("head", network, True).cut == "fc"
    assert plan_level("stages:1", network, True).cut == "pool"
    assert plan_level("stages:2", network, True).cut == "stage3"
    # Dropout before the classifier is trained together with it.
    assert made("regnetx_002").stages[-1].parts == ("head.drop", "head.fc", "head.flatten")


def test_building_costs_no_memory_on_the_meta_device():
    with torch.device("meta"):
        network = made("resnest14d")
    assert all(tensor.is_meta for tensor in network.state_dict().values())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hrnet_w18_small", "breaks before transition1"),
        ("test_vit", "breaks before pos_drop"),
        ("test_mambaout", "breaks before head.norm"),
        ("swin_tiny_patch4_window7_224", "do not pass on maps"),
        ("levit_128s", "not one linear layer"),
    ],
)
def test_a_network_that_is_no_chain_is_refused_by_name_and_place(name, reason):
    with torch.device("meta"), pytest.raises(InputError, match=f"got timm:{name}, .*{reason}.*: choose another"):
        made(name)


class Sequence(nn.Module):
    """A stand-in for timm's models, with a forward pass given by the test."""

    feature_info = ({"module": "a"}, {"module": "b"})

    def __init__(self, steps) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
        self.act, self.pool = nn.ReLU(inplace=True), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(4, 5)
        self.steps = steps

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(self, x)


@pytest.mark.parametrize(
    ("steps", "breaks"),
    [
        (lambda net, x: net.fc(net.pool(net.act(net.b(net.act(net.a(x)))))), None),
        (lambda net, x: net.fc(net.pool(net.b(torch.relu(net.a(x))))), "before b"),
        # In place the tensor stays the same object, with other numbers.
        (lambda net, x: net.fc(net.pool(net.b(torch.relu_(net.a(x))))), "before b"),
        (lambda net, x: net.fc(net.pool(net.b(net.a(x)) + 1)), "before pool"),
        (lambda net, x: net.fc(net.pool(net.b(net.b(net.a(x))))), "at b, which runs twice"),
        (lambda net, x: 2 * net.fc(net.pool(net.b(net.a(x)))), "after fc"),
        (lambda net, x: net.fc(net.pool(net.b(net.a(x[:, :3])))), "before a"),
    ],
)
def test_what_happens_between_parts_breaks_the_chain(monkeypatch, steps, breaks):
    monkeypatch.setattr(timm, "create_model", lambda name, **settings: Sequence(steps))
    if breaks:
        with pytest.raises(InputError, match=f"chain of parts breaks {breaks}"):
            made("test_resnet", 5)
    else:
        network = made("test_resnet", 5)
        assert [stage.parts for stage in network.stages] == [("a", "act"), ("b", "act"), ("pool",), ("fc",)]


# Names


def test_names_near_timms_are_offered():
    assert resolve("timm:resnest14d.gluon_in1k").name == "timm:resnest14d"
    for call in (resolve, load_base, untrained_base, graft.create):
        with pytest.raises(InputError, match=r"got 'resnest14' \(did you mean 'resnest14d'\?\)"):
            call("timm:resnest14")
    with pytest.raises(InputError, match=r"did you mean 'resnet18.a1_in1k'.*resnet18\.tv_in1k"):
        load_base("timm:resnet18.a1_in2k")
    # Locations that timm's create_model would fetch from are not names.
    for name in ("timm:hf-hub:timm/resnet18", "timm:local-dir:/tmp", "timm:"):
        with pytest.raises(InputError, match="expected the name of a timm network"):
            load_base(name)


def test_without_timm_the_extra_is_named(monkeypatch, tmp_path):
    folder = tmp_path / "model"
    save_model(folder, SavedModel(made("test_resnet"), resolve("resnet18").preprocessing, tuple("abcd")))
    monkeypatch.setitem(sys.modules, "timm", None)
    for call in (load_base, untrained_base, graft.create, lambda name: graft.load(folder)):
        with pytest.raises(InputError, match=r"pip install 'graft-vision\[timm\]'"):
            call("timm:test_resnet")


def test_timm_is_imported_only_when_asked_for():
    script = "import sys, graft.workflows.train; import graft; graft.create('resnet20'); print('timm' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


# Weights


def test_where_timm_publishes_weights(monkeypatch):
    assert resolve("timm:resnest14d").published == "timm/resnest14d.gluon_in1k"
    assert resolve("timm:resnet18.tv_in1k").published == "timm/resnet18.tv_in1k"
    address = {"url": "https://weights.invalid/some/net-0123abcd.pth"}
    settings = SimpleNamespace(to_dict=lambda: address)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: settings)
    assert resolve("timm:test_resnet").published == Download(address["url"], "0123abcd")
    for unknown in ("https://weights.invalid/net.pth", "https://weights.invalid/net-0123abcd.npz", None):
        address["url"] = unknown
        with pytest.raises(WeightsError, match=r"`base=FILE` `arch='timm:test_resnet'`.*`level='scratch'`"):
            load_base("timm:test_resnet")


@torch.no_grad()
@pytest.mark.parametrize("asked", ["timm:test_resnet", "timm:test_resnet.r160_in1k", "hf:timm/test_resnet.r160_in1k"])
def test_weights_come_through_grafts_own_hub_with_their_preprocessing(tmp_path, monkeypatch, asked):
    model = published(tmp_path, "test_resnet", 3, label_names=["a", "b", "c"])
    fetched = []
    monkeypatch.setattr(module, "fetch_from_hub", lambda name, reporter: fetched.append(name) or tmp_path)
    base = load_base(asked)
    assert fetched == ["timm/test_resnet.r160_in1k"]
    assert base.network.config == Config("timm:test_resnet", 3)
    assert (base.name, base.classes, base.has_head, base.pretrained) == (asked, ("a", "b", "c"), True, True)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(base.network(x), model(x))
    assert base.preprocessing.to_dict() == {
        "size": 96,
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.2, 0.2],
        "resize_mode": "crop",
        "crop_fraction": 0.9,
    }


def test_another_resize_than_grafts_is_noted(tmp_path, monkeypatch):
    settings = {"crop_mode": "squash", "interpolation": "bicubic"}
    published(tmp_path, "test_resnet", pretrained_cfg=settings)
    monkeypatch.setattr(module, "fetch_from_hub", lambda name, reporter: tmp_path)
    base = load_base("timm:test_resnet")
    assert base.preprocessing.resize_mode == "squash"
    (note,) = base.notes
    assert "bicubic" in note


def test_a_folder_carried_over_from_the_hub_is_a_base(tmp_path):
    model = published(tmp_path / "carried", "test_resnet", 3)
    base = load_base(str(tmp_path / "carried"))
    assert base.network.config == Config("timm:test_resnet", 3)
    assert torch.equal(base.network.head.weight, model.fc.weight)


@torch.no_grad()
def test_weights_by_address_are_fetched_by_digest_and_read_without_unpickling(tmp_path, monkeypatch):
    model = theirs("test_resnet", 1000).eval()
    torch.save(model.state_dict(), tmp_path / "net-0123abcd.pth")
    download = Download("https://weights.invalid/net-0123abcd.pth", "0123abcd")
    settings = SimpleNamespace(to_dict=lambda: {"url": download.url})
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: settings)
    monkeypatch.setattr(module, "fetch", lambda asked, reporter: tmp_path / asked.file_name)
    base = load_base("timm:test_resnet")
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(base.network(x), model(x))
    assert base.classes[1] == "goldfish"

    class Hostile:
        def __reduce__(self):
            return (Path(tmp_path / "harm").touch, ())

    torch.save({"fc.weight": Hostile()}, tmp_path / "net-0123abcd.pth")
    with pytest.raises(WeightsError, match="refused"):
        load_base("timm:test_resnet")
    assert not (tmp_path / "harm").exists()


def test_without_network_the_sentence_is_that_of_the_hub(monkeypatch):
    def fail(name, reporter):
        raise FetchError(f"{name} could not be fetched")

    monkeypatch.setattr(module, "fetch_from_hub", fail)
    with pytest.raises(FetchError, match="timm/test_resnet"):
        load_base("timm:test_resnet")


@torch.no_grad()
def test_a_file_is_read_as_the_stated_network(tmp_path):
    model = theirs("dla46_c", 6).eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "a.pth")
    base = load_base(str(tmp_path / "a.pth"), architecture="timm:dla46_c.in1k")
    x = torch.randn(1, 3, 64, 64)
    assert largest_difference(base.network(x), model(x)) <= 1e-5
    assert base.network.config == Config("timm:dla46_c", 6)
    settings = timm.get_pretrained_cfg("dla46_c.in1k")
    assert base.preprocessing.mean == settings.mean
    assert (base.preprocessing.size, base.preprocessing.crop_fraction) == (224, settings.crop_pct)


def test_weights_of_another_network_are_told_in_both_directions(tmp_path):
    save_file(theirs("test_convnext").state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"tensors of timm:test_resnet.*missing.*unknown to it"):
        load_base(str(tmp_path / "a.safetensors"), architecture="timm:test_resnet")


def test_grey_weights_have_grey_preprocessing(tmp_path):
    network = made("test_resnet", channels=1)
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    base = load_base(str(tmp_path / "a.safetensors"), architecture="timm:test_resnet")
    assert (base.network.config.channels, base.preprocessing.mean) == (1, (0.5,))


def test_on_the_hub_the_catalogue_goes_before_timm_where_the_tensors_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "fetch_from_hub", lambda name, reporter: tmp_path / name.partition("/")[2])
    published(tmp_path / "resnet18", "resnet18")
    assert load_base("hf:timm/resnet18").network.config.architecture == "resnet18"
    published(tmp_path / "other", "test_resnet")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "model_args": {"act_layer": "silu"}}))
    with pytest.raises(WeightsError, match="act_layer"):
        load_base("hf:timm/other")


def test_a_network_of_timm_that_was_changed_is_not_taken_for_the_catalogues(tmp_path):
    published(tmp_path / "dilated", "resnet18")
    file = tmp_path / "dilated" / "config.json"
    config = json.loads(file.read_text())
    # Its tensors are the same, and its maps are larger.
    file.write_text(json.dumps({**config, "model_args": {"output_stride": 8}}))
    with pytest.raises(WeightsError, match="output_stride"):
        load_base(str(tmp_path / "dilated"))
    file.write_text(json.dumps({**config, "model_args": {"num_classes": 1000, "drop_rate": 0.1}}))
    assert load_base(str(tmp_path / "dilated")).network.config.architecture == "resnet18"


def test_a_random_start_fetches_nothing(monkeypatch):
    monkeypatch.setattr(module, "fetch_from_hub", lambda *words, **named: pytest.fail("asked the Hub"))
    first, again, other = (untrained_base("timm:test_resnet", seed=seed) for seed in (1, 1, 2))
    assert (first.network.config, first.pretrained) == (resolve("timm:test_resnet").config, False)
    assert (first.preprocessing.size, first.preprocessing.crop_fraction) == (160, 0.95)
    weights = [each.network.get_submodule("conv1.0").weight for each in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_create_builds_them_with_numbers_as_stated():
    network = graft.create("timm:test_resnet", classes=3, channels=1)
    assert network.config == Config("timm:test_resnet", 3, 1)
    assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 3)
    for rule in ({"padding": "tensorflow"}, {"batch_norm_eps": 1e-3}):
        with pytest.raises(InputError, match="tf_"):
            graft.create("timm:test_resnet", **rule)


def test_a_size_that_the_network_cannot_take_is_refused_in_a_sentence():
    network = made("test_maxvit")
    preprocessing = resolve("timm:test_maxvit").preprocessing
    check_input_size(network, preprocessing)
    with pytest.raises(InputError, match="100 px"):
        check_input_size(network, replace(preprocessing, size=100))


# Saved and trained


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "dla46_c"])
def test_a_saved_model_with_a_head_over_all_stages_loads(tmp_path, name):
    network = made(name, 2).eval()
    network.new_head(2, "stages")
    save_model(tmp_path / "model", SavedModel(network, resolve(f"timm:{name}").preprocessing, ("ant", "bee")))
    x = torch.randn(1, 3, 64, 64)
    back = load_model(tmp_path / "model").network
    assert back.config == network.config
    assert torch.equal(back(x), network(x))


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "dla46_c"])
def test_a_saved_model_loads_here_and_in_timm(tmp_path, name):
    network = made(name, 2).eval()
    preprocessing = resolve(f"timm:{name}").preprocessing
    save_model(tmp_path / "model", SavedModel(network, preprocessing, ("ant", "bee")))
    x = torch.randn(1, 3, 64, 64)
    loaded = load_model(tmp_path / "model")
    assert loaded.network.config == network.config
    assert torch.equal(loaded.network(x), network(x))
    model = timm.create_model(name, num_classes=2, checkpoint_path=tmp_path / "model" / "model.safetensors").eval()
    assert largest_difference(model(x), network(x)) <= 1e-5
    # The file alone says what it is, too.
    base = load_base(str(tmp_path / "model" / "model.safetensors"))
    assert (base.network.config, base.preprocessing, base.classes) == (network.config, preprocessing, ("ant", "bee"))


def test_a_saved_model_of_a_network_that_timm_lacks_is_refused(tmp_path):
    network = made("test_resnet", 2)
    save_model(tmp_path, SavedModel(network, resolve("timm:test_resnet").preprocessing, ("ant", "bee")))
    config = json.loads((tmp_path / "config.json").read_text())
    config["network"]["architecture"] = "timm:test_resnot"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="did you mean 'test_resnet'"):
        load_model(tmp_path)


@pytest.fixture(scope="module")
def insects(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few real photographs of ants and of bees."""
    root = tmp_path_factory.mktemp("insects")
    for split, count in (("train", 10), ("val", 4)):
        for kind in ("ants", "bees"):
            (root / split / kind).mkdir(parents=True)
            files = sorted((shared / "datasets" / "ants_bees" / split / kind).glob("*.jpg"))
            for file in files[:count]:
                shutil.copy(file, root / split / kind)
    return root


@pytest.mark.parametrize("level", ["head", "stages:1"])
def test_it_is_trained_saved_and_loaded_again(level, insects, tmp_path, monkeypatch):
    published(tmp_path / "hub", "test_resnet", 1000)
    monkeypatch.setattr(module, "fetch_from_hub", lambda name, reporter: tmp_path / "hub")
    exact = {"engine": "torch", "precision": "float32"}
    run = train(insects, "timm:test_resnet", level, out=tmp_path / "run", epochs=2, image_size=64, **exact)
    assert (run.base, run.val.n, run.cut) == ("timm:test_resnet", 8, "pool" if level == "head" else "stage3")
    assert run.val.top1 >= 0
    images = sorted((insects / "val").rglob("*.jpg"))
    answers = graft.load(run.folder, **exact).predict(images)
    right = sum(answer.label == image.parent.name for answer, image in zip(answers, images, strict=True))
    assert right / len(images) == pytest.approx(run.val.top1)
    saved, source = load_file(run.folder / "model" / "model.safetensors"), load_file(tmp_path / "hub/model.safetensors")
    changed = {name.partition(".")[0] for name in saved if not torch.equal(saved[name], source[name].float())}
    assert changed - {"fc"} == (set() if level == "head" else {"layer4"})
    again = load_base(str(run.folder))
    assert (again.network.config, again.classes) == (Config("timm:test_resnet", 2), ("ants", "bees"))
    further = train(insects, str(run.folder), "head", out=tmp_path / "further", **exact)
    assert load_model(further.folder / "model").network.config.architecture == "timm:test_resnet"


def test_a_random_start_is_trained(insects, tmp_path):
    run = train(insects, "timm:test_convnext", "scratch", out=tmp_path / "run", epochs=1, image_size=32, engine="torch")
    assert run.level == "scratch"
    assert load_model(run.folder / "model").network.config == Config("timm:test_convnext", 2)


def test_build_refuses_parts_that_give_something_else(monkeypatch):
    """A chain that closes by accident, because a module answers differently the second time."""

    class Fickle(nn.Flatten):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            type(self).calls += 1
            return super().forward(x) * self.calls

    def fickle(name: str, **settings: object) -> nn.Module:
        model = Sequence(lambda net, x: net.fc(net.pool(net.b(net.a(x)))))
        model.pool[1] = Fickle()
        return model

    monkeypatch.setattr(timm, "create_model", fickle)
    with pytest.raises(InputError, match="another result than the whole"):
        build_timm(Config("timm:test_resnet", 5), (3, 160, 160))
