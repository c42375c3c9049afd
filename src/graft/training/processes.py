"""The processes that train together: their ranks, what the first tells the others, and the sums over all of them.

They are started by torchrun, or by anything else that sets its variables. The first does everything that a single
process would: it opens the images, decides, writes and prints. The others wait for its word in a key-value store and
take part in the steps of a fit. Only there do they exchange tensors, over gloo on CPUs and NCCL on GPUs. A process on
its own has no group and does not import torch.distributed.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from graft.errors import GraftError, InputError

if TYPE_CHECKING:
    from torch import Tensor

# The interval at which a waiting process looks for a word.
LOOK_SECONDS = 0.02
# How long a process may lag behind the others in a sum: the first writes checkpoints meanwhile.
BEHIND = timedelta(minutes=30)
# Keys of the store: numbered words of the first, why one failed, whether the first has ended.
WORD, ANSWERS, GO, FAILED, ENDED = "word", "answers", "go", "failed", "ended"
# How many columns an ordered sum takes at once, which bounds the memory it needs beyond its inputs.
COLUMNS = 2**20


class LostProcess(GraftError):
    """Another process of the training run ended before this one."""


class EndedByFirst(LostProcess):
    """The first process ended before the others, and says why."""


@dataclass(eq=False)
class Processes:
    """This process, number `rank` of `count`; the first is 0.

    `job` identifies the processes of one start and of all its restarts.
    """

    rank: int = 0
    count: int = 1
    job: str | None = None
    store: Any = field(default=None, repr=False)
    _words: int = field(default=0, repr=False)

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.count == 1

    def in_pieces(self, device: str) -> bool:
        """Return whether batches are cut into pieces: with several processes, or one from torchrun on a CPU."""
        return not self.alone or (self.job is not None and device == "cpu")

    def call(self, word: Mapping[str, Any]) -> None:
        """In the first process: tell the others what comes next."""
        if not self.alone:
            self.store.set(f"{WORD}/{self._words}", json.dumps(word))
            self._words += 1

    def called(self) -> dict[str, Any]:
        """In the others: wait for the first's next word and return it. Raises EndedByFirst."""
        key = f"{WORD}/{self._words}"
        self._wait(lambda: self.store.check([key]))
        self._words += 1
        word: dict[str, Any] = json.loads(self.store.get(key))
        return word

    def gather(self) -> None:
        """In the first process: wait until all others have answered its last word, and let them go on."""
        if not self.alone:
            self._wait(lambda: self.store.add(f"{ANSWERS}/{self._words}", 0) == self.count - 1)
            self.store.set(f"{GO}/{self._words}", "")

    def answer(self) -> None:
        """In the others: report that the called-for work can begin, and wait until it does. Raises EndedByFirst."""
        self.store.add(f"{ANSWERS}/{self._words}", 1)
        self._wait(lambda: self.store.check([f"{GO}/{self._words}"]))

    def _wait(self, until: Callable[[], bool]) -> None:
        # Poll instead of waiting in the store, where a signal would have to wait as well.
        with self.exchange():
            while not until():
                if self.first:
                    self.raise_failure()
                elif self.store.check([ENDED]):
                    raise EndedByFirst(
                        "expected the first process to train to the end, got an early exit: see the error that it "
                        "printed"
                    )
                time.sleep(LOOK_SECONDS)

    def add(self, tensor: "Tensor") -> None:
        """Replace each process's `tensor` by the sum over all processes."""
        if not self.alone:
            with self.exchange():
                _group(self).all_reduce(tensor)

    def sum_in_order(self, rows: "Sequence[Tensor]", counts: Sequence[int], like: "Tensor") -> "Tensor":
        """Return the sum, shaped `like` (n,), of the rows (n,) of all processes; `counts` says how many rows each has.

        The rows of the first process come first, and all are added one after the other, so the bits match those of one
        process with all the rows. Each process adds up a part of the columns, so little more is sent than in a sum of
        arbitrary order.
        """
        if self.alone:
            return _added(rows)
        import torch
        from torch.nn.functional import pad

        parts = []
        for first in range(0, len(like), COLUMNS):
            columns = min(COLUMNS, len(like) - first)
            each = -(-columns // self.count)
            block = torch.stack([row[first : first + columns] for row in rows]) if rows else like.new_empty(0, columns)
            # (rows, columns) to (process, row, column of its part).
            sent = pad(block, (0, each * self.count - columns)).view(len(rows), self.count, each).transpose(0, 1)
            got = like.new_empty(sum(counts), each)
            self._exchange_parts(got, sent, [count * each for count in counts])
            summed = like.new_empty(each * self.count)
            self._exchange_parts(summed, _added(got).repeat(self.count), [each] * self.count)
            parts.append(summed[:columns])
        return torch.cat(parts)

    def _exchange_parts(self, got: "Tensor", sent: "Tensor", sizes: Sequence[int]) -> None:
        """Send each process its part of `sent`, and receive `sizes` values from each, in order, into `got`."""
        with self.exchange():
            _group(self).all_to_all_single(
                got.view(-1), sent.contiguous().view(-1), list(sizes), [sent.numel() // self.count] * self.count
            )

    def of_first(self, tensors: "dict[str, Tensor]", facts: Any = None) -> "tuple[dict[str, Tensor], Any]":
        """Return the first process's CPU tensors by name and its `facts`, which must be JSON-serialisable."""
        if self.alone:
            return tensors, facts
        import torch

        shapes = {name: (str(each.dtype).removeprefix("torch."), list(each.shape)) for name, each in tensors.items()}
        found = json.loads(self._text(json.dumps({"shapes": shapes, "facts": facts})))
        got: dict[str, Tensor] = {}
        for name, (dtype, shape) in found["shapes"].items():
            own = tensors[name].contiguous() if self.first else torch.empty(shape, dtype=getattr(torch, dtype))
            got[name] = self._broadcast(own)
        return got, found["facts"]

    def number_of_first(self, number: float) -> float:
        """Return the first process's value of a number."""
        if self.alone:
            return number
        import torch

        return float(self._broadcast(torch.tensor(number, dtype=torch.float64)))

    def _text(self, text: str) -> bytes:
        # Send bytes, as torch's own way of sending objects unpickles what it receives.
        import torch

        own = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        size = int(self._broadcast(torch.tensor(len(own))))
        return self._broadcast(own if self.first else torch.empty(size, dtype=torch.uint8)).numpy().tobytes()

    def _broadcast(self, tensor: "Tensor") -> "Tensor":
        with self.exchange():
            _group(self).broadcast(tensor, 0)
        return tensor

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Turn a failure to reach the others within the block into an error that says why."""
        try:
            yield
        except RuntimeError as error:
            self.raise_failure()
            raise LostProcess(
                f"expected all {self.count} processes to train to the end, got one that ended before: start them again "
                "with --resume, or let torchrun do so (--max-restarts)"
            ) from error

    def raise_failure(self) -> None:
        """Raise the error that another process failed with, if one has reported it."""
        failure = None
        with suppress(RuntimeError):
            failure = json.loads(self.store.get(FAILED)) if self.store.check([FAILED]) else None
        if failure is not None:
            kind = InputError if failure["code"] == InputError.exit_code else GraftError
            raise kind(f"process {failure['rank']}: {failure['sentence']}")


ALONE = Processes()


def _added(rows: "Sequence[Tensor] | Tensor") -> "Tensor":
    whole = rows[0].clone()
    for row in rows[1:]:
        whole += row
    return whole


def _group(processes: Processes) -> Any:
    """Return torch.distributed with its group, created the first time tensors are exchanged."""
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store = distributed.PrefixStore("tensors", processes.store)
        distributed.init_process_group(
            backend, store=store, rank=processes.rank, world_size=processes.count, timeout=BEHIND
        )
    return distributed


def disconnect() -> None:
    from torch import distributed

    if distributed.is_initialized():
        with suppress(RuntimeError):
            distributed.destroy_process_group()
