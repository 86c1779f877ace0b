#!/usr/bin/env python3
"""Writes small models of random weights as GGUF files, of architectures whose attention is more than a causal mask.

Usage: random_models.py ARCHITECTURE OUT.gguf             needs: pip install gguf
  gemma2   sliding windows in every other layer, soft-capped logits
  gpt-oss  sliding windows in every other layer, attention sinks, experts
  refact   ALiBi
"""
import sys

import numpy as np

import gguf_llama

LAYERS, WIDTH, FEED_FORWARD, HEADS, KV_HEADS, HEAD_DIM = 4, 256, 256, 8, 2, 64
EXPERTS = 4  # all of which are used: which two are the best would be a matter of rounding at times
FIELDS = {
    # The cap is low, so that logits of attention, which have a standard deviation of about 2.5, come to feel it.
    "gemma2": {"attention.sliding_window": 96, "attn_logit_softcapping": 4.0, "final_logit_softcapping": 30.0},
    "gpt-oss": {"attention.sliding_window": 96, "expert_count": EXPERTS, "expert_used_count": EXPERTS,
                "expert_feed_forward_length": FEED_FORWARD},
    "refact": {},
}
_random = np.random.default_rng(1)


def matrix(outputs, inputs, gain=1.0, stacked=()):
    shape = (*stacked, outputs, inputs)
    return (_random.standard_normal(shape, np.float32) * (gain / np.sqrt(inputs))).astype(np.float16)


def bias(*shape):
    return _random.standard_normal(shape, np.float32) * np.float32(0.1)


def ones():
    return np.ones(WIDTH, np.float32)


def attention(block):
    yield block + "attn_norm.weight", ones()
    for name, heads, gain in (("q", HEADS, 1.6), ("k", KV_HEADS, 1.6), ("v", KV_HEADS, 2)):
        yield block + f"attn_{name}.weight", matrix(heads * HEAD_DIM, WIDTH, gain)
    yield block + "attn_output.weight", matrix(WIDTH, HEADS * HEAD_DIM, 2)


def feed_forward(block, suffix="", stacked=()):
    yield block + f"ffn_gate{suffix}.weight", matrix(FEED_FORWARD, WIDTH, stacked=stacked)
    yield block + f"ffn_up{suffix}.weight", matrix(FEED_FORWARD, WIDTH, stacked=stacked)
    yield block + f"ffn_down{suffix}.weight", matrix(WIDTH, FEED_FORWARD, stacked=stacked)


def gemma2(block):
    for norm in ("post_attention_norm", "ffn_norm", "post_ffw_norm"):
        yield block + norm + ".weight", ones()
    yield from feed_forward(block)


def gpt_oss(block):
    yield block + "post_attention_norm.weight", ones()
    # As large as the largest logits, so that a sink takes a part of each head that matters.
    yield block + "attn_sinks.weight", _random.uniform(2, 8, HEADS).astype(np.float32)
    yield block + "attn_output.bias", bias(WIDTH)
    yield block + "ffn_gate_inp.weight", matrix(EXPERTS, WIDTH).astype(np.float32)
    yield block + "ffn_gate_inp.bias", bias(EXPERTS)
    yield from feed_forward(block, "_exps", (EXPERTS,))
    for name, outputs in (("gate", FEED_FORWARD), ("up", FEED_FORWARD), ("down", WIDTH)):
        yield block + f"ffn_{name}_exps.bias", bias(EXPERTS, outputs)


def refact(block):
    yield block + "ffn_norm.weight", ones()
    yield from feed_forward(block)


REST_OF_A_LAYER = {"gemma2": gemma2, "gpt-oss": gpt_oss, "refact": refact}


def tensors(architecture):
    # Gemma's own first step multiplies the embedding by the root of its width.
    gain = 1.0 if architecture == "gemma2" else np.sqrt(WIDTH)
    yield "token_embd.weight", matrix(gguf_llama.VOCABULARY, WIDTH, gain)
    if architecture != "gemma2":  # whose output is its embedding
        yield "output.weight", matrix(gguf_llama.VOCABULARY, WIDTH)
    yield "output_norm.weight", ones()
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        yield from attention(block)
        yield from REST_OF_A_LAYER[architecture](block)


def main(architecture, out):
    if architecture not in FIELDS:
        sys.exit(f"'{architecture}' is not allowed; allowed: {', '.join(FIELDS)}")
    gguf_llama.write(out, layers=LAYERS, width=WIDTH, feed_forward=FEED_FORWARD, heads=HEADS, kv_heads=KV_HEADS,
                     head_dim=HEAD_DIM, context=16384, rope_theta=10000.0, epsilon=1e-5, tensors=tensors(architecture),
                     architecture=architecture, fields=FIELDS[architecture])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
