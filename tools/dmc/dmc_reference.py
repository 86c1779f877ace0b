"""Dynamic Memory Compression (DMC, arXiv:2403.09636) twice, in plain Python and double precision: an oracle for tests.

`stream` keeps a cache as a decoder does: append or overwrite the top entry, then attend. `mask_form` gives every token
an entry and hides those that a later token overwrote. Both are the same function. Slow on purpose: no tensor library.

Shapes, as nested lists: q [tokens][q_heads][D], k and v [tokens][kv_heads][D]; q and k are before RoPE and still hold
the neurons that decide, in their last column. Query head h uses KV head h // (q_heads // kv_heads).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import mul

WINDOW = 12
ALPHA_BIAS = -5.0
OMEGA_BIAS = 5.0

Vector = Sequence[float]


@dataclass(frozen=True)
class Decision:
    """What one KV head does with one token: logit a, whether it merges, importance w."""

    logit: float
    merge: bool
    weight: float


@dataclass
class Result:
    """out [tokens][q_heads][D]; lse [tokens][q_heads], natural log; entries [kv_heads] after the last token."""

    out: list[list[list[float]]] = field(default_factory=list)
    lse: list[list[float]] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)


def dot(a: Vector, b: Vector) -> float:
    return sum(map(mul, a, b))


def without_last(x: Vector) -> list[float]:
    return [*x[:-1], 0.0]


def rotate(x: Vector, position: int, theta: float) -> list[float]:
    """RoPE of x, whose last neuron is zero, at a position; pairs are i and i + D/2; the last neuron is zeroed again."""
    half = len(x) // 2
    y = [0.0] * len(x)
    for i in range(half):
        angle = position * theta ** (-i / half)
        cos, sin = math.cos(angle), math.sin(angle)
        y[i] = x[i] * cos - x[i + half] * sin
        y[i + half] = x[i + half] * cos + x[i] * sin
    y[-1] = 0.0
    return y


def decide(q: Sequence[Sequence[Vector]], k: Sequence[Sequence[Vector]], head: int) -> list[Decision]:
    """The decisions of one KV head. The omega logit is the mean of the last neurons of its query heads, plus 5."""
    group = len(q[0]) // len(k[0])
    decisions = []
    for t in range(len(k)):
        logit = k[t][head][-1] + ALPHA_BIAS
        omega = sum(q[t][h][-1] for h in range(head * group, (head + 1) * group)) / group + OMEGA_BIAS
        decisions.append(Decision(logit, t > 0 and logit > 0.0, 1.0 / (1.0 + math.exp(-omega))))
    return decisions


def attend(q: Vector, keys: Sequence[Vector], values: Sequence[Vector], scale: float) -> tuple[list[float], float]:
    """Softmax attention of one query; returns out and the natural log-sum-exp."""
    logits = [scale * dot(q, key) for key in keys]
    most = max(logits)
    weights = [math.exp(x - most) for x in logits]
    total = sum(weights)
    return [dot(weights, column) / total for column in zip(*values)], most + math.log(total)


class Cache:
    """The compressed cache of one KV head: sums over the top segment, entries, and the tokens still in the window."""

    def __init__(self, theta: float):
        self.theta = theta
        self.keys: list[list[float]] = []
        self.values: list[list[float]] = []
        self.recent: deque[tuple[float, list[float], list[float]]] = deque()
        self.weight, self.key_sum, self.value_sum = 0.0, [0.0], [0.0]

    def update(self, decision: Decision, key: Vector, value: Vector, position: int) -> None:
        """W = b*W + w, the same for w*k and w*v, less what left the window; then append, or overwrite the top."""
        if not decision.merge:
            self.recent.clear()
            self.weight, self.key_sum, self.value_sum = 0.0, [0.0] * len(key), [0.0] * len(value)
            self.keys.append([])
            self.values.append([])
        w, key, value = decision.weight, without_last(key), list(value)
        self.add(w, key, value)
        self.recent.append((w, key, value))
        if len(self.recent) > WINDOW:
            old_weight, old_key, old_value = self.recent.popleft()
            self.add(-old_weight, old_key, old_value)
        self.keys[-1] = rotate([x / self.weight for x in self.key_sum], position, self.theta)
        self.values[-1] = [x / self.weight for x in self.value_sum]

    def add(self, w: float, key: Vector, value: Vector) -> None:
        self.weight += w
        self.key_sum = [s + w * x for s, x in zip(self.key_sum, key)]
        self.value_sum = [s + w * x for s, x in zip(self.value_sum, value)]


def stream(q: Sequence[Sequence[Vector]], k: Sequence[Sequence[Vector]], v: Sequence[Sequence[Vector]],
           theta: float, scale: float, decisions: Sequence[Sequence[Decision]]) -> Result:
    """Token by token; decisions [kv_heads][tokens], as `decide` makes them. The update comes before attention."""
    result, kv_heads = Result(), len(k[0])
    group = len(q[0]) // kv_heads
    caches = [Cache(theta) for _ in range(kv_heads)]
    for t in range(len(q)):
        for head, cache in enumerate(caches):
            cache.update(decisions[head][t], k[t][head], v[t][head], t)
        rows = [attend(rotate(without_last(x), t, theta), caches[h // group].keys, caches[h // group].values, scale)
                for h, x in enumerate(q[t])]
        result.out.append([out for out, _ in rows])
        result.lse.append([lse for _, lse in rows])
    result.entries = [len(cache.keys) for cache in caches]
    return result


def window_mean(rows: Sequence[Vector], decisions: Sequence[Decision], t: int) -> list[float]:
    """Mean of rows, weighted by importance, over the last WINDOW tokens at most of t's segment, t included."""
    first = t
    while decisions[first].merge and t - first + 1 < WINDOW:
        first -= 1
    span = range(first, t + 1)
    total = sum(decisions[i].weight for i in span)
    return [sum(decisions[i].weight * rows[i][c] for i in span) / total for c in range(len(rows[0]))]


def mask_form(q: Sequence[Sequence[Vector]], k: Sequence[Sequence[Vector]], v: Sequence[Sequence[Vector]],
              theta: float, scale: float, decisions: Sequence[Sequence[Decision]]) -> Result:
    """Entry i is visible to query i, and to later queries only if token i + 1 does not merge."""
    tokens, kv_heads = len(q), len(k[0])
    group = len(q[0]) // kv_heads
    result = Result([[] for _ in range(tokens)], [[] for _ in range(tokens)])
    for head, made in enumerate(decisions):
        head_keys, head_values = [without_last(row[head]) for row in k], [row[head] for row in v]
        keys = [rotate(window_mean(head_keys, made, t), t, theta) for t in range(tokens)]
        values = [window_mean(head_values, made, t) for t in range(tokens)]
        for t in range(tokens):
            seen = [i for i in range(t + 1) if i == t or not made[i + 1].merge]
            for h in range(head * group, (head + 1) * group):
                out, lse = attend(rotate(without_last(q[t][h]), t, theta), [keys[i] for i in seen],
                                  [values[i] for i in seen], scale)
                result.out[t].append(out)
                result.lse[t].append(lse)
        result.entries.append(sum(not d.merge for d in made))
    return result
