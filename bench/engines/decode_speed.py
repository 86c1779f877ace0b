#!/usr/bin/env python3
"""Decode steps of whole models by transformers, with Tandem's caches and its own, side by side.

usage: decode_speed.py [--models tiny,1b] [--tokens 32K] [--steps N] [--threads N] [--json FILE]

Models have random weights: tiny is the project's small Llama's shape in fp32, 1b that of Llama 3.2 1B (16 layers, 32 query and 8
KV heads of 64 dimensions) in bf16. Every cache is filled with the same synthetic keys and values (synthetic.py).

Contenders take turns, step by step, in one process. Attention is the time in Cache.update() and the attention function of
all layers; error is |out - exact| / |exact| per layer and query head, on the first step, against attention in fp32 over the
same keys and values. Needs torch, transformers and libtandem.so (TANDEM_LIBRARY, or the installed package).
"""
import argparse
import os
import pathlib
import statistics
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tools/python"))  # after an installed package

try:
    import torch
    import transformers
    from transformers.cache_utils import DynamicCache, StaticCache
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.models.llama.modeling_llama import eager_attention_forward
except ImportError as missing:
    sys.exit(f"{missing}: pip install torch transformers")

import tandem_attention
from machine import processor, tokens_of, write_report
from synthetic import CHUNK, head_scales, normal_rows, relative_errors
from tandem_attention.transformers import cache_argument
from tandem_attention.transformers.attention import tandem_attention as tandem_function

MODELS = {
    "tiny": (dict(hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
                  head_dim=64, vocab_size=264), torch.float32),
    "1b": (dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
                head_dim=64, vocab_size=128256), torch.bfloat16),
}


def sdpa(*arguments, **options):
    return ALL_ATTENTION_FUNCTIONS["sdpa"](*arguments, **options)


def written(function):
    """`function` over the part of a StaticCache that has been written, without a copy, where a mask would cover the rest."""
    def attend(module, query, key, value, mask, *, cache, **options):
        length = int(cache.get_seq_length())
        return function(module, query, key[:, :, :length], value[:, :, :length], mask, **options)
    return attend


# name -> attention function; its cache, or the options of its TandemCache
CONTENDERS = {
    "transformers sdpa": (sdpa, DynamicCache),
    "transformers eager": (eager_attention_forward, DynamicCache),
    "sdpa, StaticCache": (written(sdpa), StaticCache),
    "tandem all": (tandem_function, dict(selector="all")),
    "tandem sketch 2 %": (tandem_function, dict(selector="sketch", budget=0.02)),
    "tandem sketch 1 %": (tandem_function, dict(selector="sketch", budget=0.01)),
}


class Prefix:
    """Synthetic keys and values of all layers, (1, heads, tokens, dim)."""

    def __init__(self, config, dtype, tokens):
        generator = torch.Generator().manual_seed(1)
        heads, dim = config.num_key_value_heads, config.head_dim
        scale = head_scales(heads)[None, :, None, None]
        self.layers = [tuple(normal_rows(heads, tokens, dim, each, generator).to(dtype) for each in (scale, 1.0))
                       for _ in range(config.num_hidden_layers)]
        self.queries = torch.randn(1, config.num_attention_heads, CHUNK, dim, generator=generator).to(dtype)
        self.tokens = tokens


class Contender:
    """One cache, its attention function, and what its steps took."""

    def __init__(self, name, model, prefix, threads, steps):
        self.name = name
        self.function, kind = CONTENDERS[name]
        self.seconds = 0.0  # of attention, in the step that runs
        self.updating = 0.0  # the part of Cache.update(): transformers concatenates there
        self.steps, self.attention, self.updates, self.errors = [], [], [], []
        if isinstance(kind, dict):
            self.cache = tandem_attention.TandemCache(model.config, num_threads=threads, **kind)
            self._fill(prefix)
        else:
            self.cache = kind() if kind is DynamicCache else kind(model.config, max_cache_len=prefix.tokens + steps)
            for layer, (keys, values) in enumerate(prefix.layers):
                self.cache.update(keys.clone(), values.clone(), layer)
        self.options = {"cache": self.cache} if kind is StaticCache else {}
        self._update = self.cache.update
        self.cache.update = self.update

    def _fill(self, prefix):
        for start in range(0, prefix.tokens, CHUNK):
            for layer, (keys, values) in zip(self.cache.layers, prefix.layers):
                k, v = self.cache.update(keys[:, :, start:start + CHUNK], values[:, :, start:start + CHUNK], layer.index)
                layer.arrived()
                count = k.shape[2]
                layer.calls.append_rows(prefix.queries[:, :, :count], k, v, [count], k.shape[3] ** -0.5, None)
                layer.attended()

    def update(self, *arguments, **options):
        start = time.perf_counter()
        result = self._update(*arguments, **options)
        self.updating += time.perf_counter() - start
        return result

    def attend(self, *arguments, **options):
        start = time.perf_counter()
        result = self.function(*arguments, **options, **self.options)
        self.seconds += time.perf_counter() - start
        return result

    def report(self):
        ms = [1e3 * seconds for seconds in self.attention]
        steps = [1e3 * seconds for seconds in self.steps]
        row = {"name": self.name, "attention_ms": {"min": min(ms), "median": statistics.median(ms)},
               "update_ms": {"median": 1e3 * statistics.median(self.updates)},  # part of attention_ms
               "step_ms": {"min": min(steps), "median": statistics.median(steps)},
               "tokens_per_s": 1e3 / statistics.median(steps),
               "error": {"mean": statistics.mean(self.errors), "max": max(self.errors)}}
        if isinstance(self.cache, tandem_attention.TandemCache):
            stats = self.cache.stats()
            row.update(index_bytes=stats.index_bytes, kv_bytes=stats.kv_bytes, out_error_estimate=stats.attend.out_error,
                       rows_gathered=stats.attend.rows_gathered / max(1, stats.attend.rows_host))
        return row


class Referee:
    """The attention implementation "bench": whose turn it is, and whether outputs are compared with exact ones."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.turn = None
        self.comparing = False

    def __call__(self, module, query, key, value, attention_mask, **options):
        new = (key[:, :, -1:].float(), value[:, :, -1:].float()) if self.comparing else None
        out = self.turn.attend(module, query, key, value, attention_mask, **options)
        if new is not None:
            self.turn.errors += self.errors_of(module.layer_idx, query, new, out[0], options["scaling"])
        return out

    def errors_of(self, layer, query, new, out, scaling):
        keys, values = [torch.cat([part.float(), last], 2) for part, last in zip(self.prefix.layers[layer], new)]
        exact = torch.nn.functional.scaled_dot_product_attention(query.float(), keys, values, scale=scaling, enable_gqa=True)
        return relative_errors(out[0, 0], exact[0, :, 0])


def measure(name, tokens, options):
    """A row for each contender."""
    shape, dtype = MODELS[name]
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**shape, max_position_embeddings=1 << 20, tie_word_embeddings=True, use_cache=True)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    prefix = Prefix(config, dtype, tokens)
    referee = Referee(prefix)
    transformers.AttentionInterface.register("bench", referee)
    transformers.AttentionMaskInterface.register("bench", lambda **_: None)  # one token sees everything
    model.set_attn_implementation("bench")
    contenders = [Contender(each, model, prefix, options.threads, options.steps + 1) for each in CONTENDERS]
    argument = cache_argument(model)
    for step in range(-1, options.steps):  # the one before the first is not counted: it compares
        for contender in contenders:
            referee.turn, referee.comparing = contender, step < 0
            contender.seconds = contender.updating = 0.0
            ids = torch.tensor([[7 + step % 200]])
            start = time.perf_counter()
            model(ids, **{argument: contender.cache})
            took = time.perf_counter() - start
            if step >= 0:
                contender.steps.append(took)
                contender.attention.append(contender.seconds + contender.updating)
                contender.updates.append(contender.updating)
    return [{"model": name, "tokens": tokens, "dtype": str(dtype).removeprefix("torch."), **contender.report()}
            for contender in contenders]


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="tiny,1b")
    parser.add_argument("--tokens", default="32K", type=tokens_of)
    parser.add_argument("--steps", default=15, type=int)
    parser.add_argument("--threads", default=os.cpu_count(), type=int, help="of torch and of Tandem's workers")
    parser.add_argument("--json")
    options = parser.parse_args(arguments)
    torch.set_grad_enabled(False)
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    rows = []
    print(f"{'model':5} {'contender':20} {'attention ms':>12} {'min':>8} {'update':>8} {'step ms':>9} {'tokens/s':>8} {'error':>9} {'rows':>6}")
    for name in options.models.split(","):
        if name not in MODELS:
            parser.error(f"--models has '{name}'; allowed: {', '.join(MODELS)}")
        for row in measure(name, options.tokens, options):
            rows.append(row)
            share = f"{100 * row['rows_gathered']:.1f}%" if "rows_gathered" in row else "100%"
            print(f"{name:5} {row['name']:20} {row['attention_ms']['median']:12.2f} {row['attention_ms']['min']:8.2f} "
                  f"{row['update_ms']['median']:8.2f} {row['step_ms']['median']:9.2f} {row['tokens_per_s']:8.2f} {row['error']['mean']:9.2g} {share:>6}", flush=True)
    if options.json:
        write_report(options.json, "decode_speed", torch=torch.__version__, transformers=transformers.__version__,
                     tandem=tandem_attention.version(), machine={"processor": processor(), "threads": options.threads},
                     steps=options.steps, rows=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
