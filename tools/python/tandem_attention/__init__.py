"""Tandem, an attention runtime for KV caches that outgrow the GPU, from Python.

    import tandem_attention
    handle = tandem_attention.attach(model, budget=0.02)     # a transformers model: generate() now uses Tandem

Runtime and Sequence are the C interface (tandem.h); attach() and TandemCache are the backend for Hugging Face
transformers, and import it, and torch, when they are first used. Errors are TandemError.
"""
from typing import Any

from ._library import version
from .call import Call
from .errors import TandemError
from .runtime import Attention, Runtime, Sequence
from .stats import Stats

__all__ = ["Attention", "Call", "Runtime", "Sequence", "Stats", "TandemCache", "TandemError", "attach", "cache_argument", "version"]


def __getattr__(name: str) -> Any:
    if name in ("TandemCache", "attach", "cache_argument"):
        try:
            from . import transformers
        except ImportError as error:
            raise ImportError(f"{name} needs torch and transformers (pip install torch 'transformers>=5.21,<6'): {error}") from error
        return getattr(transformers, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
