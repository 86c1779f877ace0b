"""Lanes: groups of sequences that pass through the layers together, one lane for a batch, or two for its halves.

On a GPU a lane has a stream of its own. That is what lets the halves overlap: a call on a stream waits for all that the
stream has been given, and what the stream is given afterwards waits for the call's results, so that on one stream the
attention of one half would wait for the weights of the other.
"""
from __future__ import annotations

import contextlib
import time
from typing import Callable, NamedTuple

import torch

from .weights import Tokens, Weights


class Span(NamedTuple):
    """A segment of weight products: nanoseconds of the steady clock, or events of a GPU that stand for them."""
    lane: str
    index: int
    begin: object
    end: object


class LayerCalls(NamedTuple):
    """Tandem's calls of one layer for the sequences of a lane, prepared."""
    append: object
    attend: object  # the window and the host tier
    host: object  # each by itself
    window: object


class Lane:
    """Rows of the batch, their stream, their weight products, and their calls once attach() was given a runtime."""

    def __init__(self, name: str, weights: Weights, tokens: Tokens, rows: slice, stream: torch.cuda.Stream | None):
        self.name, self.rows = name, rows
        self.stream = stream
        self.calls: list[LayerCalls] = []
        self.spans: list[Span] | None = None  # not recorded
        self._tokens = tokens
        self.num_segments = weights.layers + 1
        self._segments: list[Callable[[], object]] = [
            lambda index=index: weights.segment(index, tokens, rows) for index in range(self.num_segments)]

    def capture(self) -> None:
        """Weight products as CUDA graphs, which a few microseconds launch: those of one token are shorter than it takes
        Python to launch their kernels one by one. Throws RuntimeError where torch cannot."""
        with torch.cuda.stream(self.stream):
            for segment in self._segments:  # cuBLAS takes its memory before
                segment()
        self.stream.synchronize()
        graphs, pool = [], torch.cuda.graph_pool_handle()  # one for this lane alone: the other's graphs run beside
        for segment in self._segments:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=self.stream, capture_error_mode="thread_local"):
                segment()
            graphs.append(graph)
        self._segments = [graph.replay for graph in graphs]

    def attach(self, runtime, sequences: list, exact_layers: int) -> None:
        """The calls of every layer, for the sequences of this lane's rows."""
        tokens, rows = self._tokens, self.rows
        mine = sequences[rows]
        ones = [1] * len(mine)
        stream = None if self.stream is None else self.stream.cuda_stream
        q, k, v, out = tokens.q[rows], tokens.k[rows], tokens.v[rows], tokens.out[rows]
        for layer in range(self.num_segments - 1):
            attends = {parts: runtime.prepare_attend(layer, q, sequences=mine, num_queries=ones, out=out, parts=parts,
                                                     exact=layer < exact_layers and parts != "window", stream=stream)
                       for parts in ("all", "host", "window")}
            append = runtime.prepare_append(layer, k, v, q, sequences=mine, num_tokens=ones, stream=stream)
            self.calls.append(LayerCalls(append, attends["all"], attends["host"], attends["window"]))

    def segment(self, index: int) -> None:
        """Weight products; on a GPU they are launched and not waited for."""
        with contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            if self.spans is None:
                self._segments[index]()
                return
            begin = self._now()
            self._segments[index]()
            self.spans.append(Span(self.name, index, begin, self._now()))

    def begin(self, layer: int) -> None:
        """Both calls of a layer: the runtime runs them in this order."""
        calls = self.calls[layer]
        calls.append.begin()
        calls.attend.begin()

    def wait(self, layer: int) -> None:
        calls = self.calls[layer]
        calls.append.wait()
        calls.attend.wait()

    def follow(self, other: Lane) -> None:
        """What this lane launches next comes after what the other one has launched."""
        if self.stream is not None and other.stream is not self.stream:
            self.stream.wait_stream(other.stream)

    def synchronize(self) -> None:
        if self.stream is not None:
            self.stream.synchronize()

    def _now(self):
        if self.stream is None:
            return time.perf_counter_ns()
        event = torch.cuda.Event(enable_timing=True)
        event.record(self.stream)
        return event


def halves(batch: int) -> list[slice]:
    """The rows of two half batches; the first has one more where the batch is odd."""
    middle = (batch + 1) // 2
    return [slice(0, middle), slice(middle, batch)]
