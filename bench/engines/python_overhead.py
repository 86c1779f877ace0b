#!/usr/bin/env python3
"""What Python adds to a decode step of one layer: the time of TandemCache.update() and the attention function outside of
td_append and td_attend.

usage: python_overhead.py [--rounds N] [--batch LIST] [--json FILE]

Layers take turns as in a model, with one token per sequence; the tensors are those that transformers' Llama makes. Needs
torch, transformers, and libtandem.so (TANDEM_LIBRARY, or the installed package). On a busy machine look at the minimum of
the rounds, each of 20 steps: others only add. `hot` leaves the two calls out, so that Python finds its own code and
data in the caches, as it does not after attention over a long context.
"""
import argparse
import datetime
import json
import pathlib
import statistics
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tools/python"))  # after an installed package
LAYERS, Q_HEADS, KV_HEADS, HEAD_DIM = 8, 32, 8, 64
STEPS = 20  # of a round


def decode_tensors(torch, batch):
    """q, k, v of one token as a model has them: projections, seen by head."""
    return [torch.randn(batch, 1, heads, HEAD_DIM).transpose(1, 2).contiguous() for heads in (Q_HEADS, KV_HEADS)] + [
        torch.randn(batch, 1, KV_HEADS, HEAD_DIM).transpose(1, 2)]


class Clock:
    """Stands before the C calls of a layer and adds up their time."""

    def __init__(self):
        self.seconds = 0.0

    def timed(self, call):
        def measured(rt, arguments, now=time.perf_counter):
            start = now()
            status = call(rt, arguments)
            self.seconds += now() - start
            return status

        return measured


def per_layer(function, steps):
    start = time.perf_counter()
    for _ in range(steps):
        function()
    return (time.perf_counter() - start) / (steps * LAYERS) * 1e6


def measure(torch, transformers, tandem_attention, batch, rounds):
    """Microseconds per layer and step: [(outside of the calls, inside)] of each round, and outside with no calls at all."""
    from tandem_attention.transformers.attention import tandem_attention as attention

    config = transformers.LlamaConfig(num_hidden_layers=LAYERS, num_attention_heads=Q_HEADS, num_key_value_heads=KV_HEADS,
                                      head_dim=HEAD_DIM, hidden_size=Q_HEADS * HEAD_DIM)
    cache = tandem_attention.TandemCache(config, selector="all", num_threads=1)
    module = torch.nn.Module()
    q, k, v = decode_tensors(torch, batch)

    def step():
        for layer in range(LAYERS):
            key, value = cache.update(k.view_as(k), v, layer)  # a new tensor each time, as in a model
            attention(module, q, key, value, None, scaling=HEAD_DIM ** -0.5)

    def views():
        for _ in range(LAYERS):
            k.view_as(k)

    per_layer(step, 20)
    clock = Clock()
    for layer in cache.layers:
        layer.calls._td_append = clock.timed(layer.calls._td_append)
        layer.calls._td_attend = clock.timed(layer.calls._td_attend)
    view = min(per_layer(views, STEPS) for _ in range(rounds))
    pairs = []
    for _ in range(rounds):
        clock.seconds = 0.0
        total, inside = per_layer(step, STEPS), clock.seconds / (STEPS * LAYERS) * 1e6
        pairs.append((total - inside - view, inside))
        cache.crop(-STEPS)
    for layer in cache.layers:
        layer.calls._td_append = layer.calls._td_attend = lambda rt, arguments: 0
    hot = min(per_layer(step, STEPS) for _ in range(rounds)) - view
    return pairs, hot


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--batch", default="1,4")
    parser.add_argument("--json")
    options = parser.parse_args(arguments)
    try:
        import torch
        import transformers
    except ImportError as error:
        print(f"{error}: pip install torch transformers", file=sys.stderr)
        return 2
    import tandem_attention

    torch.set_grad_enabled(False)
    rows = []
    print(f"{'batch':>5} {'outside us':>10} {'median':>7} {'hot':>6} {'calls us':>9}   per layer and step")
    for batch in map(int, options.batch.split(",")):
        pairs, hot = measure(torch, transformers, tandem_attention, batch, options.rounds)
        outside = [pair[0] for pair in pairs]
        rows.append({"batch": batch, "outside_us": {"min": min(outside), "median": statistics.median(outside)}, "hot_us": hot,
                     "calls_us": {"min": min(pair[1] for pair in pairs), "median": statistics.median(p[1] for p in pairs)}})
        print(f"{batch:5} {min(outside):10.1f} {statistics.median(outside):7.1f} {hot:6.1f} {rows[-1]['calls_us']['min']:9.1f}")
    if options.json:
        report = {"benchmark": "python_overhead", "date": datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds"),
                  "torch": torch.__version__, "transformers": transformers.__version__, "rounds": options.rounds,
                  "layers": LAYERS, "rows": rows}
        pathlib.Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
