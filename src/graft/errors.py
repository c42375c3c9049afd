"""Exceptions that graft raises on purpose.

    GraftError            the work failed                          exit code 1
    ├── InputError        the call or what it was given is wrong   exit code 2
    │   ├── DataError     the images or their labels
    │   │   └── LeftOpenError  what an option of the commands that read labels would decide
    │   ├── WeightsError  a checkpoint, a base or a saved model
    │   └── CutError      a stage, cut or level that the network does not have
    ├── ImageError        one image cannot be decoded: skipped and named by whoever reads many
    └── FetchError        something that is not on this machine could not be fetched

    Interrupted           the user stopped the work, and it can go on; a kind of KeyboardInterrupt

A message is one sentence in three parts: what was expected, what came, what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from graft.names import without_content
from graft.words import as_called


class GraftError(Exception):
    """The work failed for the reason given in the message, which names arguments where graft is imported."""

    exit_code = 1

    def __str__(self) -> str:
        return as_called(without_content(super().__str__()))


class InputError(GraftError):
    """The call, or something that it names, is wrong."""

    exit_code = 2


class DataError(InputError):
    """The images or their labels cannot be used as they are."""


class LeftOpenError(DataError):
    """Data that can be read in several ways, or in none, without an option; `found` is the message without advice."""

    def __init__(self, found: str, advice: str = "") -> None:
        super().__init__(f"{found}: {advice}" if advice else found)
        self.found = found


class WeightsError(InputError):
    """A checkpoint, a base or a saved model cannot be used as it is."""


class CutError(InputError):
    """The network has no such stage, cut or level."""


class ImageError(GraftError):
    """One image cannot be decoded."""


class FetchError(GraftError):
    """A resource that is not on this machine could not be fetched."""


class Interrupted(KeyboardInterrupt):
    """The user stopped the work; the command `go_on` resumes it, if anything can."""

    def __init__(self, go_on: str | None) -> None:
        nothing = "stopped before the run was begun: there is nothing to resume, so run the same command again"
        super().__init__(nothing if go_on is None else f"stopped; `{go_on}` continues it")


def did_you_mean(word: str, known: Iterable[str], most: int = 1) -> str:
    """Return `" (did you mean 'resnet18'?)"` for up to `most` near misses among `known`, else an empty string."""
    near = [repr(each) for each in get_close_matches(word, list(known), n=most, cutoff=0.6)]
    if not near:
        return ""
    return f" (did you mean {', '.join(near[:-1])}{' or ' if near[1:] else ''}{near[-1]}?)"
