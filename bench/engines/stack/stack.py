"""A runtime with the caches of a batch, and the lanes that step through its layers."""
from __future__ import annotations

import concurrent.futures
import statistics
from typing import NamedTuple

import torch

import tandem_attention
from synthetic import CHUNK, LayerRows

from . import steps
from .choice import Sides
from .lanes import Lane, halves
from .progress import Progress
from .weights import Tokens, Weights

SINKS = 4
FILLING = 4  # sequences at a time
TAIL = 1024  # prompt tokens whose queries come along, for selectors that calibrate


class Split(NamedTuple):
    """What decides how the work is divided, apart from the batch."""
    context: int
    window: int
    selector: str
    budget: float | None
    error: float | None
    sequences: int  # distinct caches; the others of a batch are forks
    exact_layers: int  # the first layers attend to every row
    threads: int
    never_slower: bool


def fill(sequence, source: int, rows: LayerRows, layers: int, context: int, progress: Progress) -> None:
    """`context` tokens of every layer, and one step of attention, in which the index is made."""
    for layer in range(layers):
        for first in range(0, context, CHUNK):
            tokens = min(CHUNK, context - first)
            keys, values = rows.chunk(layer, source, first, tokens)
            plain = max(0, tokens - TAIL) if first + tokens == context else tokens
            if plain > 0:
                sequence.append(layer, keys[:plain], values[:plain])
            if plain < tokens:
                sequence.append(layer, keys[plain:], values[plain:], rows.queries[plain:tokens])
        sequence.attend(layer, rows.queries[:1])
        progress.advance()


class Stack:
    """Layers of Tandem beside those of `weights`, for `batch` sequences of which the first `split.sequences` are distinct."""

    def __init__(self, weights: Weights, split: Split, batch: int, rows: LayerRows):
        shape, device = weights.shape, weights.device
        self.weights, self.split, self.rows = weights, split, rows
        self.on_gpu = device.type == "cuda"
        self.runtime = tandem_attention.Runtime(
            num_layers=weights.layers, num_q_heads=shape.q_heads, num_kv_heads=shape.kv_heads, head_dim_k=shape.head_dim,
            sink_tokens=SINKS, local_tokens=split.window, window_dtype="bf16", host_dtype="bf16", num_threads=split.threads,
            never_slower=split.never_slower, device=str(device) if self.on_gpu else "host", selector=split.selector, budget=split.budget, error=split.error)
        distinct = min(split.sequences, batch)
        progress = Progress(f"caches of {split.context} tokens", distinct * weights.layers)
        self.sequences = [self.runtime.sequence() for _ in range(distinct)]
        with concurrent.futures.ThreadPoolExecutor(FILLING) as pool:  # much of it is not the workers' and takes one core
            list(pool.map(lambda source: fill(self.sequences[source], source, rows, weights.layers, split.context, progress),
                          range(distinct)))
        self.sequences += [self.sequences[i % distinct].fork() for i in range(distinct, batch)]
        self.length = split.context

    def close(self) -> None:
        self.sequences.clear()
        self.runtime.close()

    def source(self, sequence: int) -> int:
        """Whose rows a sequence of the batch has."""
        return sequence % min(self.split.sequences, len(self.sequences))

    def truncate(self) -> None:
        """Takes out what a way of a step has appended, so that the next one finds what this one found."""
        for sequence in self.sequences:
            if sequence.length() > self.length:
                sequence.truncate(self.length)


class Lanes:
    """The ways of a batch through the layers: whole, and in halves where it has two or more sequences. Made before a
    runtime, since nothing else should touch the GPU while graphs are captured."""

    def __init__(self, weights: Weights, batch: int, graphs: bool):
        self.weights, self.tokens = weights, Tokens(weights.shape, batch, weights.device)
        on_gpu = weights.device.type == "cuda"
        streams = [torch.cuda.Stream(weights.device) if on_gpu else None for _ in range(2)]
        self.whole = [Lane("whole batch", weights, self.tokens, slice(0, batch), streams[0])]
        self.halves = [] if batch < 2 else [Lane(f"half batch {i + 1}", weights, self.tokens, rows, streams[i])
                                            for i, rows in enumerate(halves(batch))]
        self.batch, self.graphs = batch, on_gpu and graphs
        if on_gpu:
            torch.cuda.synchronize(weights.device)  # random weights were made on the default stream
        if self.graphs:
            for lane in self.all:
                lane.capture()

    @property
    def all(self) -> list[Lane]:
        return self.whole + self.halves

    def attach(self, stack: Stack) -> None:
        self.detach()
        for lane in self.all:
            lane.attach(stack.runtime, stack.sequences, stack.split.exact_layers)

    def detach(self) -> None:
        """Before a stack closes, whose calls these would be."""
        for lane in self.all:
            lane.calls.clear()

    def reset(self, position: int) -> None:
        """The tokens of a step at `position`."""
        self.tokens.x.copy_(self.tokens.start)
        self.weights.rotation.set(position)
        if self.weights.device.type == "cuda":
            torch.cuda.synchronize(self.weights.device)


class Timed:
    """Ways of a step take turns, round by round; each begins with the same caches and tokens."""

    def __init__(self, stack: Stack, lanes: Lanes):
        self._stack, self._lanes = stack, lanes
        self.ms: dict[str, list[float]] = {}

    def run(self, name: str, work, *, counted: bool = True, grow: bool = False) -> None:
        """`grow`: the tokens stay, and the next way finds caches that are one longer."""
        self._lanes.reset(self._stack.length)
        took = steps.seconds_of(work, self._lanes.all)
        self._stack.length += grow
        self._stack.truncate()
        if counted:
            self.ms.setdefault(name, []).append(1e3 * took)

    def parts(self, lanes: list[Lane], name: str, counted: bool = True) -> None:
        """Each side's work by itself, by these lanes."""
        for part, work in (("weights", steps.weights_alone), ("attention", steps.attention_alone),
                           ("host", steps.host_tier_alone), ("window", steps.windows_alone)):
            self.run(f"{part}, {name}", lambda work=work: work(lanes), counted=counted)

    def median(self, name: str) -> float:
        return statistics.median(self.ms[name])

    def sides(self, name: str, window_ms: float | None) -> Sides:
        """On a GPU the windows are its work: `window_ms` is what they took there, where that is known, and else what calls
        for them took. On the host they are work of the same workers, and within attention."""
        if not self._stack.on_gpu:
            return Sides(self.median(f"attention, {name}"), self.median(f"weights, {name}"))
        window = self.median(f"window, {name}") if window_ms is None else window_ms
        return Sides(self.median(f"host, {name}"), self.median(f"weights, {name}") + window)
