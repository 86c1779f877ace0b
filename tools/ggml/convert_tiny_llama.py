#!/usr/bin/env python3
"""Converts a byte-level Llama of Hugging Face's format, such as tools/data/tiny-llama, to a GGUF file for llama.cpp.

Usage: convert_tiny_llama.py MODEL_FOLDER OUT.gguf        needs: pip install gguf
"""
import json
import pathlib
import struct
import sys

import numpy as np

import gguf_llama

DTYPES = {"F16": np.float16, "F32": np.float32}
NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def read_safetensors(path):
    data = path.read_bytes()
    (header_bytes,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + header_bytes])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            sys.exit(f"{path}: {name} is {entry['dtype']}; allowed: {', '.join(DTYPES)}")
        begin, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def converted(tensors, config):
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    yield "token_embd.weight", tensors["model.embed_tokens.weight"]
    yield "output_norm.weight", tensors["model.norm.weight"]
    if not config["tie_word_embeddings"]:
        yield "output.weight", tensors["lm_head.weight"]
    for layer in range(config["num_hidden_layers"]):
        for theirs, ours in NAMES.items():
            tensor = tensors[f"model.layers.{layer}.{theirs}.weight"]
            if ours in heads:
                tensor = gguf_llama.interleaved_rope(tensor, heads[ours])
            yield f"blk.{layer}.{ours}.weight", tensor


def main(folder, out):
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    if config["vocab_size"] != gguf_llama.VOCABULARY:
        sys.exit(f"{folder}: vocab_size is {config['vocab_size']}; allowed: {gguf_llama.VOCABULARY}, bytes and 8 more")
    tensors = read_safetensors(pathlib.Path(folder) / "model.safetensors")
    gguf_llama.write(
        out,
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        feed_forward=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        context=config["max_position_embeddings"],
        rope_theta=config["rope_theta"],
        epsilon=config["rms_norm_eps"],
        tensors=converted(tensors, config))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
