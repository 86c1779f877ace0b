"""Laws of dmc_reference.py. Needs nothing but Python: python3 -m unittest discover -s tools/dmc"""

from __future__ import annotations

import random
import unittest

import dmc_reference as dmc

TOKENS, Q_HEADS, KV_HEADS, DIM, THETA, SCALE = 45, 4, 2, 8, 1e4, 8 ** -0.5
Rows = list[list[list[float]]]


def heads(rng: random.Random, count: int) -> Rows:
    return [[[rng.gauss(0, 1) for _ in range(DIM)] for _ in range(count)] for _ in range(TOKENS)]


def problem(seed: int, merge_share: float) -> tuple[Rows, Rows, Rows, list[list[dmc.Decision]]]:
    """Random q, k, v whose alpha neurons merge about `merge_share` of the tokens."""
    rng = random.Random(seed)
    q, k, v = heads(rng, Q_HEADS), heads(rng, KV_HEADS), heads(rng, KV_HEADS)
    for row in k:
        for key in row:
            key[-1] = 8.0 if rng.random() < merge_share else 2.0
    for row in q:
        for query in row:
            query[-1] = rng.uniform(-9.0, 0.0)
    return q, k, v, [dmc.decide(q, k, head) for head in range(KV_HEADS)]


class Laws(unittest.TestCase):
    def assert_near(self, a: dmc.Result, b: dmc.Result) -> None:
        self.assertEqual(a.entries, b.entries)
        for row_a, row_b in zip(a.out, b.out, strict=True):
            for out_a, out_b in zip(row_a, row_b, strict=True):
                for x, y in zip(out_a, out_b, strict=True):
                    self.assertAlmostEqual(x, y, delta=1e-12)
        for row_a, row_b in zip(a.lse, b.lse, strict=True):
            for x, y in zip(row_a, row_b, strict=True):
                self.assertAlmostEqual(x, y, delta=1e-12)

    def test_stream_is_mask_form(self) -> None:
        for share in (0.0, 0.3, 0.7, 0.95, 1.0):
            q, k, v, decisions = problem(7, share)
            self.assert_near(dmc.stream(q, k, v, THETA, SCALE, decisions),
                             dmc.mask_form(q, k, v, THETA, SCALE, decisions))

    def test_without_merges_it_is_dense_attention_without_the_last_neuron(self) -> None:
        q, k, v, decisions = problem(8, 0.0)
        result = dmc.stream(q, k, v, THETA, SCALE, decisions)
        for t in range(TOKENS):
            for h in range(Q_HEADS):
                head = h // (Q_HEADS // KV_HEADS)
                keys = [dmc.rotate(dmc.without_last(k[i][head]), i, THETA) for i in range(t + 1)]
                out, lse = dmc.attend(dmc.rotate(dmc.without_last(q[t][h]), t, THETA), keys,
                                      [v[i][head] for i in range(t + 1)], SCALE)
                self.assertAlmostEqual(lse, result.lse[t][h], delta=1e-12)
                for x, y in zip(out, result.out[t][h]):
                    self.assertAlmostEqual(x, y, delta=1e-12)

    def test_merging_always_leaves_one_entry_the_mean_of_the_last_window(self) -> None:
        q, k, v, decisions = problem(9, 1.0)
        result = dmc.stream(q, k, v, THETA, SCALE, decisions)
        self.assertEqual(result.entries, [1] * KV_HEADS)
        for t in range(TOKENS):
            last = range(max(0, t - dmc.WINDOW + 1), t + 1)
            for h in range(Q_HEADS):
                head = h // (Q_HEADS // KV_HEADS)
                total = sum(decisions[head][i].weight for i in last)
                for c in range(DIM):
                    mean = sum(decisions[head][i].weight * v[i][head][c] for i in last) / total
                    self.assertAlmostEqual(mean, result.out[t][h][c], delta=1e-12)

    def test_entries_are_tokens_that_did_not_merge(self) -> None:
        q, k, v, decisions = problem(10, 0.6)
        merges = sum(d.merge for head in decisions for d in head)
        self.assertEqual(sum(dmc.stream(q, k, v, THETA, SCALE, decisions).entries), TOKENS * KV_HEADS - merges)

    def test_first_token_appends_and_the_boundary_does_not_merge(self) -> None:
        q, k, v, _ = problem(11, 1.0)
        k[5][0][-1] = 5.0
        decisions = dmc.decide(q, k, 0)
        self.assertFalse(decisions[0].merge)
        self.assertEqual(decisions[5].logit, 0.0)
        self.assertFalse(decisions[5].merge)
        self.assertTrue(decisions[6].merge)

    def test_importance_is_the_mean_over_the_group(self) -> None:
        q, k, _, _ = problem(12, 0.5)
        q[3][2][-1], q[3][3][-1] = -4.0, -6.0
        self.assertAlmostEqual(dmc.decide(q, k, 1)[3].weight, 0.5, delta=1e-15)


if __name__ == "__main__":
    unittest.main()
