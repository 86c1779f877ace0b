#!/usr/bin/env python3
"""Writes what an implementation of DMC is tested against: one layer of a retrofitted model over a generated prompt.

Queries, keys and values are those of the layer, before RoPE, rounded to fp16; the last columns of q and k still hold
the neurons that decide. Everything else is computed from these rounded values in double precision by dmc_reference.py
(mask form, hard decisions). The folder holds one safetensors file for the layer, and meta.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

import dmc_reference as reference
from dmc_model import HARD, Model, rope_tables
from needle_data import BOS, DocumentGenerator


@torch.no_grad()
def projections(model: Model, ids: list[int], layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v of one layer, (tokens, heads, head_dim), fp16, neurons in the last column of q and k."""
    rope = rope_tables(torch.arange(len(ids))[None], model.shape)
    x = model.embedding[torch.tensor([ids])]
    for below in model.layers[:layer]:
        x, _ = below(x, rope, HARD, None)
    q, k, v, alpha, omega = model.layers[layer].project(x)
    q, k = torch.cat((q, omega[..., None]), -1), torch.cat((k, alpha[..., None]), -1)
    return tuple(y[0].transpose(0, 1).half().contiguous() for y in (q, k, v))


def longest_segment(merges: list[bool]) -> int:
    longest = run = 0
    for merge in merges:
        run = run + 1 if merge else 1
        longest = max(longest, run)
    return longest


def write(model: Model, ids: list[int], layer: int, stride: int, seed: int, folder: Path) -> dict[str, object]:
    """Computes and writes the golden data; returns what meta.json holds."""
    q, k, v = projections(model, ids, layer)
    shape, scale = model.shape, model.shape.head_dim ** -0.5
    rows = [y.double().tolist() for y in (q, k, v)]
    decisions = [reference.decide(rows[0], rows[1], head) for head in range(shape.num_kv_heads)]
    exact = reference.mask_form(*rows, shape.rope_theta, scale, decisions)
    out_tokens = list(range(stride - 1, len(ids), stride))

    def by_token(name: str) -> Tensor:
        return torch.tensor([[float(getattr(d, name)) for d in row] for row in zip(*decisions)])

    folder.mkdir(parents=True, exist_ok=True)
    save_file({"q": q, "k": k, "v": v, "alpha_logit": by_token("logit"), "omega": by_token("weight"),
               "merge": by_token("merge").half(), "out": torch.tensor([exact.out[t] for t in out_tokens]),
               "lse": torch.tensor(exact.lse)}, folder / f"layer{layer}.safetensors")
    meta = {"T": len(ids), "H": shape.num_q_heads, "KV": shape.num_kv_heads, "head_dim": shape.head_dim,
            "layers": [layer], "scale": scale, "rope_theta": shape.rope_theta, "window": reference.WINDOW,
            "alpha_source": "last_neuron", "alpha_bias": reference.ALPHA_BIAS, "omega_bias": reference.OMEGA_BIAS,
            "out_tokens": {"first": stride - 1, "step": stride, "count": len(out_tokens)}, "entries": exact.entries,
            "longest_segment": [longest_segment([d.merge for d in head]) for head in decisions],
            "smallest_alpha_logit_magnitude": min(abs(d.logit) for head in decisions for d in head),
            "seed": seed, "text_source": "self-made grammar", "tokens": ids}
    (folder / "meta.json").write_text(json.dumps(meta) + "\n")
    return meta


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="folder of a retrofitted model")
    add("--out", type=Path, required=True, help="folder to write to")
    add("--layer", type=int, default=2, help="layer to take (default 2)")
    add("--tokens", type=int, default=300, help="tokens of the prompt (default 300)")
    add("--out-step", type=int, default=4, help="keep `out` for one in so many tokens; lse is kept for all (default 4)")
    add("--seed", type=int, default=20, help="seed of the prompt (default 20)")
    options = parser.parse_args()
    if not (options.model / "config.json").is_file():
        parser.error(f"no file {options.model / 'config.json'}")
    model = Model.load(options.model)
    if not 0 <= options.layer < model.shape.num_layers:
        parser.error(f"--layer is {options.layer}; allowed: 0 to {model.shape.num_layers - 1}")
    prompt = DocumentGenerator(b"", options.seed).prompt(options.tokens + 64, "pass", 0.4)
    ids = [BOS, *prompt.context, *prompt.question][:options.tokens]
    meta = write(model, ids, options.layer, options.out_step, options.seed, options.out)
    print(f"wrote {options.out}: {meta['T']} tokens, entries {meta['entries']}, longest segments "
          f"{meta['longest_segment']}", file=sys.stderr)


if __name__ == "__main__":
    main()
