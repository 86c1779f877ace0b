"""Synthetic keys, values and queries that fill the caches of bench/engines: prefilling a long prompt takes long on a CPU and
matters little to a decode step.

Keys and values are normal, with a mean; keys are scaled per head, so that attention is spread over thousands of keys in
some heads and sits on a few in others. How well a selector does on them says little about a trained model; that it does
the same work does.
"""
import torch

CHUNK = 4096  # tokens that are filled in at a time


def head_scales(heads):
    return torch.linspace(1, 3, heads)


def normal_rows(heads, tokens, dim, scale, generator):
    """(1, heads, tokens, dim), about a mean of each head's own. `scale` is a number, or (1, heads, 1, 1)."""
    rows = torch.randn(1, heads, tokens, dim, generator=generator) + torch.randn(1, heads, 1, dim, generator=generator)
    return rows * scale


class LayerRows:
    """The rows of many layers and sequences, any CHUNK of them at a time, as a function of where they are.

    Normal numbers are drawn for one chunk alone: others are that chunk with random signs per head and element, which makes
    other normal numbers of them, uncorrelated with the first, at the speed of memory. What is checked later is made again.
    """

    def __init__(self, kv_heads, q_heads, dim, dtype=torch.bfloat16, seed=1):
        self._kv_heads, self._dim, self._dtype, self._seed = kv_heads, dim, dtype, seed
        generator = torch.Generator().manual_seed(seed)
        self._normal = [torch.randn(CHUNK, kv_heads, dim, generator=generator).to(dtype) for _ in range(2)]
        self._scales = (head_scales(kv_heads)[:, None].to(dtype), torch.ones(1, 1, dtype=dtype))
        self.queries = torch.randn(CHUNK, q_heads, dim, generator=generator).to(dtype)

    def chunk(self, layer, sequence, first, tokens):
        """Keys and values (tokens, kv_heads, dim) from token `first`, a multiple of CHUNK, on; tokens <= CHUNK."""
        assert first % CHUNK == 0 and tokens <= CHUNK
        place = (self._seed * 1009 + layer) * 1009 + sequence
        of_layer = torch.Generator().manual_seed(place)
        means = [torch.randn(self._kv_heads, self._dim, generator=of_layer).to(self._dtype) for _ in range(2)]
        of_chunk = torch.Generator().manual_seed(place * 100003 + first // CHUNK + 1)
        shape = (2, self._kv_heads, self._dim)
        signs = (2 * torch.randint(0, 2, shape, generator=of_chunk) - 1).to(self._dtype)
        return [(self._normal[i][:tokens] * signs[i]).add_(means[i]).mul_(self._scales[i]) for i in range(2)]


class ExactAttention:
    """Attention of one token's queries (q_heads, dim) over keys and values that come in pieces, in fp32."""

    def __init__(self, queries, kv_heads):
        q_heads, dim = queries.shape
        self._queries = queries.float().view(kv_heads, q_heads // kv_heads, dim) * dim ** -0.5
        self._largest = torch.full(self._queries.shape[:2] + (1,), float("-inf"))
        self._total = torch.zeros_like(self._largest)
        self._sum = torch.zeros_like(self._queries)

    def add(self, keys, values):
        """(tokens, kv_heads, dim) each."""
        logits = self._queries @ keys.float().permute(1, 2, 0)
        largest = torch.maximum(self._largest, logits.amax(-1, keepdim=True))
        kept, weights = torch.exp(self._largest - largest), torch.exp(logits - largest)
        self._total = self._total * kept + weights.sum(-1, keepdim=True)
        self._sum = self._sum * kept + weights @ values.float().transpose(0, 1)
        self._largest = largest

    def out(self):
        """(q_heads, dim)."""
        return (self._sum / self._total).flatten(0, 1)


def relative_errors(out, exact):
    """|out - exact| / |exact| of each head."""
    return ((out.float() - exact).norm(dim=-1) / exact.norm(dim=-1)).tolist()
