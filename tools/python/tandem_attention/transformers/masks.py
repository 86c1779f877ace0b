"""The mask function "tandem": the padding mask for a TandemCache, sdpa's mask for everything else."""
from __future__ import annotations

from typing import Any

import torch
from transformers.masking_utils import sdpa_mask

from ..errors import TandemError
from .batch import Batch


class CacheOffset(int):
    """The offset 0 of a TandemCache's keys, which tells the mask function whose they are: it is given the numbers of
    Cache.get_mask_sizes(), and not the cache."""
    batch: Batch

    @classmethod
    def of(cls, batch: Batch) -> CacheOffset:
        made = cls(0)
        made.batch = batch
        return made


def tandem_mask(**arguments: Any) -> torch.Tensor | None:
    """(batch, keys) bool where rows are padded, else None; nothing of the size queries x keys is made. Throws TandemError for
    masks that are not causal. Without a TandemCache: what sdpa_mask() gives."""
    batch = getattr(arguments.get("kv_offset"), "batch", None)
    if batch is None:
        return sdpa_mask(**arguments)
    if not arguments.get("allow_is_causal_skip", True):
        raise TandemError("this model or input has a mask that is not simply causal (packed sequences, blocks of an image); "
                          "Tandem supports causal attention with left padding")
    return batch.note_mask(arguments.get("attention_mask"), arguments["kv_length"])
