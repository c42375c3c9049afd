"""The anatomy of a network as a diagram shows it: stages, their blocks, the kinds of block, and their steps.

A **block** is a module of more than one step. Blocks of the same class whose steps are connected in the same way are of
one **kind**, whatever their widths, strides and windows.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from graft.accounting.graph import Graph
from graft.drawing.steps import FlowStep, Sort, in_words, sort_of, steps_of


@dataclass(frozen=True)
class BlockGraph:
    """The steps of a block, each after its inputs; the first step is the input of the block."""

    type: str  # class of the module: "Bottleneck"
    steps: tuple[FlowStep, ...]


@dataclass(frozen=True)
class BlockKind:
    """Blocks of one class whose steps are connected in the same way.

    `variant` distinguishes them from other kinds of the same class. `uses` has the stages they occur in, and how often.
    """

    title: str
    variant: str
    blocks: tuple[BlockGraph, ...]
    uses: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Repeat:
    """Blocks of one kind in a row, or equal steps in a row; `kind` is a position in `Anatomy.kinds`, None for steps."""

    kind: int | None
    steps: tuple[FlowStep, ...]  # for blocks, the last step of each
    strides: tuple[int, ...]  # the factor by which each block or step multiplies the stride


@dataclass(frozen=True)
class StageAnatomy:
    """A stage: its output, its cost by sort of layer, and the repeats that it consists of."""

    name: str
    output_shape: tuple[int, ...]
    stride: int | None  # input pixels between neighbouring outputs; None once there is no map
    macs: Counter[Sort]
    params: Counter[Sort]
    repeats: tuple[Repeat, ...]


@dataclass(frozen=True)
class Anatomy:
    """The stages of a network and its kinds of block, both in the order in which they run."""

    stages: tuple[StageAnatomy, ...]
    kinds: tuple[BlockKind, ...]


# A block with more steps than this is drawn as the blocks inside it.
LARGEST_BLOCK = 40
_CONTAINERS = {"Module", "Sequential", "ModuleList", "ModuleDict"}

# The class of a block and its nodes, or None and a single node outside any block.
_Unit = tuple[str | None, tuple[int, ...]]


@dataclass(frozen=True)
class _Piece:
    """A block, or a step outside any block; `step` is a block's last step, `stride` its factor on the stride."""

    block: BlockGraph | None
    step: FlowStep
    stride: int

    @property
    def key(self) -> object:
        """Equal for pieces that are drawn as one repeat."""
        return replace(self.step, inputs=()) if self.block is None else _structure(self.block)


def dissect(graph: Graph, stages: Iterable[tuple[str, Sequence[str]]] = ()) -> Anatomy:
    """Dissect a network by `stages`: names, each with the paths of the modules that run in it.

    Without stages, the children of the network take their place.
    """
    named = list(stages) or [(name, (name,)) for name in _children(graph)]
    staged = [(name, nodes, _pieces(graph, nodes)) for name, nodes in _by_stage(graph, named)]
    found: dict[object, list[tuple[BlockGraph, str]]] = {}
    for name, _, pieces in staged:
        for piece in pieces:
            if piece.block is not None:
                found.setdefault(piece.key, []).append((piece.block, name))
    kinds = []
    for variant, uses in zip(
        _variants([[block for block, _ in uses] for uses in found.values()]), found.values(), strict=True
    ):
        blocks, stages_of = tuple(block for block, _ in uses), Counter(name for _, name in uses)
        kinds.append(BlockKind(in_words(blocks[0].type), variant, blocks, tuple(stages_of.items())))
    places = {key: place for place, key in enumerate(found)}
    anatomies, last = [], 0
    for name, nodes, pieces in staged:
        last = max([last, *nodes])  # a stage that changes no values, such as one that flattens, has no node
        anatomies.append(_stage(graph, name, nodes, last, pieces, places))
    return Anatomy(tuple(anatomies), tuple(kinds))


def _stage(
    graph: Graph, name: str, nodes: list[int], last: int, pieces: list[_Piece], kinds: Mapping[object, int]
) -> StageAnatomy:
    macs: Counter[Sort] = Counter()
    params: Counter[Sort] = Counter()
    for node in nodes:
        sort = sort_of(graph, graph.nodes[node])
        macs[sort] += graph.nodes[node].macs
        params[sort] += graph.nodes[node].params
    repeats = []
    for key, group in groupby(pieces, key=lambda piece: piece.key):
        alike = list(group)
        steps, strides = tuple(each.step for each in alike), tuple(each.stride for each in alike)
        repeats.append(Repeat(kinds.get(key), steps, strides))
    return StageAnatomy(name, graph.nodes[last].output_shape, graph.strides[last], macs, params, tuple(repeats))


def _pieces(graph: Graph, nodes: list[int]) -> list[_Piece]:
    """The blocks and single steps of a stage, in order."""
    tops = groupby(nodes, key=lambda node: graph.nodes[node].path.partition(".")[0])
    units = [unit for path, group in tops for unit in _units(graph, path, tuple(group))]
    pieces = []
    for blocks, run in groupby(units, key=lambda unit: unit[0] is not None):
        if blocks:
            for type, inside in run:
                block = BlockGraph(str(type), steps_of(graph, inside))
                pieces.append(_Piece(block, block.steps[-1], _widening(graph, inside)))
        else:
            steps = steps_of(graph, tuple(node for _, group in run for node in group))[1:]
            pieces += [_Piece(None, step, step.stride) for step in steps]
    return pieces


def _widening(graph: Graph, nodes: tuple[int, ...]) -> int:
    """The factor by which a block multiplies the stride."""
    given = [graph.strides[each] for node in nodes for each in graph.nodes[node].inputs if each not in nodes]
    before, after = max((each for each in given if each is not None), default=None), graph.strides[nodes[-1]]
    return 1 if before is None or after is None else after // before


def _children(graph: Graph) -> list[str]:
    firsts = (node.path.partition(".")[0] for node in graph.nodes[1:])
    return list(dict.fromkeys(name for name in firsts if name)) or [""]


def _by_stage(graph: Graph, stages: list[tuple[str, Sequence[str]]]) -> Iterator[tuple[str, list[int]]]:
    """The nodes of every stage; nodes between two stages belong to the earlier one."""
    found: list[list[int]] = [[] for _ in stages]
    current = 0
    for position, node in enumerate(graph.nodes[1:], start=1):
        # A module that several stages share, such as an activation, belongs to the current stage.
        for index in (*range(current, len(stages)), *range(current)):
            if any(_inside(node.path, part) for part in stages[index][1]):
                current = index
                break
        found[current].append(position)
    for (name, _), nodes in zip(stages, found, strict=True):
        yield name, nodes


def _inside(path: str, module: str) -> bool:
    return not module or path == module or path.startswith(f"{module}.")


def _units(graph: Graph, path: str, nodes: tuple[int, ...]) -> Iterator[_Unit]:
    """Divide what ran in the module `path` into blocks and single nodes."""
    layer = all(graph.nodes[node].path == path and graph.nodes[node].type for node in nodes)
    if layer or len(steps_of(graph, nodes)) <= 2:
        yield from ((None, (node,)) for node in nodes)
        return
    by_child = groupby(nodes, key=lambda node: _child(path, graph.nodes[node].path))
    groups = [(child, tuple(group)) for child, group in by_child]
    type, chained = graph.modules.get(path, ""), _chained(graph, groups)
    inside: list[_Unit] = []
    for child, group in groups:
        inside += _units(graph, child, group) if child != path else [(None, (node,)) for node in group]
    blocks = sum(name is not None for name, _ in inside)
    row = chained and (type in _CONTAINERS or blocks > 1)
    large = blocks > 0 and len(steps_of(graph, nodes)) > LARGEST_BLOCK
    if row or large or not path:
        yield from inside
    else:
        yield type, nodes


def _child(path: str, node: str) -> str:
    """The path of the child of `path` that contains `node`, or `path` itself if none does."""
    if node == path:
        return path
    rest = node[len(path) + 1 :] if path else node
    name = rest.partition(".")[0]
    return f"{path}.{name}" if path else name


def _chained(graph: Graph, groups: list[tuple[str, tuple[int, ...]]]) -> bool:
    """Whether each group takes nothing but the last output of the group before it."""
    for (_, before), (_, group) in pairwise(groups):
        outside = {each for node in group for each in graph.nodes[node].inputs if each not in group}
        if outside != {before[-1]}:
            return False
    first = groups[0][1]
    return len({each for node in first for each in graph.nodes[node].inputs if each not in first}) <= 1


def _structure(block: BlockGraph) -> tuple[object, ...]:
    """Equal for blocks of one kind."""

    def roles(words: tuple[str, ...]) -> tuple[bool, ...]:
        return tuple("norm" in word for word in words)

    steps = tuple((step.sort, step.words, roles(step.before), roles(step.after), step.inputs) for step in block.steps)
    return block.type, steps


def _variants(kinds: Sequence[Sequence[BlockGraph]]) -> list[str]:
    """For each kind, as few features as distinguish it from the other kinds of its class."""
    told = [in_words(blocks[0].type) for blocks in kinds]
    for describe in (_shortcut, _gate, _expansion, _halves):
        longer = [", ".join(filter(None, (words, describe(blocks)))) for words, blocks in zip(told, kinds, strict=True)]
        told_apart = Counter(words for words, _ in set(zip(told, longer, strict=True)))
        told = [more if told_apart[words] > 1 else words for words, more in zip(told, longer, strict=True)]
    return [words.partition(", ")[2] for words in told]


def _shortcut(blocks: Sequence[BlockGraph]) -> str:
    steps = blocks[0].steps
    for step in steps:
        if step.words == "add":
            branches = [steps[each] for each in step.inputs]
            if any(branch.sort is Sort.INPUT for branch in branches):
                return "identity shortcut"
            return f"{'zero-padded' if any(each.sort is Sort.JOIN for each in branches) else 'projection'} shortcut"
    return "no shortcut"


def _gate(blocks: Sequence[BlockGraph]) -> str:
    return "squeeze-and-excite" if any(step.words == "multiply" for step in blocks[0].steps) else ""


def _expansion(blocks: Sequence[BlockGraph]) -> str:
    return "no expansion" if blocks[0].steps[1].sort is Sort.DEPTHWISE else ""


def _halves(blocks: Sequence[BlockGraph]) -> str:
    return "stride 2" if all(any(step.stride == 2 for step in block.steps) for block in blocks) else ""
