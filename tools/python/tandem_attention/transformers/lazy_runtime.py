"""A Runtime that is made at the first attention, when shapes, dtype, scale and device are known."""
from __future__ import annotations

import threading
from typing import Any, NamedTuple

import torch

from ..errors import TandemError
from ..runtime import Runtime

_DTYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
_OURS = ("num_layers", "num_q_heads", "num_kv_heads", "head_dim_k", "head_dim_v", "scale", "softcap")
_POLICIES = ("latest",)


class Shape(NamedTuple):
    """What all layers of a model must have in common."""
    num_q_heads: int
    num_kv_heads: int
    head_dim_k: int
    head_dim_v: int
    softcap: float
    dtype: torch.dtype
    device: str  # "cpu", or "cuda:N"

    @classmethod
    def of(cls, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, softcap: float | None) -> Shape:
        """Of (batch, heads, tokens, dim) tensors. Throws TandemError for dtypes and devices that differ."""
        for name, tensor in (("key", key), ("value", value)):
            if tensor.dtype != query.dtype or tensor.device != query.device:
                raise TandemError(f"{name} has {tensor.dtype} on {tensor.device}, query has {query.dtype} on {query.device}; "
                                  "all must be the same")
        if query.dtype not in _DTYPES:
            raise TandemError(f"the model computes in {query.dtype}; allowed: {', '.join(map(str, _DTYPES))}")
        if query.device.type not in ("cpu", "cuda"):
            raise TandemError(f"the model is on {query.device}; allowed: cpu, cuda")
        return cls(query.shape[1], key.shape[1], key.shape[3], value.shape[3], float(softcap or 0.0), query.dtype,
                   str(query.device))


class LazyRuntime:
    """Options now, a Runtime later. Shared by all caches of one model."""

    def __init__(self, num_layers: int, options: dict[str, Any]):
        """Checks the options with a small Runtime of one head. Throws TandemError."""
        for name in _OURS:
            if options.get(name) is not None:
                raise TandemError(f"{name} is {options[name]!r}; it comes from the model and cannot be given")
        if options.get("budget") is not None and options.get("error") is not None:
            raise TandemError(f"budget is {options['budget']!r} and error is {options['error']!r}; allowed: one of them")
        selector = options.get("selector")
        kind = selector.get("kind") if isinstance(selector, dict) else selector
        if kind == "topk" and not options.get("auto_split"):  # always slower: who asks for it wants to see what it selects
            options = {"never_slower": False, **options}
        policy = options.get("window_policy") or {}
        if policy.get("kind", "latest") not in _POLICIES:
            raise TandemError(f"window_policy.kind is '{policy['kind']}'; allowed with transformers: {', '.join(_POLICIES)}")
        self.num_layers = num_layers
        self.options = {"sink_tokens": 4, "local_tokens": 256, **{k: v for k, v in options.items() if v is not None}}
        self.runtime: Runtime | None = None
        self.shape: Shape | None = None
        self.scale = 0.0
        self._lock = threading.Lock()
        device = self.options.get("device", "host")
        device = "host" if str(device).startswith("cuda:") else device  # a GPU is not touched before it is needed
        with Runtime(num_layers=1, num_q_heads=1, num_kv_heads=1, head_dim_k=128,
                     **{**self.options, "num_threads": 1, "device": device}):
            pass

    def get(self, shape: Shape, scaling: float | None) -> Runtime:
        """The Runtime, made at the first call. Throws TandemError when `shape` is not that of the first call. Any thread."""
        with self._lock:
            if self.runtime is None:
                self.scale = scaling if scaling is not None else shape.head_dim_k ** -0.5
                self.runtime = self._made(shape)
                self.shape = shape
            elif shape != self.shape:
                raise TandemError(self._misfit(shape))
            return self.runtime

    def _misfit(self, shape: Shape) -> str:
        differs = {name: values for name, *values in zip(Shape._fields, shape, self.shape) if values[0] != values[1]}
        text = ", ".join(f"{name} is {now}, before it was {before}" for name, (now, before) in differs.items())
        if differs.keys() <= {"dtype", "device"}:
            return f"attention does not fit this cache: {text}; where the model has changed, attach() it anew or use a new TandemCache"
        return f"attention does not fit this cache: {text}; it belongs to another model, or the layers of this one differ"

    def _made(self, shape: Shape) -> Runtime:
        dtype = _DTYPES[shape.dtype]
        device = self.options.get("device") or ("host" if shape.device == "cpu" else shape.device)
        if shape.device not in ("cpu", device):
            raise TandemError(f"the model is on {shape.device}, but device is '{device}'; allowed: '{shape.device}'")
        return Runtime(**{"window_dtype": dtype, "host_dtype": dtype, **self.options, "device": device},
                       num_layers=self.num_layers, num_q_heads=shape.num_q_heads, num_kv_heads=shape.num_kv_heads,
                       head_dim_k=shape.head_dim_k, head_dim_v=shape.head_dim_v, scale=self.scale, softcap=shape.softcap)
