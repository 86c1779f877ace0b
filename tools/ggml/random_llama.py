#!/usr/bin/env python3
"""Writes a Llama of random weights as a GGUF file, for measurements: attention as large as asked for, in a small model.

Usage: random_llama.py OUT.gguf [FIELD=NUMBER ..]         needs: pip install gguf
Fields and defaults: layers=4 width=512 feed_forward=512 heads=32 kv_heads=8 head_dim=128 context=65536 seed=1
"""
import sys

import numpy as np

import gguf_llama

DEFAULTS = {"layers": 4, "width": 512, "feed_forward": 512, "heads": 32, "kv_heads": 8, "head_dim": 128,
            "context": 65536, "seed": 1}


def random_tensors(shape):
    random = np.random.default_rng(shape["seed"])
    width, feed_forward = shape["width"], shape["feed_forward"]
    q_width, kv_width = (shape[heads] * shape["head_dim"] for heads in ("heads", "kv_heads"))

    def matrix(outputs, inputs, gain=1.0):
        return (random.standard_normal((outputs, inputs), np.float32) * (gain / np.sqrt(inputs))).astype(np.float16)

    embedding = matrix(gguf_llama.VOCABULARY, width, np.sqrt(width))
    yield "token_embd.weight", embedding
    output = matrix(gguf_llama.VOCABULARY, width)
    output[256:] = 0  # no special tokens
    yield "output.weight", output
    yield "output_norm.weight", np.ones(width, np.float32)
    for layer in range(shape["layers"]):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", np.ones(width, np.float32)
        yield block + "ffn_norm.weight", np.ones(width, np.float32)
        # Logits of a standard deviation of about 2.5, and values that matter beside the residual stream.
        yield block + "attn_q.weight", matrix(q_width, width, 1.6)
        yield block + "attn_k.weight", matrix(kv_width, width, 1.6)
        yield block + "attn_v.weight", matrix(kv_width, width, 3)
        yield block + "attn_output.weight", matrix(width, q_width, 2)
        yield block + "ffn_gate.weight", matrix(feed_forward, width)
        yield block + "ffn_up.weight", matrix(feed_forward, width)
        yield block + "ffn_down.weight", matrix(width, feed_forward)


def main(out, *fields):
    shape = dict(DEFAULTS)
    for field in fields:
        name, _, number = field.partition("=")
        if name not in shape or not number.isdigit():
            sys.exit(f"'{field}' is not allowed; allowed: FIELD=NUMBER with one of {', '.join(shape)}")
        shape[name] = int(number)
    tensors = random_tensors(dict(shape))
    shape.pop("seed")
    gguf_llama.write(out, **shape, rope_theta=500000.0, epsilon=1e-5, tensors=tensors)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
