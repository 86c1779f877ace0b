"""Tandem as attention and KV cache of Hugging Face transformers (5.21 or later of 5): attach(), or TandemCache by hand.

Importing this registers the attention implementation and the mask function "tandem". Throws TandemError with versions of
transformers that have other interfaces of caches."""
from .support import cache_argument, check_version

check_version()  # before what such versions may lack is imported

from .attach import Attached, attach
from .attention import NAME
from .cache import TandemCache
from .counts import CacheStats, LayerStats

__all__ = ["NAME", "Attached", "CacheStats", "LayerStats", "TandemCache", "attach", "cache_argument"]
