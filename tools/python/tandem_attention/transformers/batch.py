"""The sequences of one cache, and the step that is going through the layers."""
from __future__ import annotations

from typing import Any

import torch

from .. import _structs
from ..errors import TandemError
from ..runtime import Sequence
from .counts import CallLog
from .lazy_runtime import LazyRuntime


class Batch:
    """Rows of a batch: for each a sequence, which holds only its real tokens. transformers counts padded tokens as well:
    `slots` is the length that it sees, lengths[row] what the row has, and what they differ by is left padding.

    A step is begun by the first layer and counts once the last one has attended; one that was abandoned half-way, by an
    exception, is undone when the next begins. One thread at a time."""

    def __init__(self, lazy: LazyRuntime, logs: list[CallLog]):
        self.lazy = lazy
        self.logs = logs
        self.sequences: list[Sequence] = []
        self.lengths: list[int] = []
        self.slots = 0
        self.select_up_to = 8                # tokens of a step that selects; see attach()
        self.epoch = 0                       # grows when `ids` changes
        self.ids = _structs.sequence_ids([])
        self.counts: list[int] | None = None  # real tokens of the step, per row; None: all of them
        self.tokens = 0                      # of the step, with padding
        self.fresh = True                    # no row had a token before the step
        self.mask: torch.Tensor | None = None
        self._noted: tuple[int, int, list[int]] | None = None  # slots, tokens, counts: what a mask with padding said
        self._rows = 0
        self._running = False
        self._handed_out = False
        self._attended: int | None = None    # the layer whose attention is the latest thing that the step did
        self._stopped: int | None = None     # what that was at the end of the step before, if it was not the last layer

    # ---- a step --------------------------------------------------------------------------------------------------
    def note_mask(self, mask: torch.Tensor | None, kv_length: int) -> torch.Tensor | None:
        """Takes the padding mask (rows, kv_length) of the step to come; None where nothing is padded. Throws TandemError
        for all but left padding, and for a mask that contradicts the one before."""
        if mask is not None and (mask.ndim != 2 or mask.shape[1] != kv_length):
            raise TandemError(f"attention_mask has shape {tuple(mask.shape)}; it must be (batch, {kv_length})")
        if mask is None or mask.all():
            self._noted = self.mask = None
            return None
        tokens = kv_length - self.slots
        noted = (self.slots, tokens, self._counts_of(mask, kv_length, tokens))
        if self._noted != noted:  # else: another kind of layer, the same step
            self._noted, self.mask = noted, mask
        return self.mask

    def _counts_of(self, mask: torch.Tensor, kv_length: int, tokens: int) -> list[int]:
        real = mask.sum(-1)
        places = torch.arange(kv_length, device=mask.device)
        if not torch.equal(mask.bool(), places >= (kv_length - real)[:, None]):
            raise TandemError("attention_mask has zeros after ones; only left padding is supported (padding_side='left')")
        lengths = real.tolist()
        for row, length in enumerate(lengths):
            before = max(0, length - tokens)
            if self.sequences and row < len(self.lengths) and before != self.lengths[row]:
                raise TandemError(f"attention_mask gives row {row} {before} tokens before this step; the cache has "
                                  f"{self.lengths[row]}")
        return [min(length, tokens) for length in lengths]

    def begin(self, key: torch.Tensor) -> None:
        """The first layer has keys (rows, heads, tokens, dim). Throws TandemError when they do not fit the cache."""
        self._check_stop()
        self.recover()
        rows, _, tokens, _ = key.shape
        if self.sequences and rows != len(self.sequences):
            raise TandemError(f"the batch has {rows} rows; this cache holds {len(self.sequences)} sequences")
        noted, self._noted = self._noted, None
        counts = None
        if noted is not None and noted[:2] == (self.slots, tokens):
            counts = noted[2] if min(noted[2]) < tokens else None  # padding may all lie before this step
        else:
            self.mask = None
            if any(length != self.slots for length in self.lengths):
                raise TandemError("the cache holds rows with left padding, so every step needs the attention_mask of all "
                                  f"{self.slots + tokens} tokens")
        self.counts, self.tokens, self._rows = counts, tokens, rows
        self.fresh = not any(self.lengths)
        self._running = True

    def hand_out(self, layer: int, key: torch.Tensor) -> None:
        """Notes that a layer's keys are on their way to the attention function."""
        if self._handed_out and (layer > 0 or self.lazy.num_layers == 1):  # at layer 0 of others, a step was abandoned
            self._handed_out = False
            raise TandemError("keys of the layer before did not arrive: the model's attention is not 'tandem' "
                              "(model.set_attn_implementation('tandem'), or attach(model)), or does not use AttentionInterface")
        if layer == 0:
            self.begin(key)
        elif not self._running or key.shape[2] != self.tokens:
            raise TandemError(f"layer {layer} came with {key.shape[2]} tokens without layer 0 before it")
        self._handed_out, self._attended = True, None

    def arrived(self) -> None:
        """The attention function has what hand_out() announced."""
        self._handed_out = False

    def open(self, runtime: Any) -> None:
        """Makes the sequences at the first step."""
        if not self.sequences:
            self._take([runtime.sequence() for _ in range(self._rows)], [0] * self._rows)

    def attended(self, layer: int) -> None:
        """A layer that is not the last has attended."""
        self._attended = layer

    def end(self) -> None:
        """The last layer has attended: the tokens count."""
        new = self.counts or [self.tokens] * len(self.sequences)
        self.lengths = [length + count for length, count in zip(self.lengths, new)]
        self.slots += self.tokens
        self._running, self._stopped = False, None

    def _check_stop(self) -> None:
        """A step that stopped after a layer may have met an exception there. Two in a row that stopped after the same one come
        from a model that has no more layers, whose tokens would never count."""
        stop, self._attended = self._attended if self._running else None, None
        again = stop is not None and stop == self._stopped
        self._stopped = None if again else stop
        if again:
            raise TandemError(f"two steps in a row ended after {stop + 1} layers, and this cache was made for "
                              f"{self.lazy.num_layers}: make it for the model as it is, TandemCache(model). If both were "
                              "interrupted there, the next one may be tried again")

    def recover(self) -> None:
        """Undoes a step that did not reach its end. Throws TandemError where that is impossible, then and at every later
        call but clear(): layers that differ in length would go on answering."""
        self._handed_out = False
        if not self._running:
            return
        try:
            for sequence, length in zip(self.sequences, self.lengths):
                sequence.truncate(length)
        except TandemError as error:  # still running: whatever comes next ends here as well
            raise TandemError(f"a step was abandoned and cannot be undone, only reset() helps this cache: {error}",
                              error.status) from None
        self._running = False

    # ---- rows ----------------------------------------------------------------------------------------------------
    def select(self, rows: list[int]) -> None:
        """Row i becomes what row rows[i] was, in all layers: each source is kept by its first taker and forked for others."""
        if not self.sequences or rows == list(range(len(self.sequences))):
            return
        self.recover()
        if any(not 0 <= row < len(self.sequences) for row in rows):
            raise TandemError(f"rows {rows} are asked for; this cache has {len(self.sequences)}")
        taken: set[int] = set()
        chosen = []
        for row in rows:
            chosen.append(self.sequences[row].fork() if row in taken else self.sequences[row])
            taken.add(row)
        for row, sequence in enumerate(self.sequences):
            if row not in taken:
                sequence.close()
        self._take(chosen, [self.lengths[row] for row in rows])

    def crop(self, slots: int) -> None:
        """Keeps the first `slots` tokens, padding included. Throws TandemError when that is impossible for one of the rows;
        nothing has changed then."""
        self.recover()
        if not 0 <= slots <= self.slots:
            raise TandemError(f"the cache is to keep {slots} tokens; it has {self.slots}")
        lengths = [max(0, slots - (self.slots - length)) for length in self.lengths]
        changed = [row for row, length in enumerate(lengths) if length != self.lengths[row]]
        if len(changed) == 1:
            self.sequences[changed[0]].truncate(lengths[changed[0]])
            self.lengths = lengths
        elif changed:  # one truncation may be refused after another was done; forks are taken together or not at all
            forks = {row: self.sequences[row].fork(lengths[row]) for row in changed}
            for row in changed:
                self.sequences[row].close()
            self._take([forks.get(row, sequence) for row, sequence in enumerate(self.sequences)], lengths)
        self.slots = slots

    def clear(self) -> None:
        """No sequences, no tokens."""
        self._running = self._handed_out = False
        self._attended = self._stopped = None
        for sequence in self.sequences:
            sequence.close()
        self._take([], [])
        self.slots, self._noted, self.mask = 0, None, None

    def copy(self) -> Batch:
        """A batch with forks of all rows."""
        self.recover()
        other = Batch(self.lazy, [CallLog() for _ in self.logs])
        other._take([sequence.fork() for sequence in self.sequences], list(self.lengths))
        other.slots = self.slots
        return other

    def _take(self, sequences: list[Sequence], lengths: list[int]) -> None:
        self.sequences, self.lengths = sequences, lengths
        self.ids = _structs.sequence_ids([sequence.id for sequence in sequences])
        self.epoch += 1
