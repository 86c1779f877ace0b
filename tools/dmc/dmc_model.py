"""A Llama decoder whose KV cache compresses itself: Dynamic Memory Compression (DMC, arXiv:2403.09636).

Every KV head decides for every token whether its key and value start a new entry of the cache (append) or are averaged
into the entry on top (merge). For head and token t, with q, k, v before RoPE and D = head_dim:

    a_t = k_t[D-1] - 5                      logit of the decision; merge if a_t > 0; the first token appends
    w_t = sigmoid(mean_h q_h,t[D-1] + 5)    importance; the mean is over the query heads of the KV head
    q_t[D-1] = k_t[D-1] = 0                 before and after RoPE
    key_t, value_t                          mean, weighted by w, over the last 12 tokens at most of t's segment; the key
                                            is rotated at position t, that is at the latest position of its segment

Query t sees the closed entries before t's segment, and entry t. In the mask form used here, every token has an entry,
and entry i is visible to query i, and to later queries only if token i+1 starts a segment.

Decisions are relaxed in training: alpha_t = sigmoid((a_t + logistic noise) / 0.1) takes the place of 0 or 1, and
log(1 - alpha_{i+1}) is added to the logit of entry i for queries after i.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WINDOW = 12
ALPHA_BIAS = -5.0
OMEGA_BIAS = 5.0
TEMPERATURE = 0.1
_BAND_ROWS = 32
_QUERY_ROWS = 128


@dataclass(frozen=True)
class Shape:
    """Sizes of the decoder."""

    num_layers: int
    hidden: int
    intermediate: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    vocab: int
    rope_theta: float
    norm_eps: float

    @property
    def group(self) -> int:
        return self.num_q_heads // self.num_kv_heads

    @staticmethod
    def from_config(config: dict[str, Any]) -> "Shape":
        return Shape(config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"],
                     config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"],
                     config["vocab_size"], config["rope_theta"], config["rms_norm_eps"])


@dataclass(frozen=True)
class Mode:
    """How decisions are made.

    `dense`: every token appends. `hard`: merge if a_t > 0. `relaxed`: alpha is drawn, with `noise` (logistic,
    (layers, batch, kv_heads, tokens)). `keep` scales the last neuron of queries and keys in attention: 1 is the
    original model, 0 is DMC.
    """

    kind: str
    noise: Tensor | None = None
    keep: float = 0.0


DENSE, HARD = Mode("dense"), Mode("hard")


@dataclass
class Decisions:
    """What the KV heads of one layer decided; shapes (batch, kv_heads, tokens).

    `logit`: a_t. `alpha`: 0 = append, 1 = merge. `log_closed`: log(1 - alpha). `weight`: w_t.
    """

    logit: Tensor
    alpha: Tensor
    log_closed: Tensor
    weight: Tensor


def decide(alpha_neuron: Tensor, omega_neuron: Tensor, mode: Mode, noise: Tensor | None) -> Decisions:
    """Turns the stolen neurons, (batch, kv_heads, tokens), into decisions; the omega neuron is the group's mean."""
    logit = alpha_neuron + ALPHA_BIAS
    weight = torch.sigmoid(omega_neuron + OMEGA_BIAS)
    if mode.kind == "relaxed":
        assert noise is not None
        x = (logit + noise) / TEMPERATURE
        first = torch.zeros_like(x[..., :1])
        alpha = torch.cat((first, torch.sigmoid(x[..., 1:])), -1)
        return Decisions(logit, alpha, torch.cat((first, -F.softplus(x[..., 1:])), -1), weight)
    merge = (logit > 0) if mode.kind == "hard" else torch.zeros_like(logit, dtype=torch.bool)
    merge[..., 0] = False
    closed = torch.zeros_like(logit).masked_fill(merge, float("-inf"))
    return Decisions(logit, merge.to(logit.dtype), closed, weight)


def average_weights(alpha: Tensor, weight: Tensor) -> Tensor:
    """Share of token t-d in entry t, (..., tokens, WINDOW): w_{t-d} * alpha_{t-d+1} * ... * alpha_t, normalised."""
    tokens = alpha.shape[-1]
    shares, chain = [weight], torch.ones_like(alpha)
    for d in range(1, min(WINDOW, tokens)):
        chain = chain * F.pad(alpha[..., :tokens - d + 1], (d - 1, 0))
        shares.append(chain * F.pad(weight[..., :tokens - d], (d, 0)))
    shares += [torch.zeros_like(weight)] * (WINDOW - len(shares))
    stacked = torch.stack(shares, -1)
    return stacked / stacked.sum(-1, keepdim=True)


def banded_mean(shares: Tensor, x: Tensor) -> Tensor:
    """y_t = sum_d shares_{t,d} x_{t-d}: shares (..., tokens, WINDOW), x (..., tokens, columns)."""
    tokens, reach = x.shape[-2], WINDOW - 1
    fill = -tokens % _BAND_ROWS
    width = _BAND_ROWS + reach
    blocks = F.pad(x, (0, 0, 0, fill)).unflatten(-2, (-1, _BAND_ROWS))
    before = F.pad(blocks[..., :-1, -reach:, :], (0, 0, 0, 0, 1, 0))
    rows = F.pad(shares.flip(-1), (0, 0, 0, fill)).unflatten(-2, (-1, _BAND_ROWS))
    # Row r of a block starts at column r: rows one column longer than the band, read with the band's width.
    band = F.pad(rows, (0, width + 1 - WINDOW)).flatten(-2)[..., :_BAND_ROWS * width].unflatten(-1, (_BAND_ROWS, width))
    return (band @ torch.cat((before, blocks), -2)).flatten(-3, -2)[..., :tokens, :]


class _MaskedAttention(torch.autograd.Function):
    """Causal attention with a bias on every key for all queries but the key's own; skips what causality hides.

    Logits are large: they and their gradients stay in the precision of q. The other products use `product`.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, product: torch.dtype
                ) -> tuple[Tensor, Tensor]:
        """q (heads, group, tokens, D), scaled; k, v (heads, tokens, D); bias (heads, tokens); out as q, and lse."""
        heads, group, tokens, dim = q.shape
        values = v.to(product)
        out, lse, saved = torch.empty_like(q), q.new_empty(heads, group, tokens), []
        for low in range(0, tokens, _QUERY_ROWS):
            high = min(tokens, low + _QUERY_ROWS)
            rows = high - low
            part = q[:, :, low:high].reshape(heads, group * rows, dim)
            scores = torch.bmm(part, k[:, :high].mT).view(heads, group, rows, high)
            own = scores.diagonal(low, -2, -1).clone()
            scores += bias[:, None, None, :high]
            scores.diagonal(low, -2, -1).copy_(own)
            scores[..., low:] += torch.full((rows, rows), float("-inf"), dtype=q.dtype).triu(1)
            if not ctx.needs_input_grad[0]:
                lse[:, :, low:high] = scores.logsumexp(-1)
            p = torch.softmax(scores, -1).view(heads, group * rows, high).to(product)
            out[:, :, low:high] = torch.bmm(p, values[:, :high]).view(heads, group, rows, dim)
            if ctx.needs_input_grad[0]:
                saved.append(p)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(q, k, v, *saved)
        ctx.mark_non_differentiable(lse)
        return out, lse

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        grad_out = grads[0]
        heads, group, tokens, dim = q.shape
        dq, dk, dv, dbias = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v), k.new_zeros(heads, tokens)
        keys = k.to(saved[0].dtype)
        for index, p in enumerate(saved):
            low = index * _QUERY_ROWS
            high = min(tokens, low + _QUERY_ROWS)
            flat = (heads, group * (high - low))
            part, part_out = q[:, :, low:high].reshape(*flat, dim), grad_out[:, :, low:high].reshape(*flat, dim)
            dv[:, :high] += torch.bmm(p.mT, part_out.to(p.dtype))
            dp = torch.bmm(part_out, v[:, :high].mT).mul_(p)
            ds = dp.sub_(p * dp.sum(-1, keepdim=True))
            small = ds.to(p.dtype)
            dq[:, :, low:high] = torch.bmm(small, keys[:, :high]).view(heads, group, high - low, dim)
            dk[:, :high] += torch.bmm(small.mT, part.to(p.dtype))
            dbias[:, :high] += ds.sum(1)
            dbias[:, low:high] -= ds.view(heads, group, high - low, high).diagonal(low, -2, -1).sum(1)
        return dq, dk, dv, dbias, None


def masked_attention(q: Tensor, k: Tensor, v: Tensor, log_closed: Tensor, product: torch.dtype | None = None
                     ) -> tuple[Tensor, Tensor]:
    """Attention in mask form: q (batch, q_heads, tokens, D); k, v (batch, kv_heads, tokens, D), the entries.

    Entry i has log_closed_{i+1} added to its logit for queries after i. Returns out, as q, and the natural log-sum-exp
    (batch, q_heads, tokens), which is computed only where no gradient is asked for. Products other than the logits are
    made in `product`, by default the precision of q.
    """
    batch, kv_heads, tokens, dim = k.shape
    bias = F.pad(log_closed[..., 1:], (0, 1)).reshape(batch * kv_heads, tokens)
    grouped = (q * dim ** -0.5).reshape(batch * kv_heads, -1, tokens, dim)
    out, lse = _MaskedAttention.apply(grouped, k.reshape(-1, tokens, dim), v.reshape(-1, tokens, dim), bias,
                                      product or q.dtype)
    return out.reshape(q.shape), lse.reshape(q.shape[:-1])


def rope_tables(positions: Tensor, shape: Shape, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (batch, 1, tokens, D / 2), for positions (batch, tokens)."""
    powers = torch.arange(0, shape.head_dim, 2, dtype=dtype) / shape.head_dim
    angles = positions.to(dtype)[:, None, :, None] * (shape.rope_theta ** -powers)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rope: tuple[Tensor, Tensor], keep: float = 0.0) -> Tensor:
    """RoPE (pairs i and i + D/2); the last neuron of the result is scaled by `keep`."""
    cos, sin = rope
    a, b = x.chunk(2, -1)
    last = b * cos + a * sin
    if keep != 1.0:
        last = torch.cat((last[..., :-1], last[..., -1:] * keep), -1)
    return torch.cat((a * cos - b * sin, last), -1)


def compressed_attention(q: Tensor, k: Tensor, v: Tensor, alpha_neuron: Tensor, omega_neuron: Tensor,
                         rope: tuple[Tensor, Tensor], mode: Mode, noise: Tensor | None = None,
                         product: torch.dtype | None = None) -> tuple[Tensor, Tensor, Decisions]:
    """DMC from pre-RoPE q (batch, q_heads, tokens, D - 1), k and v; the neurons are (batch, heads, tokens) of q and k.

    Returns out, lse and the decisions.
    """
    kv_heads = k.shape[1]
    omega_mean = omega_neuron.unflatten(1, (kv_heads, -1)).mean(2)
    decisions = decide(alpha_neuron, omega_mean, mode, noise)
    q = torch.cat((q, mode.keep * omega_neuron[..., None]), -1)
    k = torch.cat((k, mode.keep * alpha_neuron[..., None]), -1)
    if mode.kind != "dense":
        shares = average_weights(decisions.alpha, decisions.weight)
        k, v = banded_mean(shares, torch.cat((k, v), -1)).chunk(2, -1)
    q, k = rotate(q, rope, mode.keep), rotate(k, rope, mode.keep)
    out, lse = masked_attention(q, k, v, decisions.log_closed, product)
    return out, lse, decisions


def linear(x: Tensor, weight: Tensor, product: torch.dtype) -> Tensor:
    """x @ weight.T, in `product`, as x."""
    return F.linear(x.to(product), weight.to(product)).to(x.dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, eps)


class Layer(nn.Module):
    """One decoder layer. The rows of q_proj and k_proj that make the last neurons are parameters of their own."""

    def __init__(self, shape: Shape, weights: dict[str, Tensor]):
        super().__init__()
        self.shape, self.product = shape, torch.float32
        q = weights["self_attn.q_proj"].unflatten(0, (shape.num_q_heads, shape.head_dim))
        k = weights["self_attn.k_proj"].unflatten(0, (shape.num_kv_heads, shape.head_dim))
        self.q, self.k = nn.Parameter(q[:, :-1].flatten(0, 1)), nn.Parameter(k[:, :-1].flatten(0, 1))
        self.omega, self.alpha = nn.Parameter(q[:, -1].clone()), nn.Parameter(k[:, -1].clone())
        self.v, self.o = nn.Parameter(weights["self_attn.v_proj"]), nn.Parameter(weights["self_attn.o_proj"])
        self.gate, self.up = nn.Parameter(weights["mlp.gate_proj"]), nn.Parameter(weights["mlp.up_proj"])
        self.down = nn.Parameter(weights["mlp.down_proj"])
        self.norm_in = nn.Parameter(weights["input_layernorm"])
        self.norm_mlp = nn.Parameter(weights["post_attention_layernorm"])

    def matrices(self) -> list[nn.Parameter]:
        return [self.q, self.k, self.v, self.o, self.gate, self.up, self.down]

    def weights(self) -> dict[str, Tensor]:
        """The layer in the naming of a Hugging Face model."""
        s = self.shape

        def join(rows: Tensor, last: Tensor, heads: int) -> Tensor:
            return torch.cat((rows.unflatten(0, (heads, -1)), last[:, None]), 1).flatten(0, 1)

        return {"self_attn.q_proj": join(self.q, self.omega, s.num_q_heads),
                "self_attn.k_proj": join(self.k, self.alpha, s.num_kv_heads),
                "self_attn.v_proj": self.v, "self_attn.o_proj": self.o, "mlp.gate_proj": self.gate,
                "mlp.up_proj": self.up, "mlp.down_proj": self.down, "input_layernorm": self.norm_in,
                "post_attention_layernorm": self.norm_mlp}

    def project(self, x: Tensor) -> list[Tensor]:
        """q, k, v, alpha neuron, omega neuron of x (batch, tokens, hidden), as `compressed_attention` takes them."""
        s = self.shape
        sizes = [s.num_q_heads * (s.head_dim - 1), s.num_kv_heads * (s.head_dim - 1), s.num_kv_heads * s.head_dim,
                 s.num_kv_heads, s.num_q_heads]
        stacked = torch.cat((self.q, self.k, self.v, self.alpha, self.omega))
        q, k, v, alpha, omega = linear(rms_norm(x, self.norm_in, s.norm_eps), stacked, self.product).split(sizes, -1)

        def by_head(y: Tensor, heads: int) -> Tensor:
            return y.unflatten(-1, (heads, -1)).transpose(1, 2)

        return [by_head(q, s.num_q_heads), by_head(k, s.num_kv_heads), by_head(v, s.num_kv_heads),
                alpha.transpose(1, 2), omega.transpose(1, 2)]

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mode: Mode, noise: Tensor | None
                ) -> tuple[Tensor, Decisions]:
        out, _, decisions = compressed_attention(*self.project(x), rope, mode, noise, self.product)
        x = x + linear(out.transpose(1, 2).flatten(2), self.o, self.product)
        h = rms_norm(x, self.norm_mlp, self.shape.norm_eps).to(self.product)
        gated = F.silu(linear(h, self.gate, self.product)) * linear(h, self.up, self.product)
        return x + linear(gated, self.down, self.product), decisions


class Model(nn.Module):
    """The decoder. `forward` gives the hidden states after the last norm, and the decisions of each layer."""

    def __init__(self, shape: Shape, weights: dict[str, Tensor]):
        super().__init__()
        self.shape, self.product = shape, torch.float32
        self.embedding = nn.Parameter(weights["model.embed_tokens.weight"])
        self.norm = nn.Parameter(weights["model.norm.weight"])
        self.layers = nn.ModuleList()
        for i in range(shape.num_layers):
            prefix, suffix = f"model.layers.{i}.", ".weight"
            own = {n[len(prefix):-len(suffix)]: w for n, w in weights.items() if n.startswith(prefix)}
            self.layers.append(Layer(shape, own))

    @staticmethod
    def load(folder: Path) -> "Model":
        """Reads config.json and model.safetensors of a Hugging Face Llama with tied embeddings; computes in fp32."""
        config = json.loads((folder / "config.json").read_text())
        if config.get("model_type") != "llama" or not config.get("tie_word_embeddings"):
            raise ValueError(f"{folder}/config.json: model_type is '{config.get('model_type')}'; supported: a 'llama' "
                             "with tie_word_embeddings")
        weights = {name: w.float() for name, w in load_file(folder / "model.safetensors").items()}
        return Model(Shape.from_config(config), weights)

    def save(self, file: Path) -> None:
        """Writes fp16 weights in the naming of a Hugging Face Llama."""
        weights = {"model.embed_tokens.weight": self.embedding, "model.norm.weight": self.norm}
        for i, layer in enumerate(self.layers):
            weights |= {f"model.layers.{i}.{name}.weight": w for name, w in layer.weights().items()}
        save_file({n: w.detach().half().contiguous().clone() for n, w in weights.items()}, file, {"format": "pt"})

    def set_product(self, product: torch.dtype) -> None:
        """Precision of matrix products (but not of attention logits); parameters stay fp32. fp32 unless set."""
        self.product = product
        for layer in self.layers:
            layer.product = product

    def matrices(self) -> list[nn.Parameter]:
        return [m for layer in self.layers for m in layer.matrices()]

    def decision_rows(self) -> list[nn.Parameter]:
        return [row for layer in self.layers for row in (layer.alpha, layer.omega)]

    def noise_like(self, batch: int, tokens: int, generator: torch.Generator) -> Tensor:
        """Logistic noise for `Mode.noise`: what a Gumbel-sigmoid adds to its logit."""
        u = torch.rand(self.shape.num_layers, batch, self.shape.num_kv_heads, tokens, generator=generator)
        return torch.logit(u, eps=1e-6)

    def forward(self, ids: Tensor, positions: Tensor, mode: Mode) -> tuple[Tensor, list[Decisions]]:
        """ids and positions (batch, tokens)."""
        rope = rope_tables(positions, self.shape)
        x, decisions = self.embedding[ids], []
        for i, layer in enumerate(self.layers):
            x, made = layer(x, rope, mode, None if mode.noise is None else mode.noise[i])
            decisions.append(made)
        return rms_norm(x, self.norm, self.shape.norm_eps), decisions

    def layer_inputs(self, ids: Tensor, positions: Tensor) -> list[Tensor]:
        """What each layer projects to q, k and v, (batch, tokens, hidden), when every token appends."""
        rope = rope_tables(positions, self.shape)
        x, inputs = self.embedding[ids], []
        for layer in self.layers:
            inputs.append(rms_norm(x, layer.norm_in, self.shape.norm_eps))
            x, _ = layer(x, rope, DENSE, None)
        return inputs

    def logits(self, hidden: Tensor) -> Tensor:
        return linear(hidden, self.embedding, self.product)


def compression_ratio(merged: float) -> float:
    """Tokens for each entry when `merged` is the share of tokens that merge."""
    return 1.0 / (1.0 - merged) if merged < 1.0 else math.inf
