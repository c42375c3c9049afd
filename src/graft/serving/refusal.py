"""Exceptions for requests that get no result."""

from graft.errors import GraftError


class Refusal(GraftError):
    """A request refused with an HTTP status; the message says what was expected, what came, and what to do."""

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        # Seconds after which to ask again, for the header Retry-After.
        self.retry_after = retry_after


class Gone(Exception):
    """The client closed its connection before it had an answer, so nobody is left to answer."""
