"""attach(): one call that makes generate() of a model use Tandem."""
from __future__ import annotations

import copy
import functools
from typing import Any

from ..errors import TandemError
from .attention import NAME, announce
from .cache import TandemCache
from .counts import CacheStats, CallLog
from .lazy_runtime import LazyRuntime
from .support import cache_argument, check_model, num_layers, set_implementation, text_config


def attach(model: Any, *, selector: str | dict | None = "sketch", budget: float | None = None, error: float | None = None,
           select_up_to: int = 8, **options: Any) -> Attached:
    """Makes model.generate() attend by Tandem, until detach(). Returns a handle with stats().

    selector: "sketch" (the default), "lsh", "topk", "sketch_topk", "all" (exact), or a dictionary of td_selector.
    budget: the share of the rows in host memory that a step gathers (sketch, topk; default 0.02). error: instead of a
    budget, the relative error that a step may have (sketch). select_up_to: steps of more tokens than this attend to every
    row, as prompts do.

    options: fields of the selector (sketch_bits, lsh_bits, lsh_tables, seed, ..) and of td_config by name. The window has
    sink_tokens=4 and local_tokens=256; window_dtype and host_dtype are the model's dtype; device is "host" for a model on
    the CPU and the model's for one on a GPU (not tried on one yet); num_threads, host_memory_bytes, never_slower, auto_split,
    profile, window_codec, .. have the library's defaults.

    generate() with a cache of one's own, use_cache=False or cache_implementation, and calls of the model itself without
    a TandemCache, run on torch's sdpa, which is announced once. Throws TandemError for models that cannot use Tandem
    (encoder-decoders, multi-head latent attention, linear attention) and for options that are wrong; nothing has
    changed then."""
    if getattr(model, "tandem", None) is not None:
        raise TandemError("the model is attached already; detach() first")
    check_model(model)
    options = {"selector": selector, "budget": budget, "error": error, **options}
    return Attached(model, LazyRuntime(num_layers(model), options), select_up_to)


class Attached:
    """A model that uses Tandem; also a context manager, which detaches at its end."""

    def __init__(self, model: Any, lazy: LazyRuntime, select_up_to: int):
        self.model = model
        self._lazy, self._select_up_to = lazy, select_up_to
        self._lazies = {lazy.num_layers: lazy}
        self._logs = [CallLog() for _ in range(lazy.num_layers)]
        self.cache_name = cache_argument(model)
        self._latest = CacheStats.of([], self._logs)
        self.new_cache()  # refuses a wrong select_up_to before anything has changed
        self._implementation = text_config(model)._attn_implementation
        set_implementation(model, NAME)
        if text_config(model)._attn_implementation != NAME:
            set_implementation(model, self._implementation)
            raise TandemError(f"{type(model).__name__} did not take the attention implementation '{NAME}'")
        self._own_generate = vars(model).get("generate")  # somebody's wrapper, that comes back at detach()
        model.tandem = self
        if hasattr(model, "generate"):
            model.generate = _Generate(self, model.generate)

    def new_cache(self) -> TandemCache:
        """A cache for calls of the model itself, or for several turns: model(ids, past_key_values=handle.new_cache())."""
        layers = num_layers(self.model)  # fewer for a while where the model drafts for itself (assistant_early_exit)
        if layers > len(self._logs):
            raise TandemError(f"the model has {layers} layers; it had {len(self._logs)} at attach(): detach() and attach() again")
        lazy = self._lazies.get(layers) or self._lazies.setdefault(layers, LazyRuntime(layers, self._lazy.options))
        return TandemCache.of(lazy, self._logs[:layers], self._select_up_to)

    def stats(self) -> CacheStats:
        """Rows and bytes at the end of the latest generate(); calls, times and error estimates of all caches since attach()."""
        now = CacheStats.of([], self._logs)
        for mine, latest in zip([now, *now.layers], [self._latest, *self._latest.layers]):
            mine.take_rows(latest)
        now.num_sequences = self._latest.num_sequences
        return now

    def describe(self) -> dict | None:
        """The runtime's configuration, machine and memory; None before the first step."""
        return None if self._lazy.runtime is None else self._lazy.runtime.describe()

    def detach(self) -> None:
        """Gives the model back as it was. Caches that exist can still be used with the implementation "tandem"."""
        if getattr(self.model, "tandem", None) is not self:
            return
        set_implementation(self.model, self._implementation)
        vars(self.model).pop("generate", None)
        if self._own_generate is not None:
            self.model.generate = self._own_generate
        del self.model.tandem

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *_: Any) -> None:
        self.detach()

    def __deepcopy__(self, memo: dict) -> Attached:
        """copy.deepcopy(model): the copy is attached as well, with a Runtime and counts of its own."""
        made = memo[id(self)] = object.__new__(type(self))
        vars(made).update(vars(self))
        made.model, made._own_generate = copy.deepcopy((self.model, self._own_generate), memo)
        made._lazy = LazyRuntime(self._lazy.num_layers, self._lazy.options)
        made._lazies = {made._lazy.num_layers: made._lazy}
        made._logs = [CallLog() for _ in self._logs]
        made._latest = CacheStats.of([], made._logs)
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TandemError("an attached model cannot be pickled: detach() first")

    def generate(self, generate: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """What generate() of the model does while it is attached."""
        if not self._wants_cache(args, kwargs):
            return generate(*args, **kwargs)
        cache = self.new_cache()
        kwargs.pop("cache", None), kwargs.pop("past_key_values", None)
        result = generate(*args, **{**kwargs, self.cache_name: cache})
        self._latest = CacheStats.of(cache.batch.sequences, cache.batch.logs)
        return result

    def _wants_cache(self, args: tuple, kwargs: dict[str, Any]) -> bool:
        if kwargs.get("cache") is not None or kwargs.get("past_key_values") is not None:
            return False
        given = kwargs.get("generation_config") or (args[1] if len(args) > 1 else None)

        def setting(name: str) -> Any:  # the model's configuration fills in what that of the call leaves open
            values = [kwargs.get(name), getattr(given, name, None), getattr(self.model.generation_config, name, None)]
            return next((value for value in values if value is not None), None)

        implementation = setting("cache_implementation")
        if implementation not in (None, "hybrid"):  # "hybrid" stands in old published configurations; transformers drops it
            announce(f"cache_implementation='{implementation}' is not Tandem's: generate() runs without it")
            return False
        return setting("use_cache") is not False


class _Generate:
    """The attribute `generate` of an attached model. An object, since copy.deepcopy() would leave a function bound to the
    first model."""

    def __init__(self, attached: Attached, generate: Any):
        functools.update_wrapper(self, generate)
        self._attached, self._model_generate = attached, generate

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._attached.generate(self._model_generate, args, kwargs)
