"""The processes that train together: who they are, what the first tells the others, and what all of them add up.

They are started by torchrun, or anything else that sets its variables. The first does all that one process would do:
it opens the images, decides, writes and prints. The others wait for its word, which is in a store of keys and values,
and take part in the steps of a fit. Only there do they exchange tensors, over gloo on processors and NCCL on GPUs.
Alone, a process has no group, and torch.distributed is not imported.
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

# How often a process that waits for a word looks for it.
LOOK_SECONDS = 0.02
# How long one may be behind the others in a sum: the first writes checkpoints meanwhile.
BEHIND = timedelta(minutes=30)
# Keys of the store: words of the first by number, why one failed, that the first has ended.
WORD, ANSWERS, GO, FAILED, ENDED = "word", "answers", "go", "failed", "ended"
# Columns of which a sum in order is taken at once, so that it takes little memory beside what is added up.
COLUMNS = 2**20


class LostProcess(GraftError):
    """A process that others train with has ended before them."""


class EndedByFirst(LostProcess):
    """The first process has ended before the others, and says why."""


@dataclass(eq=False)
class Processes:
    """This process, number `rank` of `count`, the first of which is 0.

    `job` is what the processes of one start, and of all restarts after it, have in common.
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
        """Whether batches are cut into pieces, as whoever asks for processes wants, be it for one."""
        return not self.alone or (self.job is not None and device == "cpu")

    def call(self, word: Mapping[str, Any]) -> None:
        """Of the first: tell the others what comes next."""
        if not self.alone:
            self.store.set(f"{WORD}/{self._words}", json.dumps(word))
            self._words += 1

    def called(self) -> dict[str, Any]:
        """Of the others: the next word of the first, which is waited for. Raises EndedByFirst."""
        key = f"{WORD}/{self._words}"
        self._wait(lambda: self.store.check([key]))
        self._words += 1
        word: dict[str, Any] = json.loads(self.store.get(key))
        return word

    def gather(self) -> None:
        """Of the first: wait until all others have answered its last word, and let them go on."""
        if not self.alone:
            self._wait(lambda: self.store.add(f"{ANSWERS}/{self._words}", 0) == self.count - 1)
            self.store.set(f"{GO}/{self._words}", "")

    def answer(self) -> None:
        """Of the others: say that what was called for can begin, and wait until it does. Raises EndedByFirst."""
        self.store.add(f"{ANSWERS}/{self._words}", 1)
        self._wait(lambda: self.store.check([f"{GO}/{self._words}"]))

    def _wait(self, until: Callable[[], bool]) -> None:
        # Not in the store itself, where a signal would have to wait as well.
        with self.exchange():
            while not until():
                if self.first:
                    self.raise_failure()
                elif self.store.check([ENDED]):
                    raise EndedByFirst(
                        "expected the first process to train to the end, got an end before: what it said is why"
                    )
                time.sleep(LOOK_SECONDS)

    def add(self, tensor: "Tensor") -> None:
        """Put the sum over all processes in the place of `tensor`, of which each has its own."""
        if not self.alone:
            with self.exchange():
                _group(self).all_reduce(tensor)

    def sum_in_order(self, rows: "Sequence[Tensor]", counts: Sequence[int], like: "Tensor") -> "Tensor":
        """The sum, shaped `like` (n,), of the rows (n,) of all processes, of which each has so many as `counts` says.

        Those of the first come first, and all are added one after the other: the bits are those that one process with
        all the rows would come to. Each process adds up a part of the columns, so little more is sent than in a sum
        whose order is left open.
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
        """Send each process its part of `sent`, and get from each, one after the other, so much as `sizes` says."""
        with self.exchange():
            _group(self).all_to_all_single(
                got.view(-1), sent.contiguous().view(-1), list(sizes), [sent.numel() // self.count] * self.count
            )

    def of_first(self, tensors: "dict[str, Tensor]", facts: Any = None) -> "tuple[dict[str, Tensor], Any]":
        """Tensors on the CPU by name, and what JSON has words for, as the first process has them."""
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
        """A number as the first process has it."""
        if self.alone:
            return number
        import torch

        return float(self._broadcast(torch.tensor(number, dtype=torch.float64)))

    def _text(self, text: str) -> bytes:
        # Bytes, as torch's own way of sending objects unpickles what comes.
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
        """Tell why, where the others cannot be reached within the block."""
        try:
            yield
        except RuntimeError as error:
            self.raise_failure()
            raise LostProcess(
                f"expected all {self.count} processes to train to the end, got one that ended before: start them again "
                "with --resume, or let torchrun do so (--max-restarts)"
            ) from error

    def raise_failure(self) -> None:
        """Raise what another process failed of, if one has said so."""
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
    """torch.distributed with its group, made when there is something to add for the first time."""
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
