"""TandemCache: the KV cache of a transformers model, kept by a Runtime."""
from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from ..errors import TandemError
from .batch import Batch
from .calls import LayerCalls
from .counts import CacheStats, CallLog
from .lazy_runtime import LazyRuntime
from .masks import CacheOffset
from .support import check_config, num_layers, text_config


HANDLE = "tandem_layer"  # the attribute of keys by which the attention function finds their layer


class TandemLayer(CacheLayerMixin):
    """One layer. update() hands the new keys and values on as they are, with itself as their attribute HANDLE;
    nothing is ever concatenated. What concerns all layers is TandemCache's."""

    is_compileable = False
    is_croppable = True
    is_sliding = False
    supports_early_init = False

    def __init__(self, batch: Batch, index: int):
        super().__init__()
        self.batch, self.index = batch, index
        self.calls = LayerCalls(batch, index)
        self._is_last = index == batch.lazy.num_layers - 1

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing: sequences are made at the first attention."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any,
               **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.batch.hand_out(self.index, key_states)
        setattr(key_states, HANDLE, self)
        return key_states, value_states

    def arrived(self) -> None:
        self.batch.arrived()

    def attended(self) -> None:
        """The layer's part of the step is done."""
        if self._is_last:
            self.batch.end()
        else:
            self.batch.attended(self.index)

    def get_seq_length(self) -> int:
        return self.batch.slots

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.batch.slots + query_length, CacheOffset.of(self.batch)

    def get_max_length(self) -> int:
        return -1

    def _whole_cache_only(self, *_: Any) -> None:
        raise TandemError("a sequence spans all layers: call the method of the TandemCache, not that of one layer")

    reorder_cache = crop = reset = batch_repeat_interleave = batch_select_indices = _whole_cache_only  # type: ignore[assignment]
    offload = prefetch = _whole_cache_only  # type: ignore[assignment]


class TandemCache(Cache):
    """A KV cache for generate() and forward(), for models whose attention implementation is "tandem":

        model.set_attn_implementation("tandem")
        model.generate(**inputs, past_key_values=TandemCache(model, budget=0.02))       # cache= from transformers 5.24 on

    `model` is a model or its config (a model whose list of layers was cut: the model); the options are those of attach(). Works across calls (turns of a conversation,
    chunks of a prompt) until reset(). copy.deepcopy() shares the rows copy-on-write. One thread at a time."""

    def __init__(self, model: Any, *, selector: str | dict | None = "sketch", budget: float | None = None,
                 error: float | None = None, select_up_to: int = 8, **options: Any):
        check_config(text_config(model))
        lazy = LazyRuntime(num_layers(model), {"selector": selector, "budget": budget, "error": error, **options})
        self._set_up(Batch(lazy, [CallLog() for _ in range(lazy.num_layers)]), select_up_to)

    @classmethod
    def of(cls, lazy: LazyRuntime, logs: list[CallLog], select_up_to: int) -> TandemCache:
        """One of several caches that share a Runtime and count calls together."""
        made = cls.__new__(cls)
        made._set_up(Batch(lazy, logs), select_up_to)
        return made

    def _set_up(self, batch: Batch, select_up_to: int) -> None:
        if isinstance(select_up_to, bool) or not isinstance(select_up_to, int) or select_up_to < 1:
            raise TandemError(f"select_up_to is {select_up_to!r}; it must be an integer of at least 1")
        # Layers know the batch and not the cache: without a cycle, sequences end with the last reference to the cache.
        self.batch = batch
        self.select_up_to = batch.select_up_to = select_up_to
        super().__init__(layers=[TandemLayer(batch, index) for index in range(batch.lazy.num_layers)])

    def stats(self) -> CacheStats:
        """Rows and bytes held now; calls, times and error estimates since the cache was made."""
        return CacheStats.of(self.batch.sequences, self.batch.logs)

    # ---- Cache ---------------------------------------------------------------------------------------------------
    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the steps that all layers have finished, padding included."""
        return self.batch.slots

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self.batch.select(beam_idx.tolist())

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.batch.select([row for row in range(len(self.batch.sequences)) for _ in range(repeats)])

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        rows = torch.arange(len(self.batch.sequences))
        self.batch.select(rows[indices.cpu() if isinstance(indices, torch.Tensor) else indices].tolist())

    def crop(self, tokens_to_remove: int) -> None:
        """Forgets the latest -tokens_to_remove tokens; a positive number, of older transformers, is what to keep at most."""
        slots = self.batch.slots
        self.batch.crop(slots + tokens_to_remove if tokens_to_remove <= 0 else min(slots, tokens_to_remove))

    def reset(self) -> None:
        self.batch.clear()

    @property
    def batch_size(self) -> int:
        return len(self.batch.sequences) or -1

    @property
    def is_initialized(self) -> bool:
        return bool(self.batch.sequences)

    def __deepcopy__(self, memo: dict) -> TandemCache:
        made = type(self).__new__(type(self))
        made._set_up(self.batch.copy(), self.select_up_to)
        memo[id(self)] = made
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TandemError("a TandemCache cannot be pickled: its rows live in a Runtime of this process")
