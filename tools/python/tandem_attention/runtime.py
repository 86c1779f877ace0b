"""The C interface as Python objects: Runtime and Sequence. Shapes, errors and threads are those of tandem.h."""
from __future__ import annotations

import ctypes
import json
from ctypes import byref, c_int64, c_size_t, c_uint64, c_void_p
from typing import Any, NamedTuple, Sequence as Many

from . import _structs
from ._library import check, library
from ._tensors import ArrayView, floats_of, is_torch, tensor_of, view_of
from .call import Call
from .config import config_json
from .errors import TandemError
from .stats import Stats

_PARTS = {"all": _structs.PART_ALL, "window": _structs.PART_STATIC, "host": _structs.PART_DYNAMIC}


class Attention(NamedTuple):
    """What attend() gives: `out` (queries, num_q_heads, head_dim_v); `lse` (natural log), `error` and `certified`
    (queries, num_q_heads) where they were asked for, else None; the call's Stats."""
    out: Any
    lse: Any
    error: Any
    certified: Any
    stats: Stats


class Runtime:
    """One td_rt: model shape, threads, memory, device and sequences.

    Keyword arguments are the fields of td_config by their names: num_layers, num_q_heads, num_kv_heads, head_dim_k,
    local_tokens and sink_tokens, window_dtype, host_dtype ("f32", "f16", "bf16", "int8", "k8v4"), device ("host",
    "cuda:N"), .. `selector` is a dictionary, or a kind by name ("all", "sketch", "lsh", "topk", "sketch_topk") with its
    fields beside it: budget, error, lsh_bits, .. `window_codec` is a name of the command line ("int8", "kivi4",
    "kivi2:64", "qjl:256,8", ..) or a dictionary. None keeps a default.

        runtime = Runtime(num_layers=2, num_q_heads=8, num_kv_heads=2, head_dim_k=64, local_tokens=256,
                          selector="sketch", budget=0.02)
        with runtime.sequence() as sequence:
            sequence.append(0, k, v, q)          # numpy, torch or DLPack: (tokens, heads, dim)
            out = sequence.attend(0, q).out

    Arrays are read where they lie; the last dimension must be contiguous. Calls on different sequences may run in
    parallel threads (the interpreter's lock is released); two at once on one sequence are a mistake. Throws TandemError.
    """

    def __init__(self, **options: Any):
        self._rt = c_void_p()
        self._library = library()
        check(self._library.td_create_json(config_json(options).encode(), byref(self._rt)))
        config = self.describe()["config"]
        self.num_layers: int = config["num_layers"]
        self.num_q_heads: int = config["num_q_heads"]
        self.num_kv_heads: int = config["num_kv_heads"]
        self.head_dim_k: int = config["head_dim_k"]
        self.head_dim_v: int = config["head_dim_v"]
        self.device: str = config["device"]

    def close(self) -> None:
        """Ends all sequences and frees everything. Later calls fail; closing twice is allowed."""
        rt, self._rt = self._rt, c_void_p()
        if rt:
            self._library.td_destroy(rt)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_rt", None):
            self.close()

    @property
    def handle(self) -> c_void_p:
        """The td_rt*. Throws TandemError once it is closed."""
        if not self._rt:
            raise TandemError("this Runtime is closed")
        return self._rt

    def describe(self) -> dict:
        """The resolved configuration, machine, ISA, device and memory."""
        needed = c_size_t()
        check(self._library.td_describe(self.handle, None, 0, byref(needed)))
        buffer = ctypes.create_string_buffer(needed.value + 256)  # numbers in it may grow between the calls
        check(self._library.td_describe(self.handle, buffer, len(buffer), byref(needed)))
        return json.loads(buffer.value)

    def sequence(self) -> Sequence:
        """A new, empty sequence."""
        made = c_uint64()
        check(self._library.td_seq_create(self.handle, byref(made)))
        return Sequence(self, made.value)

    def append(self, layer: int, k: Any, v: Any, q: Any = None, **options: Any) -> Stats:
        """td_append, with the options of prepare_append()."""
        call = self.prepare_append(layer, k, v, q, **options)
        call.run()
        return call.result()

    def attend(self, layer: int, q: Any, **options: Any) -> Attention:
        """td_attend, with the options of prepare_attend()."""
        call = self.prepare_attend(layer, q, **options)
        call.run()
        return call.result()

    def prepare_append(self, layer: int, k: Any, v: Any, q: Any = None, *, sequences: Many[Sequence],
                       num_tokens: Many[int] | None = None, keep: Any = None, merge: Any = None, importance: Any = None,
                       stream: int | None = None) -> Call:
        """A td_append to be run, or begun: K and V of new tokens of one layer; q for selectors that calibrate. num_tokens,
        one per sequence, may be left out where there is one sequence. `stream` is a cudaStream_t for tensors in a GPU's
        memory."""
        arguments, kept = _structs.sized(_structs.AppendArgs, layer=layer, stream=stream), _views()
        arguments.k = self._tensor("k", k, kept)
        arguments.v = self._tensor("v", v, kept)
        if q is not None:
            arguments.q = self._tensor("q", q, kept)
        tokens = arguments.k.shape[0]
        for name, array in (("keep", keep), ("merge", merge), ("importance", importance)):
            if array is not None:
                kept.append(floats_of(name, array, tokens * self.num_kv_heads))
                setattr(arguments, name, kept[-1].data)
        self._same_memory(kept)
        self._fill(arguments, "num_tokens", sequences, num_tokens, tokens)
        return Call(self, "td_append", arguments, kept, lambda stats: stats)

    def prepare_attend(self, layer: int, q: Any, *, sequences: Many[Sequence], num_queries: Many[int] | None = None,
                       out: Any = None, with_lse: bool = False, with_error: bool = False, parts: str = "all",
                       exact: bool = False, sinks: Any = None, alibi: Any = None, sliding_window: int = 0,
                       stream: int | None = None) -> Call:
        """A td_attend to be run, or begun: attention of the latest queries of one layer. `out` is made where q is a torch
        tensor or a numpy array, in its dtype, and must be given otherwise. parts: "all", "window" or "host"; exact: every
        row of the host tier."""
        if parts not in _PARTS:
            raise TandemError(f"parts is '{parts}'; allowed: {', '.join(_PARTS)}")
        arguments, kept = _structs.sized(_structs.AttendArgs, layer=layer, stream=stream), _views()
        arguments.parts = _PARTS[parts] | (_structs.EXACT if exact else 0)
        arguments.sliding_window = sliding_window
        arguments.q = self._tensor("q", q, kept)
        queries = arguments.q.shape[0]
        out = _empty(q, (queries, self.num_q_heads, self.head_dim_v)) if out is None else out
        arguments.out = self._tensor("out", out, kept)
        if kept[-1].read_only:
            raise TandemError("out is read-only; it must be writeable")
        self._same_memory(kept)
        extra = {"lse": (with_lse, "float32"), "error": (with_error, "float32"), "certified": (with_error, "uint8")}
        made = {name: _empty(q, (queries, self.num_q_heads), dtype, on_host=name != "lse")
                for name, (wanted, dtype) in extra.items() if wanted}
        for name, array in made.items():
            setattr(arguments, name, view_of(name, array).data)
        for name, array in (("sinks", sinks), ("alibi", alibi)):
            if array is not None:
                kept.append(floats_of(name, array, self.num_q_heads))
                setattr(arguments, name, kept[-1].data)
        self._fill(arguments, "num_queries", sequences, num_queries, queries)
        return Call(self, "td_attend", arguments, (kept, made), lambda stats: Attention(
            out, made.get("lse"), made.get("error"), made.get("certified"), stats))

    def timeline_start(self, path: str, max_spans: int = 0) -> None:
        """Records what every call does from here on, for ui.perfetto.dev."""
        check(self._library.td_timeline_start(self.handle, str(path).encode(), max_spans))

    def timeline_stop(self) -> None:
        """Writes the file of timeline_start()."""
        check(self._library.td_timeline_stop(self.handle))

    def _tensor(self, name: str, array: Any, kept: list[ArrayView]) -> _structs.Tensor:
        tensor, view = tensor_of(name, array)
        kept.append(view)
        return tensor

    def _same_memory(self, views: list[ArrayView]) -> None:
        devices = {view.device for view in views}
        if len(devices) > 1:
            raise TandemError(f"tensors are on {', '.join(sorted(devices))}; all of a call must be on one device")
        if devices and (device := devices.pop()) not in ("cpu", self.device):
            raise TandemError(f"tensors are on {device}, but this Runtime's device is '{self.device}'; allowed: cpu" +
                              (f", {self.device}" if self.device != "host" else f", or a Runtime with device='{device}'"))

    @staticmethod
    def _fill(arguments: Any, counts_name: str, sequences: Many[Sequence], counts: Many[int] | None, total: int) -> None:
        if counts is None:
            if len(sequences) != 1:
                raise TandemError(f"{counts_name} is needed for {len(sequences)} sequences")
            counts = [total]
        if len(counts) != len(sequences):
            raise TandemError(f"{counts_name} has {len(counts)} entries for {len(sequences)} sequences")
        arguments.num_seqs = len(sequences)
        arguments.seqs = _structs.sequence_ids([sequence.id for sequence in sequences])
        setattr(arguments, counts_name, _structs.counts(counts))
        arguments.stats = ctypes.pointer(_structs.sized(_structs.Stats))  # which the pointer keeps alive


class Sequence:
    """A sequence of a Runtime: one history of tokens, all layers. Ends with close(), as a context manager, or when nothing
    refers to it any more."""

    def __init__(self, runtime: Runtime, id_: int):
        self.runtime = runtime
        self.id = id_

    def close(self) -> None:
        id_, self.id = self.id, 0
        if id_ and self.runtime._rt:
            check(self.runtime._library.td_seq_destroy(self.runtime.handle, id_))

    def __enter__(self) -> Sequence:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "id", 0) and self.runtime._rt:
            self.runtime._library.td_seq_destroy(self.runtime._rt, self.id)

    def append(self, layer: int, k: Any, v: Any, q: Any = None, **options: Any) -> Stats:
        """Runtime.append() to this sequence alone."""
        return self.runtime.append(layer, k, v, q, sequences=[self], **options)

    def attend(self, layer: int, q: Any, **options: Any) -> Attention:
        """Runtime.attend() of this sequence alone."""
        return self.runtime.attend(layer, q, sequences=[self], **options)

    def fork(self, num_tokens: int = -1) -> Sequence:
        """A new sequence that starts as the first num_tokens of this one (-1: all), sharing its pages copy-on-write."""
        made = c_uint64()
        check(self.runtime._library.td_seq_fork(self.runtime.handle, self.id, num_tokens, None, byref(made)))
        return Sequence(self.runtime, made.value)

    def truncate(self, num_tokens: int) -> None:
        """Forgets the tokens from num_tokens on, in every layer."""
        check(self.runtime._library.td_seq_truncate(self.runtime.handle, self.id, num_tokens))

    def length(self, layer: int = 0) -> int:
        """Tokens in this layer."""
        length = c_int64()
        check(self.runtime._library.td_seq_length(self.runtime.handle, self.id, layer, byref(length)))
        return length.value

    def info(self, layer: int = 0) -> dict[str, int | float]:
        """td_seq_info: rows in window and host tier, bytes of rows and index, .. of this layer."""
        info = _structs.sized(_structs.SeqInfo)
        check(self.runtime._library.td_seq_query(self.runtime.handle, self.id, layer, byref(info)))
        return {name: getattr(info, name) for name, *_ in info._fields_ if name not in ("size", "reserved")}


def _views() -> list[ArrayView]:
    """Holds the arrays of a call until it is over."""
    return []


def _empty(like: Any, shape: tuple, dtype: str | None = None, *, on_host: bool = False) -> Any:
    """An array of the kind of `like`, of its dtype unless one is named, and on its device: the library writes `error` and
    `certified` to host memory wherever the tensors are."""
    if is_torch(like):
        import torch

        return torch.empty(shape, dtype=like.dtype if dtype is None else getattr(torch, dtype),
                           device="cpu" if on_host else like.device)
    if hasattr(like, "__array_interface__"):
        import numpy

        return numpy.empty(shape, dtype=like.dtype if dtype is None else dtype)
    raise TandemError(f"q is a {type(like).__name__}: out must be given, and lse and error need a torch tensor or a numpy array")
