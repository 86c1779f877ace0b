"""The weight products of a decoder's layers, norms and RoPE among them, in bf16 by torch."""
from __future__ import annotations

import copy

import torch
from torch.nn import functional

from .progress import Progress
from .shapes import Shape

EPSILON = 1e-5


class Tokens:
    """The tensors of a batch with one token each. They stay where they are: CUDA graphs and prepared calls have their
    addresses. Halves of a batch are rows of these."""

    def __init__(self, shape: Shape, batch: int, device: torch.device):
        def heads(count):
            return torch.zeros(batch, count, shape.head_dim, dtype=torch.bfloat16, device=device)

        generator = torch.Generator().manual_seed(3)
        self.start = torch.randn(batch, shape.hidden, generator=generator).bfloat16().to(device)
        self.x = self.start.clone()  # the residual stream
        self.q, self.k, self.v, self.out = heads(shape.q_heads), heads(shape.kv_heads), heads(shape.kv_heads), heads(shape.q_heads)


class Rotation:
    """cos and sin of RoPE for the position that all sequences of a batch are at."""

    def __init__(self, shape: Shape, device: torch.device):
        self._frequencies = shape.rope_theta ** -(torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim)
        self.cos = torch.ones(shape.head_dim // 2, dtype=torch.bfloat16, device=device)
        self.sin = torch.zeros_like(self.cos)

    def set(self, position: int) -> None:
        angles = position * self._frequencies
        self.cos.copy_(angles.cos())
        self.sin.copy_(angles.sin())

    def __call__(self, heads: torch.Tensor) -> torch.Tensor:
        first, second = heads.chunk(2, -1)
        return torch.cat((first * self.cos - second * self.sin, second * self.cos + first * self.sin), -1)


class Weights:
    """`layers` layers of random weights. Products of those of unit rows are of unit size, and the residual stream stays so."""

    def __init__(self, shape: Shape, layers: int, device: torch.device):
        self.shape, self.layers, self.device = shape, layers, device
        self.rotation = Rotation(shape, device)
        generator = torch.Generator(device=device).manual_seed(7)
        progress = Progress("weights", layers)
        self._layers = []
        for _ in range(layers):
            made = {}
            for name, (outputs, inputs) in shape.weights().items():
                size = (inputs if name in ("qkv", "gate_up") else 2 * layers * inputs) ** -0.5
                made[name] = torch.empty(outputs, inputs, dtype=torch.bfloat16, device=device).normal_(0, size, generator=generator)
            for name in ("attention_norm", "mlp_norm"):
                made[name] = torch.ones(shape.hidden, dtype=torch.bfloat16, device=device)
            self._layers.append(made)
            progress.advance()

    def first(self, layers: int) -> Weights:
        """The first of these layers, which both share."""
        few = copy.copy(self)
        few.layers, few._layers = layers, self._layers[:layers]
        return few

    def segment(self, index: int, tokens: Tokens, rows: slice) -> None:
        """What comes between two layers' attention: the rest of layer index - 1, and layer `index` up to its q, k and v. The
        first segment is the beginning of the first layer, segment `layers` the end of the last one."""
        if index > 0:
            self._after_attention(self._layers[index - 1], tokens, rows)
        if index < self.layers:
            self._before_attention(self._layers[index], tokens, rows)

    def _before_attention(self, layer: dict, tokens: Tokens, rows: slice) -> None:
        shape, x = self.shape, tokens.x[rows]
        normed = functional.rms_norm(x, (shape.hidden,), layer["attention_norm"], EPSILON)
        heads = functional.linear(normed, layer["qkv"]).view(x.shape[0], -1, shape.head_dim)
        with_rope = shape.q_heads + shape.kv_heads
        turned = self.rotation(heads[:, :with_rope])
        tokens.q[rows].copy_(turned[:, :shape.q_heads])
        tokens.k[rows].copy_(turned[:, shape.q_heads:])
        tokens.v[rows].copy_(heads[:, with_rope:])

    def _after_attention(self, layer: dict, tokens: Tokens, rows: slice) -> None:
        x = tokens.x[rows]
        x += functional.linear(tokens.out[rows].flatten(1), layer["o"])
        normed = functional.rms_norm(x, (self.shape.hidden,), layer["mlp_norm"], EPSILON)
        gate, up = functional.linear(normed, layer["gate_up"]).chunk(2, -1)
        x += functional.linear(functional.silu(gate) * up, layer["down"])
