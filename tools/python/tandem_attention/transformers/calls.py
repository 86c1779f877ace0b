"""td_append and td_attend of one layer for tensors of transformers: (rows, heads, tokens, dim) as (tokens, heads, dim),
read where they lie wherever their strides allow. Structs are kept, so that a step writes addresses and little else."""
from __future__ import annotations

import ctypes
from typing import NoReturn

import torch

from .. import _structs
from .._library import check, library
from ..errors import TandemError
from ..runtime import Runtime
from .batch import Batch
from .lazy_runtime import Shape

_DTYPES = {torch.float32: _structs.F32, torch.float16: _structs.F16, torch.bfloat16: _structs.BF16}


class LayerCalls:
    """The two calls of one layer. Made anew when the model or its runtime changes."""

    def __init__(self, batch: Batch, layer: int):
        self._batch, self._layer = batch, layer
        self._log = batch.logs[layer]
        self._append_stats, self._attend_stats = _structs.sized(_structs.Stats), _structs.sized(_structs.Stats)
        self._append = _structs.sized(_structs.AppendArgs, layer=layer, stats=ctypes.pointer(self._append_stats))
        self._attend = _structs.sized(_structs.AttendArgs, layer=layer, stats=ctypes.pointer(self._attend_stats))
        self._append_address = ctypes.addressof(self._append)
        self._attend_address = ctypes.addressof(self._attend)
        # Views of the structs inside: reading an attribute makes a new Python object each time.
        self._k, self._v, self._q = self._append.k, self._append.v, self._append.q
        self._attend_q, self._out = self._attend.q, self._attend.out
        self._td_append, self._td_attend = library().td_append, library().td_attend
        self._step: tuple | None = None  # what the structs were filled for
        self._sinks: torch.Tensor
        self._sinks_of: tuple | None = None

    def one_token(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None,
                  sliding_window: int | None, softcap: float | None, sinks: torch.Tensor | None) -> torch.Tensor:
        """A decode step of rows that all have their token: the short way. Returns (rows, 1, heads, dim)."""
        query, key, value = _readable(query), _readable(key), _readable(value)  # copies live until the calls are over
        step = (query.shape, query.stride(), key.shape, key.stride(), value.shape, value.stride(), query.dtype, key.dtype,
                value.dtype, query.device, key.device, value.device, scaling, sliding_window, softcap, self._batch.epoch)
        if step != self._step:
            self._step = None
            self._bind(query, key, value, scaling, sliding_window, softcap)
            self._step = step
        if self._fold != 1.0:
            query = (query * self._fold).contiguous()
        out = torch.empty(self._out_shape, dtype=query.dtype, device=query.device)
        self._k.data = key.data_ptr()
        self._v.data = value.data_ptr()
        self._q.data = self._attend_q.data = query.data_ptr()
        self._out.data = out.data_ptr()
        self._attend.sinks = None if sinks is None else self._sinks_pointer(sinks)
        if self._cuda is not None:
            self._append.stream = self._attend.stream = torch.cuda.current_stream(self._cuda).cuda_stream
        self._call_append()
        self._call_attend()
        return out

    def append_rows(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, counts: list[int],
                    scaling: float | None, softcap: float | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Appends the last counts[row] tokens of each row. Returns the queries (sum of counts, heads, dim) and which
        tokens of (rows, tokens) they are; None: all."""
        self._step = None
        runtime = self._open(query, key, value, scaling, softcap)
        if self._fold != 1.0:
            query = query * self._fold
        rows, tokens = query.shape[0], query.shape[2]
        chosen = None
        if any(count != tokens for count in counts):
            places = torch.arange(tokens, device=query.device)
            chosen = places >= tokens - torch.tensor(counts, device=query.device)[:, None]
        packed = [_packed(tensor, chosen) for tensor in (key, value, query)]
        append = self._append
        append.k, append.v, append.q = [_tensor(tensor) for tensor in packed]
        counts_array = _structs.counts(counts)
        append.seqs, append.num_tokens, append.num_seqs = self._batch.ids, counts_array, rows
        append.stream = self._stream()
        self._rt = runtime.handle
        self._call_append()
        return packed[2], chosen

    def attend_rows(self, query: torch.Tensor, chosen: torch.Tensor | None, counts: list[int], tokens: int, exact: bool,
                    sliding_window: int | None, sinks: torch.Tensor | None) -> torch.Tensor:
        """Attention of what append_rows() returned, as (rows, tokens, heads, dim); zero where a token is padding."""
        out = torch.empty(query.shape[0], *self._out_shape[2:], dtype=query.dtype, device=query.device)
        attend = self._attend
        attend.parts = _structs.PART_ALL | (_structs.EXACT if exact else 0)
        attend.q, attend.out = _tensor(query), _tensor(out)
        counts_array = _structs.counts(counts)
        attend.seqs, attend.num_queries, attend.num_seqs = self._batch.ids, counts_array, len(counts)
        attend.sliding_window = sliding_window or 0
        attend.sinks = None if sinks is None else self._sinks_pointer(sinks)
        attend.stream = self._stream()
        self._call_attend()
        if chosen is None:
            return out.view(len(counts), tokens, *out.shape[1:])
        padded = out.new_zeros(len(counts), tokens, *out.shape[1:])
        padded[chosen] = out
        return padded

    # ---- the calls -----------------------------------------------------------------------------------------------
    def _call_append(self) -> None:
        status = self._td_append(self._rt, self._append_address)
        if status:
            self._fail(status)
        self._log.append.log(self._append_stats)

    def _call_attend(self) -> None:
        status = self._td_attend(self._rt, self._attend_address)
        if status:
            self._fail(status)
        self._log.attend.log(self._attend_stats)

    def _fail(self, status: int) -> NoReturn:
        try:
            check(status)
        except TandemError as error:
            raise TandemError(f"layer {self._layer}: {error}", error.status) from None
        raise AssertionError(status)

    def _open(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None,
              softcap: float | None) -> Runtime:
        batch = self._batch
        if key.shape[:3:2] != query.shape[:3:2] or value.shape[:3] != key.shape[:3]:
            raise TandemError(f"query {tuple(query.shape)}, key {tuple(key.shape)} and value {tuple(value.shape)} do not fit: "
                              "they must be (rows, heads, tokens, dim) of the same rows and tokens")
        runtime = batch.lazy.get(Shape.of(query, key, value, softcap), scaling)
        batch.open(runtime)
        scale = batch.lazy.scale
        wanted = scaling if scaling is not None else key.shape[3] ** -0.5
        self._fold = 1.0 if abs(wanted - scale) <= 1e-6 * scale else wanted / scale  # a runtime has one scale
        self._out_shape = (query.shape[0], 1, query.shape[1], value.shape[3])  # of a step of one token
        self._cuda = query.device if query.device.type == "cuda" else None
        return runtime

    def _bind(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None,
              sliding_window: int | None, softcap: float | None) -> None:
        """Fills all of the structs but addresses of tensors for steps like this one."""
        runtime = self._open(query, key, value, scaling, softcap)
        rows = query.shape[0]
        self._rt = runtime.handle
        self._ones = _structs.counts([1] * rows)
        for arguments, counts in ((self._append, "num_tokens"), (self._attend, "num_queries")):
            arguments.seqs, arguments.num_seqs = self._batch.ids, rows
            setattr(arguments, counts, self._ones)
        self._append.k, self._append.v = _tensor(_packed(key, None)), _tensor(_packed(value, None))
        dense = query if self._fold == 1.0 else query.contiguous()
        self._append.q = self._attend.q = _tensor(_packed(dense, None))
        self._attend.out = _tensor(torch.empty(rows, *self._out_shape[2:], dtype=query.dtype, device=query.device))
        self._attend.sliding_window = sliding_window or 0
        self._attend.parts = _structs.PART_ALL

    def _stream(self) -> int | None:
        return None if self._cuda is None else torch.cuda.current_stream(self._cuda).cuda_stream

    def _sinks_pointer(self, sinks: torch.Tensor) -> int:
        """Logits of sinks as float32 in host memory, converted when the parameter has changed."""
        state = (sinks.data_ptr(), None if sinks.is_inference() else sinks._version, sinks.device)
        if state != self._sinks_of:
            logits = sinks.detach().to("cpu", torch.float32).contiguous()
            if logits.numel() != self._out_shape[2]:
                raise TandemError(f"s_aux has {logits.numel()} values; it must have one per query head")
            self._sinks, self._sinks_of = logits, state
        return self._sinks.data_ptr()


def _readable(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy where its last dimension is not contiguous, which td_tensor cannot say."""
    return tensor if tensor.stride(3) == 1 or tensor.shape[3] == 1 else tensor.contiguous()


def _packed(tensor: torch.Tensor, chosen: torch.Tensor | None) -> torch.Tensor:
    """(rows, heads, tokens, dim) as (tokens of all rows, heads, dim): a view, or a copy where no stride can say it."""
    tensor = _readable(tensor)
    rows, heads, tokens, dim = tensor.shape
    by_token = tensor.transpose(1, 2)
    if chosen is not None:
        return by_token[chosen]
    if tokens == 1:
        return by_token[:, 0]
    return by_token[0] if rows == 1 else by_token.reshape(rows * tokens, heads, dim)


def _tensor(tensor: torch.Tensor) -> _structs.Tensor:
    size = tensor.element_size()
    return _structs.Tensor(tensor.data_ptr() if tensor.numel() else None, tuple(tensor.shape),
                           (size * tensor.stride(0), size * tensor.stride(1)), _DTYPES[tensor.dtype],
                           _structs.MEMORY_DEVICE if tensor.is_cuda else _structs.MEMORY_HOST)
