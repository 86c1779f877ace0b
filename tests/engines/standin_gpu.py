"""A stand-in for a GPU of torch's, for machines without one: code that works on "cuda:0" runs, on tensors of the host.

It has as much of torch.cuda as bench/engines use. Streams run at once what they are given, and are counted; a graph
keeps the operations that are captured and carries them out again on the tensors that they were captured with, so that one
that was captured too early, or of tensors that have gone elsewhere, gives other results than its operations by themselves.
"""
import contextlib
import time
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


DEVICE = torch.device("cuda:0")


class OnHost(TorchFunctionMode):
    """Tensors that are made on the stand-in, or moved there, are tensors of the host."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def host(value):
            return "cpu" if isinstance(value, torch.device) and value == DEVICE else value

        return func(*map(host, args), **{name: host(value) for name, value in (kwargs or {}).items()})


class HostGenerator(torch.Generator):
    def __new__(cls, device=None):
        return super().__new__(cls)


class Stream:
    def __init__(self, device):
        assert device == DEVICE
        self.cuda_stream = id(self)
        self.pending = 0  # what the host has not waited for

    def synchronize(self):
        self.pending = 0

    def wait_stream(self, other):
        assert other is not self


class Event:
    def __init__(self, enable_timing):
        assert enable_timing

    def record(self, stream):
        assert isinstance(stream, Stream)
        self._ns = time.perf_counter_ns()

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return (end._ns - self._ns) / 1e6


class Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, out))
        return out


class Graph:
    def replay(self):
        made = {}

        def now(tensor):
            return made.get(id(tensor), tensor)

        for func, args, kwargs, out in self.tape.operations:
            again = func(*tree_map_only(torch.Tensor, now, args), **tree_map_only(torch.Tensor, now, kwargs))
            for before, after in zip(out if isinstance(out, (tuple, list)) else [out], again if isinstance(again, (tuple, list)) else [again]):
                made[id(before)] = after


@contextlib.contextmanager
def capture(graph, pool, stream, capture_error_mode):
    assert pool is not None and isinstance(stream, Stream) and capture_error_mode == "thread_local"
    with Tape() as graph.tape:
        yield


@contextlib.contextmanager
def on(stream):
    stream.pending += 1
    yield


@contextlib.contextmanager
def standin_gpu():
    """While it lasts, DEVICE stands for a GPU."""
    replaced = {"Stream": Stream, "Event": Event, "CUDAGraph": Graph, "graph": capture, "stream": on, "graph_pool_handle": object,
                "synchronize": lambda device: None, "set_device": lambda device: None, "is_available": lambda: True,
                "device_count": lambda: 1, "mem_get_info": lambda device: (1 << 40, 1 << 40)}
    with contextlib.ExitStack() as stack:
        for name, stand_in in replaced.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        stack.enter_context(mock.patch.object(torch, "Generator", HostGenerator))
        stack.enter_context(OnHost())
        yield DEVICE
