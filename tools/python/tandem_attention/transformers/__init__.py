"""Tandem as attention and KV cache of Hugging Face transformers (5.x): attach(), or TandemCache by hand.

Importing this registers the attention implementation and the mask function "tandem"."""
from .attach import Attached, attach
from .attention import NAME
from .cache import TandemCache
from .counts import CacheStats, LayerStats
from .support import cache_argument

__all__ = ["NAME", "Attached", "CacheStats", "LayerStats", "TandemCache", "attach", "cache_argument"]
