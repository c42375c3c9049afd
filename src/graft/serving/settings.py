"""The settings of a service: the model and its engine, what requests may cost, and who may send them."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from graft.errors import InputError
from graft.given import seconds, whole_number

MEBIBYTE = 2**20
# The environment variable for the key, where other users of the machine cannot see it.
KEY_VARIABLE = "GRAFT_API_KEY"


@dataclass(frozen=True)
class Limits:
    """What requests may cost; a request beyond these limits is refused before it is computed."""

    bytes: int = 32 * MEBIBYTE  # in the body of a request
    files: int = 32  # images in a request
    pixels: int | None = None  # in an image; by default the decoder's own limits
    seconds: float = 30.0  # to send a body with the images that it names by URL, and again to be answered
    waiting: int = 256  # images that may wait for a worker
    held: int = 512 * MEBIBYTE  # bytes of all bodies together, with what they are decoded to and fetch
    head_seconds: float = 10.0  # to send the head of a request
    connections: int = 4096  # open at once; beyond it, those idle longest without a request are closed
    batch_seconds: float = 60.0  # that a worker may spend on a batch


@dataclass(frozen=True)
class Serving:
    """A model to serve and how. `run` is as `graft.load` takes it; a batch waits up to `max_wait` seconds to fill.

    Without a `name`, `graft.workflows.serve` names it after its run.
    """

    run: str
    name: str = ""
    engine: str = "auto"
    precision: str = "float32"
    workers: int = 1
    max_batch: int = 32
    max_wait: float = 0.005
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if "/" in self.name or self.name != self.name.strip():
            raise InputError(
                f"expected a name without / and without spaces around it for --name, got {self.name!r}: it is part of "
                "the address /v2/models/NAME"
            )
        whole_number(self.workers, "--workers", 1, 256, "1 uses all cores, and more are worth it only with many cores")
        whole_number(self.max_batch, "--max-batch", 1, 1024, "32 is usual")
        most = self.limits
        whole_number(most.waiting, "--max-waiting", 1, 100_000, "256 is usual")
        whole_number(most.bytes, "--max-bytes", 1, most.held, "32MiB is usual")
        whole_number(most.files, "--max-files", 1, most.waiting, "no request may have more images than may wait")


@dataclass(frozen=True)
class Access:
    """Where the service listens and whom it answers.

    Every request needs the `key`, except for health checks and the page. `origins` are other pages that browsers let
    read answers; `url_hosts` are hosts that images may be fetched from. Raises InputError for an address that others
    can reach without a key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    key: str | None = None
    insecure: bool = False
    origins: tuple[str, ...] = ()
    url_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole_number(self.port, "--port", 0, 65_535, "8000 is usual, and 0 takes a free one")
        if self.key is not None and (len(self.key) < 8 or not self.key.isascii() or not self.key.isprintable()):
            raise InputError(
                f"expected a key of 8 or more printable ASCII characters, got one of {len(self.key)}: "
                "`openssl rand -hex 32` makes one"
            )
        if not (self.is_loopback or self.key or self.insecure):
            raise InputError(
                f"expected a key for --host {self.host}, which other machines may reach, got none: set GRAFT_API_KEY, "
                "or give --insecure"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the host."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def waiting_time(text: str) -> float:
    """Return the seconds in a text like 5ms, 0 or 0.1s. Raises InputError."""
    return 0.0 if text.strip().rstrip("ms") == "0" else seconds(text, "--max-wait")
