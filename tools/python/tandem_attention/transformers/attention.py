"""The attention function "tandem"."""
from __future__ import annotations

import sys
import warnings
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..errors import TandemError
from .cache import HANDLE, TandemLayer
from .masks import tandem_mask

NAME = "tandem"
_announced: set[str] = set()


def announce(text: str) -> None:
    """Warns, once in the process for each text."""
    if text not in _announced:
        _announced.add(text)
        warnings.warn(f"tandem: {text}", stacklevel=2)


def tandem_attention(module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                     attention_mask: torch.Tensor | None, scaling: float | None = None, dropout: float = 0.0,
                     sliding_window: int | None = None, softcap: float | None = None, s_aux: torch.Tensor | None = None,
                     **kwargs: Any) -> tuple[torch.Tensor, None]:
    """Appends the keys and values that a TandemCache handed on, and attends: (batch, tokens, heads, dim), no weights.
    Keys of anything else go to sdpa, or to the model's own eager attention where sdpa cannot do what the layer asks."""
    layer: TandemLayer | None = getattr(key, HANDLE, None)
    if layer is None:
        return _without_cache(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout,
                              sliding_window=sliding_window, softcap=softcap, s_aux=s_aux, **kwargs)
    layer.arrived()
    batch = layer.batch
    if not query.dtype == key.dtype == value.dtype:
        query, key, value = _autocast(query, key, value)
    if attention_mask is not batch.mask:
        raise TandemError(f"attention_mask of shape {tuple(attention_mask.shape) if attention_mask is not None else None} did "
                          "not come from the mask function 'tandem'; only causal attention with a 2-D padding mask is supported")
    if dropout or kwargs.get("position_bias") is not None or kwargs.get("is_causal") is False:
        _refuse(dropout, kwargs)
    if layer.index == 0 and torch.is_grad_enabled() and query.requires_grad:
        announce("attention over a TandemCache has no gradient; use torch.no_grad()")
    if batch.tokens == 1 and batch.counts is None:
        out = layer.calls.one_token(query, key, value, scaling, sliding_window, softcap, s_aux)
    else:
        out = _chunk(module, layer, query, key, value, scaling, sliding_window, softcap, s_aux)
    layer.attended()
    return out, None


def _chunk(module: torch.nn.Module, layer: TandemLayer, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
           scaling: float | None, sliding_window: int | None, softcap: float | None, sinks: torch.Tensor | None) -> torch.Tensor:
    """Several tokens, or rows of which some have padding. A prompt attends to itself by sdpa where that can do it."""
    batch, tokens = layer.batch, query.shape[2]
    counts = batch.counts or [tokens] * query.shape[0]
    packed, chosen = layer.calls.append_rows(query, key, value, counts, scaling, softcap)
    window_hides = sliding_window is not None and 0 < sliding_window < tokens
    if batch.fresh and tokens > 1 and not softcap and sinks is None and not window_hides:
        return _prompt(module, query, key, value, counts, scaling)
    exact = batch.fresh or tokens > batch.select_up_to
    return layer.calls.attend_rows(packed, chosen, counts, tokens, exact, sliding_window, sinks)


def _prompt(module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, counts: list[int],
            scaling: float | None) -> torch.Tensor:
    """Causal attention of each row's real tokens among themselves: without a mask, sdpa has its fastest kernels."""
    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
    tokens = query.shape[2]
    if all(count == tokens for count in counts):
        return sdpa(module, query, key, value, None, scaling=scaling, is_causal=True)[0]
    out = query.new_zeros(query.shape[0], tokens, query.shape[1], value.shape[3])
    for row, count in enumerate(counts):
        if count:
            real = (slice(row, row + 1), slice(None), slice(tokens - count, None))
            out[row, tokens - count:] = sdpa(module, query[real], key[real], value[real], None, scaling=scaling,
                                             is_causal=True)[0][0]
    return out


def _autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """As torch's own attention casts them under torch.autocast, where RoPE leaves queries and keys in float32; without it,
    as they are, which is refused."""
    device = tensors[0].device.type
    if device not in ("cpu", "cuda") or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(tensor.to(dtype) for tensor in tensors)


def _refuse(dropout: float, kwargs: dict[str, Any]) -> None:
    if dropout:
        raise TandemError(f"dropout is {dropout}; attention over a TandemCache has none: use model.eval()")
    raise TandemError("position_bias and is_causal=False are not supported with a TandemCache")


def _without_cache(module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                   attention_mask: torch.Tensor | None, **kwargs: Any) -> tuple[torch.Tensor, Any]:
    if kwargs.get("softcap") is None and kwargs.get("s_aux") is None:
        announce("no TandemCache was given (use_cache=False, training, or another cache): attention is torch's sdpa")
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **kwargs)
    announce("no TandemCache was given (use_cache=False, training, or another cache): attention is the model's eager one")
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:
        raise TandemError(f"{type(module).__name__} has no eager attention for layers with softcap or sinks: a TandemCache is needed")
    return eager(module, query, key, value, _additive(attention_mask, query, key), **kwargs)


def _additive(mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """sdpa's mask (True: visible; None: causal) as eager attention wants it."""
    if mask is None:
        queries, keys = query.shape[2], key.shape[2]
        mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)[None, None]
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill(~mask, torch.finfo(query.dtype).min)


AttentionInterface.register(NAME, tandem_attention)
AttentionMaskInterface.register(NAME, tandem_mask)
