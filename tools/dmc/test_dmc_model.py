"""Laws of dmc_model.py and of the plan of a run. Skipped without PyTorch.

    python3 -m unittest discover -s tools/dmc
"""

from __future__ import annotations

import unittest

try:
    import torch
    import torch.nn.functional as F

    import dmc_model as dmc
    import dmc_reference as reference
    from retrofit_dmc import Plan
except ImportError as missing:
    raise unittest.SkipTest(f"needs PyTorch and safetensors: {missing}") from None

SHAPE = dmc.Shape(2, 16, 24, 4, 2, 8, 32, 1e4, 1e-5)
TOKENS = 45


def problem(seed: int, merge_share: float) -> list[torch.Tensor]:
    """q, k, v, alpha and omega neurons as `compressed_attention` takes them, in double precision."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.double)

    merge = torch.rand(1, 2, TOKENS, generator=generator) < merge_share
    return [normal(1, 4, TOKENS, 7), normal(1, 2, TOKENS, 7), normal(1, 2, TOKENS, 8),
            torch.where(merge, 8.0, 2.0).double(), 3 * normal(1, 4, TOKENS) - 5]


def rope() -> tuple[torch.Tensor, torch.Tensor]:
    return dmc.rope_tables(torch.arange(TOKENS)[None], SHAPE, torch.double)


def random_model(seed: int) -> dmc.Model:
    torch.manual_seed(seed)
    s = SHAPE
    sizes = {"self_attn.q_proj": (32, 16), "self_attn.k_proj": (16, 16), "self_attn.v_proj": (16, 16),
             "self_attn.o_proj": (16, 32), "mlp.gate_proj": (24, 16), "mlp.up_proj": (24, 16),
             "mlp.down_proj": (16, 24), "input_layernorm": (16,), "post_attention_layernorm": (16,)}
    weights = {f"model.layers.{i}.{n}.weight": torch.randn(size)
               for i in range(s.num_layers) for n, size in sizes.items()}
    ends = {"model.embed_tokens.weight": torch.randn(32, 16), "model.norm.weight": torch.ones(16)}
    return dmc.Model(s, weights | ends)


class Attention(unittest.TestCase):
    def test_hard_decisions_are_the_streaming_cache(self) -> None:
        for share in (0.0, 0.4, 0.8, 1.0):
            q, k, v, alpha, omega = inputs = problem(3, share)
            out, lse, decisions = dmc.compressed_attention(*inputs, rope(), dmc.HARD)
            rows = [y[0].transpose(0, 1).tolist() for y in (torch.cat((q, omega[..., None]), -1),
                                                            torch.cat((k, alpha[..., None]), -1), v)]
            made = [reference.decide(rows[0], rows[1], head) for head in range(2)]
            expected = reference.stream(*rows, SHAPE.rope_theta, 8 ** -0.5, made)
            torch.testing.assert_close(out[0].transpose(0, 1), torch.tensor(expected.out, dtype=torch.double))
            torch.testing.assert_close(lse[0].T, torch.tensor(expected.lse, dtype=torch.double))
            self.assertEqual(sum(expected.entries), 2 * TOKENS - int(decisions.alpha.sum()))

    def test_saturated_relaxation_is_the_hard_decision(self) -> None:
        inputs = problem(4, 0.6)
        noise = torch.where(inputs[3] > 5.0, 1e4, -1e4)
        relaxed, _, _ = dmc.compressed_attention(*inputs, rope(), dmc.Mode("relaxed"), noise)
        hard, _, _ = dmc.compressed_attention(*inputs, rope(), dmc.HARD)
        torch.testing.assert_close(relaxed, hard)

    def test_dense_keeps_the_original_attention(self) -> None:
        q, k, v, alpha, omega = inputs = problem(5, 0.5)
        out, _, _ = dmc.compressed_attention(*inputs, rope(), dmc.Mode("dense", keep=1.0))
        full_q = dmc.rotate(torch.cat((q, omega[..., None]), -1), rope(), 1.0)
        full_k = dmc.rotate(torch.cat((k, alpha[..., None]), -1), rope(), 1.0)
        expected = F.scaled_dot_product_attention(full_q, full_k.repeat_interleave(2, 1), v.repeat_interleave(2, 1),
                                                  is_causal=True)
        torch.testing.assert_close(out, expected)

    def test_gradients(self) -> None:
        inputs = [x[..., :20, :].clone().requires_grad_() if x.dim() == 4 else x[..., :20].clone().requires_grad_()
                  for x in problem(6, 0.5)]
        cos, sin = rope()
        noise = 3.0 + 0.1 * torch.randn(1, 2, 20, dtype=torch.double, generator=torch.Generator().manual_seed(1))
        soft = [*inputs[:3], inputs[3].detach().mul(0.1).requires_grad_(), inputs[4]]

        def f(*x: torch.Tensor) -> torch.Tensor:
            return dmc.compressed_attention(*x, (cos[:, :, :20], sin[:, :, :20]), dmc.Mode("relaxed"), noise)[0]

        self.assertTrue(torch.autograd.gradcheck(f, soft, fast_mode=True))


class Training(unittest.TestCase):
    def test_without_merges_relaxation_is_dense(self) -> None:
        model, ids, positions = random_model(1), torch.arange(20)[None], torch.arange(20)[None]
        noise = torch.full((2, 1, 2, 20), -1e4)
        with torch.no_grad():
            relaxed, _ = model(ids, positions, dmc.Mode("relaxed", noise))
            dense, _ = model(ids, positions, dmc.DENSE)
        torch.testing.assert_close(relaxed, dense)

    def test_weights_keep_their_names_and_values(self) -> None:
        model = random_model(2)
        again = {f"model.layers.{i}.{n}.weight": w for i, layer in enumerate(model.layers)
                 for n, w in layer.weights().items()}
        other = dmc.Model(SHAPE, {n: w.detach().clone() for n, w in again.items()} |
                          {"model.embed_tokens.weight": model.embedding, "model.norm.weight": model.norm})
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            self.assertTrue(torch.equal(a, b))

    def test_plan(self) -> None:
        plan = Plan(10, 50, 40, 2.0, 4.0, 0.0, 0.01, 0.001, 0.001)
        self.assertEqual([plan.stage(s) for s in (9, 10, 60)], ["anneal", "ramp", "finetune"])
        self.assertEqual([plan.keep(s) for s in (0, 9, 50)], [0.9, 0.0, 0.0])
        self.assertAlmostEqual(plan.target(34), 1 / 3)
        self.assertAlmostEqual(plan.target(59), 0.5)
        self.assertEqual(plan.target(99), plan.target(59))


if __name__ == "__main__":
    unittest.main()
