"""How a network displays itself: two lines in a terminal, a table of stages in a notebook."""

from html import escape
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from graft.models.network import Network


def in_brief(network: "Network") -> str:
    """Return two lines: what the network is, then its stages in order."""
    return f"{_title(network)}\n  {', '.join(stage.name for stage in network.stages)}"


def as_table(network: "Network") -> str:
    """Return an HTML table with a row per cut: the stage that ends there, its output, and what is left to train."""
    sections = [network.split(cut) for cut in network.cuts]
    left = [_parameters(crown) for _, crown in sections]
    rows = [("", f"{network.config.channels}", "1", "", network.cuts[0], f"{left[0]:,}")]
    for stage, before, after in zip(network.stages, left, left[1:], strict=False):
        stride = "" if stage.stride is None else str(stage.stride)
        rows.append((stage.name, f"{stage.channels:,}", stride, f"{before - after:,}", stage.name, f"{after:,}"))
    columns = ("stage", "output channels", "stride (px)", "parameters", "cut after it", "parameters left to train")
    return (
        f"<table><caption>{escape(_title(network))}</caption>"
        f"<thead>{_row('th', columns)}</thead><tbody>{''.join(_row('td', row) for row in rows)}</tbody></table>"
    )


def _title(network: "Network") -> str:
    config = network.config
    size = "H, W" if network.input_size is None else ", ".join(map(str, network.input_size[1:]))
    return (
        f"{type(network).__name__} {config.architecture}, {_parameters(network):,} parameters, "
        f"(N, {config.channels}, {size}) to (N, {config.classes})"
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _row(cell: str, texts: tuple[str, ...]) -> str:
    return f"<tr>{''.join(f'<{cell}>{escape(text)}</{cell}>' for text in texts)}</tr>"
