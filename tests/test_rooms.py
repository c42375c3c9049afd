"""The rooms of `src/graft` import each other only as the design's table allows."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import graft

SOURCE = Path(graft.__file__).parent
PACKAGE = "graft"

# The table in section 4 of the design, by level. A room imports itself freely.
GROUND = (
    *(
        "annotation_exports",
        "archive_paths",
        "array_files",
        "arrow",
        "bombs",
        "class_lists",
        "closest_files",
        "delimited",
        "endings",
        "errors",
        "expanding",
        "files",
        "forking",
    ),
    *("given", "html", "name_encoding", "names", "on_disk", "packed_tables", "path_tails", "progress"),
    *(
        "sample_labels",
        "seeding",
        "sending",
        "spreadsheet",
        "stratification",
        "tar_members",
        "torch_modes",
        "words",
        "xml_files",
        "yaml_text",
        "zip_members",
    ),
)
LEVELS: tuple[dict[str, tuple[str, ...]], ...] = (
    {"images": (), "models": (), "accounting": (), "evaluation": ()},
    {"data": ("images",), "weights": ("models", "images")},
    {"features": ("models", "images", "data")},
    {
        "transfer": ("models", "weights", "data", "features", "evaluation"),
        "explanation": ("models", "images", "data", "features"),
    },
    {
        "training": (
            *("models", "accounting", "images", "evaluation"),
            *("data", "weights", "features", "transfer"),
        ),
        "audit": ("images", "data", "features", "transfer", "evaluation"),
        "serving": ("models", "weights", "images", "data", "features", "explanation", "export"),
        "export": ("models", "weights", "images", "data", "features", "evaluation"),
    },
    {
        "workflows": (
            *("models", "accounting", "images", "evaluation", "data", "weights", "features", "transfer"),
            *("explanation", "training", "audit", "serving", "export"),
        ),
        "drawing": ("models", "accounting"),
    },
    {
        # The claims of the textbook as experiments; it may use what a user calls, and a command calls it.
        "lab": (
            *("models", "accounting", "images", "evaluation", "data", "weights", "features", "transfer"),
            *("explanation", "training", "audit", "serving", "export", "workflows"),
        ),
    },
    {
        "cli": (
            *("models", "accounting", "images", "evaluation", "data", "weights", "features", "transfer"),
            *("explanation", "training", "audit", "serving", "export", "workflows", "drawing", "lab"),
        ),
    },
)
ALLOWED: dict[str, set[str]] = {
    **{room: set(others) for level in LEVELS for room, others in level.items()},
    # The ground floor, which all may import; the door lists the public names, the command starts the command line.
    "annotation_exports": set(),
    "archive_paths": set(),
    "array_files": set(),
    "arrow": set(),
    "bombs": set(),
    "class_lists": set(),
    "closest_files": set(),
    "delimited": set(),
    "endings": set(),
    "errors": set(),
    "expanding": set(),
    "files": set(),
    "forking": set(),
    "given": set(),
    "html": set(),
    "name_encoding": set(),
    "names": set(),
    "on_disk": set(),
    "packed_tables": set(),
    "path_tails": set(),
    "progress": set(),
    "sample_labels": set(),
    "seeding": set(),
    "sending": set(),
    "spreadsheet": set(),
    "stratification": set(),
    "tar_members": set(),
    "torch_modes": set(),
    "words": set(),
    "xml_files": set(),
    "yaml_text": set(),
    "zip_members": set(),
    "__init__": {"accounting", "audit", "models", "progress", "serving", "training", "transfer", "weights"}
    | {"data", "explanation", "workflows"},
    # The door for scikit-learn, which tells one image from several.
    "sklearn": {"data", "features", "images", "training", "weights", "workflows"},
    "__main__": {"cli"},
}
NETWORK = {
    "urllib",
    "http",
    "requests",
    "httpx",
    "huggingface_hub",
    "socket",
    "ftplib",
    "aiohttp",
    "fsspec",
    "datasets",
}
# Modules that fetch weights, images at a manifest's addresses, and data sets of the Hub.
REACHING = {
    "weights/hub.py": {"huggingface_hub"},
    "weights/publishing.py": {"huggingface_hub"},
    "weights/download.py": {"fsspec", "aiohttp", "urllib"},
    "data/readers/remote.py": {"fsspec", "aiohttp"},
    "data/readers/hub_dataset.py": {"datasets"},
}


def room_of(path: Path, source: Path = SOURCE) -> str:
    return path.relative_to(source).parts[0].removesuffix(".py")


@cache
def imports_and_calls(text: str) -> tuple[ast.Import | ast.ImportFrom | ast.Call, ...]:
    return tuple(node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom | ast.Call))


def called(function: ast.expr) -> str:
    """The last part of a called name: `import_module` of `importlib.import_module`."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def imported(text: str, module: str) -> Iterator[tuple[str, int]]:
    """Dotted names imported anywhere in a file, with their lines: in functions and under TYPE_CHECKING too.

    `module` is the dotted name of the package that the file is in, which relative imports start from.
    """
    for node in imports_and_calls(text):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [base])])
            # `from graft import cli` imports a room as much as `import graft.cli`.
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif called(node.func).endswith(("import_module", "__import__")):
            for argument in node.args[:1]:
                # The text of an f-string up to its first value is enough to tell the room.
                first = argument.values[0] if isinstance(argument, ast.JoinedStr) and argument.values else argument
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value, node.lineno


def wrong_arrows(path: Path, text: str, source: Path = SOURCE) -> list[str]:
    room = room_of(path, source)
    package = ".".join([PACKAGE, *path.relative_to(source).parts[:-1]])
    wrong = []
    for name, line in imported(text, package):
        first, _, rest = name.partition(".")
        if first != PACKAGE:
            continue
        target = rest.partition(".")[0]
        # Rooms take nothing from the package itself but its version.
        if target in (room, *GROUND, "__version__") or target in ALLOWED[room]:
            continue
        wrong.append(f"{path.relative_to(source)}:{line} imports {name}")
    return wrong


FILES = sorted(SOURCE.rglob("*.py"))


def test_there_are_files_to_look_at():
    assert len(FILES) > 30
    assert {"models", "weights", "training"} <= {room_of(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_only_the_rooms_it_may(path):
    assert room_of(path) in ALLOWED, f"{path.relative_to(SOURCE)} is in no room of the design"
    assert not wrong_arrows(path, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_fetching_weights_and_two_readers_reach_the_network(path):
    # The page and service of `serving` answer on a network; they may name what they answer with.
    allowed = (
        {"http", "socket"} if room_of(path) == "serving" else REACHING.get(path.relative_to(SOURCE).as_posix(), set())
    )
    names = {name.partition(".")[0] for name, _ in imported(path.read_text(encoding="utf-8"), PACKAGE)}
    assert not names & NETWORK - allowed


def test_arrows_of_the_table_point_down():
    level = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
    for room, others in ALLOWED.items():
        for other in others if room in level else ():
            # Level 4 has one arrow on its own level, which the table names: a server answers with export's runtimes.
            assert level[other] < level[room] or (room, other) == ("serving", "export")
    assert all("cli" not in others for room, others in ALLOWED.items() if room != "__main__")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("models/network.py", "import graft.weights.file"),
        ("models/network.py", "from graft import training"),
        ("models/network.py", "def f():\n    from graft.images.resizing import to_square"),
        ("models/network.py", "if TYPE_CHECKING:\n    from graft.data.dataset import Dataset"),
        ("models/network.py", "from ..weights import file"),
        ("models/network.py", "import_module('graft.cli.app')"),
        ("models/network.py", "importlib.import_module(f'graft.serving.{name}')"),
        ("accounting/counting.py", "from graft.models.network import Network"),
        ("serving/predictor.py", "from graft.workflows.train import train"),
        ("transfer/levels.py", "from graft.training.loop import fit_crown"),
        ("training/loop.py", "from graft.serving.predictor import load"),
        ("training/loop.py", "from graft.cli import app"),
        ("weights/base.py", "from graft.data.readers.folder import read_folder"),
        ("features/cache.py", "from graft.weights.base import load_base"),
        ("models/network.py", "from graft import train"),
    ],
)
def test_a_wrong_arrow_is_seen_wherever_it_hides(file, text):
    assert len(wrong_arrows(SOURCE / file, text)) == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("models/network.py", "from graft.errors import CutError\nimport torch\nfrom graft.models import blocks"),
        ("models/catalog.py", "import_module(f'graft.models.{family}')"),
        ("weights/base.py", "from graft.images.preprocessing import Preprocessing"),
        ("features/engine.py", "from graft.data.loading import Batch"),
        ("cli/app.py", "from graft.workflows.train import train"),
        ("models/network.py", "from . import blocks\nfrom .blocks import convolution\nimport grafting"),
    ],
)
def test_a_right_arrow_is_left_alone(file, text):
    assert not wrong_arrows(SOURCE / file, text)


LARGEST_SHARE = 0.15
MOST_PARAMETERS = 12


def arrows_between_files() -> dict[str, set[str]]:
    """For every module of graft, the modules that it imports when loaded."""
    modules = {".".join([PACKAGE, *path.relative_to(SOURCE).with_suffix("").parts]): path for path in FILES}
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        loaded = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if not guarded(node)]
        names = [name for node in loaded for name, _ in imported(ast.unparse(node), module.rpartition(".")[0])]
        # `from graft.room.file import name` is told as `graft.room.file.name`.
        found[module] = {name for full in names for name in (full, full.rpartition(".")[0]) if name in modules}
    return found


def guarded(node: ast.stmt) -> bool:
    """Whether a statement is not run as the module is loaded: a definition, or what only type checkers read."""
    return isinstance(node, ast.FunctionDef | ast.ClassDef) or (
        isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )


def test_no_modules_import_each_other_in_a_ring():
    arrows, done = arrows_between_files(), set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above[above.index(module) :], module])
        if module not in done:
            for other in sorted(arrows[module]):
                visit(other, (*above, module))
            done.add(module)

    for module in sorted(arrows):
        visit(module, ())
    assert len(done) == len(FILES)


def test_no_room_is_too_large_to_find_ones_way_in():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    by_room: dict[str, int] = {}
    for path, count in lines.items():
        by_room[room_of(path)] = by_room.get(room_of(path), 0) + count
    shares = {room: count / sum(lines.values()) for room, count in by_room.items()}
    largest = max(shares, key=shares.__getitem__)
    assert shares[largest] <= LARGEST_SHARE, f"{largest} has {shares[largest]:.1%} of all lines"


def test_no_function_takes_a_list_of_parameters_that_nobody_can_hold_in_mind():
    # Commands have an option for each; `train` offers the same in Python.
    for path in FILES:
        if room_of(path) == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "train":
                count = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
                assert count <= MOST_PARAMETERS, f"{path.relative_to(SOURCE)}: {node.name} takes {count}"


def test_six_workflows_begin_with_the_one_prologue():
    # `train` calls it through `deciding`.
    callers = {
        path.stem
        for path in (SOURCE / "workflows").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "prepare"
    }
    assert callers == {"deciding", "advise", "compare", "audit", "evaluate", "features"}
    opening = {"open_dataset", "load_base", "look_over"}
    for path in (SOURCE / "workflows").glob("*.py"):
        names = {name.rpartition(".")[2] for name, _ in imported(path.read_text(encoding="utf-8"), PACKAGE)}
        # The demo has images and a base of its own, a walk one image and no data set.
        assert path.stem in ("prepare", "ahead", "demo", "walk") or not names & opening, path.stem
