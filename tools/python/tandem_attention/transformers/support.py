"""Which models the backend can serve, said before anything runs."""
from __future__ import annotations

import inspect
import re
from typing import Any

import transformers

from ..errors import EUNSUPPORTED, TandemError

_OLDEST, _BEYOND = (5, 21), (6,)  # versions between which the backend was tried
_LAYER_TYPES = ("full_attention", "sliding_attention")


def check_version() -> None:
    """Throws TandemError(EUNSUPPORTED) for a version of transformers that the backend does not know."""
    version = transformers.__version__
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if not _OLDEST <= numbers < _BEYOND:
        raise TandemError(f"transformers is version {version}; allowed: >={'.'.join(map(str, _OLDEST))}, "
                          f"<{'.'.join(map(str, _BEYOND))}", EUNSUPPORTED)


def text_config(model_or_config: Any) -> Any:
    """The configuration of a model's decoder. Throws TandemError for what is neither a model nor a configuration."""
    config = getattr(model_or_config, "config", model_or_config)
    if not hasattr(config, "get_text_config"):
        raise TandemError(f"the model is a {type(model_or_config).__name__}; allowed: a transformers model or its config")
    return config.get_text_config(decoder=True)


def num_layers(model_or_config: Any) -> int:
    """Layers that a step goes through: fewer than the configuration names where the model's list of layers was cut."""
    config = text_config(model_or_config)
    modules = model_or_config.modules() if hasattr(model_or_config, "modules") else ()
    indices = [module.layer_idx for module in modules
               if getattr(module, "config", None) is config and isinstance(getattr(module, "layer_idx", None), int)]
    return min(config.num_hidden_layers, max(indices) + 1) if indices else config.num_hidden_layers


def check_config(config: Any) -> None:
    """Throws TandemError(EUNSUPPORTED) that says why a model of this configuration cannot use Tandem."""
    kinds = sorted(set(getattr(config, "layer_types", None) or ()) - set(_LAYER_TYPES))
    shared = getattr(config, "num_kv_shared_layers", 0) or 0
    reasons = {
        "it is an encoder-decoder model; allowed: decoders": getattr(config, "is_encoder_decoder", False),
        "it caches latent vectors (multi-head latent attention, kv_lora_rank); allowed: keys and values of heads":
            getattr(config, "kv_lora_rank", None),
        f"{shared} layers share the keys and values of others (num_kv_shared_layers); allowed: 0": shared,
        f"it has layers of type {', '.join(kinds)}; allowed: {', '.join(_LAYER_TYPES)}": kinds,
        "its attention is not causal (is_causal)": not getattr(config, "is_causal", True),
    }
    for reason, applies in reasons.items():
        if applies:
            raise TandemError(f"{getattr(config, 'model_type', 'this model')} cannot use Tandem: {reason}", EUNSUPPORTED)


def check_model(model: Any) -> None:
    """check_config(), and whether attention of the model can be replaced at all."""
    check_config(text_config(model))
    name = type(model).__name__
    if not getattr(model, "_supports_attention_backend", False):
        raise TandemError(f"{name} cannot use Tandem: its attention does not go through AttentionInterface", EUNSUPPORTED)
    if any(getattr(module, "config", None) is text_config(model) and getattr(module, "is_causal", True) is False
           for module in model.modules()):
        raise TandemError(f"{name} cannot use Tandem: its attention is not causal; allowed: decoders", EUNSUPPORTED)
    if getattr(model, "_is_stateful", False):
        raise TandemError(f"{name} cannot use Tandem: it keeps a state besides keys and values", EUNSUPPORTED)


def set_implementation(model: Any, name: str) -> None:
    """Sets the attention implementation of the model's decoder; towers for images and sound keep theirs."""
    config = text_config(model)
    for module in model.modules():
        if isinstance(module, transformers.PreTrainedModel) and module.config is config:
            module.set_attn_implementation(name)


def cache_argument(model: Any) -> str:
    """The argument of the model and its generate() that takes a cache: transformers 5.24 renamed it."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
