"""The public names, and what importing them costs."""

import json
import subprocess
import sys

import pytest

import graft
import graft.models

BLOCKS = [
    "BasicBlock",
    "Bottleneck",
    "DenseLayer",
    "DepthwiseSeparable",
    "Inception",
    "LocalResponseNorm",
    "NaiveInception",
    "stacked_convolutions",
]
HEAVY = ("torch", "torchvision", "numpy", "openvino", "PIL", "scipy", "pyarrow", "sklearn", "matplotlib")
PUBLIC = [
    "__version__",
    "Accuracy",
    "Advice",
    "Audit",
    "BaseOptions",
    "Classifier",
    "Comparison",
    "CutError",
    "DataError",
    "DataOptions",
    "Dataset",
    "Evaluation",
    "Expected",
    "Explanations",
    "Export",
    "Features",
    "FetchError",
    "Finding",
    "GraftError",
    "ImageError",
    "InputError",
    "MapOptions",
    "Network",
    "NetworkExplanation",
    "Plan",
    "Prediction",
    "Recipe",
    "Reporter",
    "Run",
    "TableOptions",
    "Tuning",
    "WeightsError",
    "account",
    "advise",
    "audit",
    "compare",
    "create",
    "evaluate",
    "explain",
    "explain_network",
    "export",
    "features",
    "list_models",
    "load",
    "report",
    "train",
    "tune",
]


def modules_after(program: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `program`."""
    program += "\nimport json, sys\nprint('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_public_names_are_these():
    assert sorted(graft.__all__) == sorted(PUBLIC)
    assert dir(graft) == sorted(PUBLIC)


def test_every_public_name_exists_under_its_own_name():
    for name in graft.__all__:
        value = getattr(graft, name)
        assert name == "__version__" or value.__name__ == name


def test_the_names_are_those_of_their_rooms():
    from graft.models.network import Network
    from graft.weights.creating import create

    assert graft.Network is Network
    assert graft.create is create
    assert issubclass(graft.InputError, graft.GraftError)


def test_graft_models_is_the_door_of_networks_and_blocks():
    assert sorted(graft.models.__all__) == dir(graft.models) == sorted(["Network", "list_models", *BLOCKS])
    for name in graft.models.__all__:
        assert getattr(graft.models, name).__name__ == name
    assert graft.models.Network is graft.Network
    assert graft.models.list_models is graft.list_models
    assert not set(BLOCKS) & set(dir(graft))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'tarin'"):
        graft.tarin  # noqa: B018
    assert not hasattr(graft, "helpers")
    with pytest.raises(AttributeError, match=r"'graft\.models' has no attribute 'BasicBloc'"):
        graft.models.BasicBloc  # noqa: B018


def test_importing_graft_loads_nothing_heavy():
    assert not modules_after("import graft; graft.__version__, dir(graft)") & set(HEAVY)


def test_listing_networks_loads_nothing_heavy():
    program = "import graft.models; dir(graft.models), graft.models.list_models('resnet'); import graft.models.catalog"
    assert not modules_after(program) & set(HEAVY)


def test_errors_and_the_catalogue_load_nothing_heavy():
    assert not modules_after("import graft; graft.InputError; import graft.models.catalog") & set(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--no-such-option"], ["no-such-command"]])
def test_help_and_a_wrong_call_load_nothing_heavy(arguments):
    program = f"""
import sys
from graft.__main__ import main
sys.argv = ["graft", *{arguments!r}]
try:
    main()
except SystemExit:
    pass
"""
    assert not modules_after(program) & set(HEAVY)


def test_help_names_the_commands():
    done = subprocess.run(
        [sys.executable, "-m", "graft", "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    for command in ("train", "compare", "evaluate", "predict"):
        assert command in done.stdout
