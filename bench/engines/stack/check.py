"""What a stack's steps are worth: errors against exact attention, and whether the two ways of a step agree. Not timed."""
from __future__ import annotations

import statistics

import torch

from synthetic import CHUNK, ExactAttention, relative_errors
from tandem_attention import Stats

from . import steps
from .progress import Progress
from .stack import Lanes, Stack


def sample(count: int, most: int) -> list[int]:
    """Up to `most` of 0 .. count - 1, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def measured_errors(stack: Stack, lanes: Lanes) -> dict:
    """|out - exact| / |exact| per query head of a few layers and sequences in one step, against attention in fp32 over the same
    keys and values."""
    layers, sequences = sample(stack.weights.layers, 3), sample(lanes.batch, 2)
    taken = {}

    def take(_lane, layer):
        if layer in layers:
            for lane in lanes.all:
                lane.synchronize()
            tokens = lanes.tokens
            taken[layer] = [tensor[sequences].cpu() for tensor in (tokens.q, tokens.k, tokens.v, tokens.out)]

    lanes.reset(stack.length)
    steps.step(lanes.whole[0], take)
    stack.truncate()
    context, shape = stack.split.context, stack.weights.shape
    progress = Progress("exact attention", len(layers) * len(sequences))
    errors = []
    for layer in layers:
        for q, k, v, out, sequence in zip(*taken[layer], sequences):
            exact = ExactAttention(q, shape.kv_heads)
            for first in range(0, context, CHUNK):
                exact.add(*stack.rows.chunk(layer, stack.source(sequence), first, min(CHUNK, context - first)))
            exact.add(k[None], v[None])
            errors += relative_errors(out, exact.out())
            progress.advance()
    return {"mean": statistics.mean(errors), "max": max(errors), "layers": layers, "sequences": sequences}


def same_bits(stack: Stack, lanes: Lanes) -> bool:
    """Whether attention of two halves, both under way at once, has the bits of attention of the whole batch, layer by layer,
    where both are given the same q, k and v."""
    outs: list[torch.Tensor] = []

    def take(lane, _layer):
        lane.synchronize()
        outs.append(lanes.tokens.out[lane.rows].to("cpu", copy=True))  # has ended before the next call writes there

    steps.attention_alone(lanes.whole, take)
    stack.truncate()
    whole, outs = outs, []
    steps.attention_under_way(lanes.halves, take)
    stack.truncate()
    joined = [torch.cat(outs[i:i + 2]) for i in range(0, len(outs), 2)]
    return all(torch.equal(a, b) for a, b in zip(whole, joined, strict=True))


def difference(stack: Stack, lanes: Lanes) -> float:
    """|x - y| / |y| of the residual stream after the last layer, of a step in halves and one of the whole batch: torch may add
    products of other batches in another order."""
    results = []
    for work in (lambda: steps.step(lanes.whole[0]), lambda: steps.ping_pong_step(lanes.halves)):
        lanes.reset(stack.length)
        steps.seconds_of(work, lanes.all)
        stack.truncate()
        results.append(lanes.tokens.x.to("cpu", torch.float32))
    return float((results[1] - results[0]).norm() / results[0].norm())


def stats_of(lanes: list) -> dict:
    """Rows, estimated error and worker time of the lanes' latest attention, over all layers."""
    stats = Stats.sum(calls.attend.result().stats for lane in lanes for calls in lane.calls)
    heads = sum(calls.attend.result().out.shape[0] * calls.attend.result().out.shape[1] for lane in lanes for calls in lane.calls)
    return {"rows_window": stats.rows_window, "rows_host": stats.rows_host, "rows_gathered": stats.rows_gathered,
            "share_of_host_rows": stats.rows_gathered / max(1, stats.rows_host),
            "keys_attended": stats.keys_attended / max(1, stats.keys_visible), "error_estimate": stats.out_error,
            "certified": 1 - stats.uncertified / heads, "worker_ms": {name: us / 1e3 for name, us in stats.us.items()},
            "bytes": stats.bytes, "calls_ms": stats.total_us / 1e3}
