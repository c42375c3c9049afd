"""Where a network can be cut, and what a head classifies, as the words used in plans and saved models."""

# The cut before the first stage: the trunk is empty and everything trains. Other cuts are named after the stage before
# them.
INPUT = "input"
# The last stage of every network; a cut after it leaves the crown empty.
HEAD = "head"

# What a head classifies: the vector of the `last` stage, those of all `stages`, or those of all after a cut,
# `stages:CUT`.
HeadKind = str
LAST, ALL_STAGES = "last", "stages"


def head_over_all_after(cut: str) -> HeadKind:
    """Return the head kind that classifies the vectors of all stages after a cut."""
    return ALL_STAGES if cut == INPUT else f"{ALL_STAGES}:{cut}"


def cut_before(kind: HeadKind) -> str | None:
    """Return the cut after which a head classifies all stages; None for a head over the last stage, or no head kind."""
    name, colon, cut = kind.partition(":")
    if name != ALL_STAGES:
        return None
    return cut if colon else INPUT


def said_of_head(kind: HeadKind) -> str:
    """Describe in words what a head of this kind classifies."""
    cut = cut_before(kind)
    return "the last stage" if cut is None else "all stages" if cut == INPUT else f"the stages after {cut}"
