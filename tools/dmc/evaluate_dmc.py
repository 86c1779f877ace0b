#!/usr/bin/env python3
"""Measures a small Llama: needle prompts, perplexity and, when its config.json has "dmc", compression.

A model with "dmc" runs with hard decisions from the first token to the last, as a decoder would; any other model runs
with dense attention. Exact match means that every byte of the answer is the most likely one, given the bytes before it:
what greedy decoding would print. A compression ratio is tokens for each cache entry, over layers, KV heads and tokens.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dmc_model import HARD, Mode, Model, compression_ratio
from needle_data import BOS, DocumentGenerator, Prompt

ORIGINAL = Mode("dense", keep=1.0)


@dataclass
class Merges:
    """Merged tokens of every (layer, KV head)."""

    merged: Tensor
    tokens: int = 0

    @staticmethod
    def none(model: Model) -> "Merges":
        return Merges(torch.zeros(model.shape.num_layers, model.shape.num_kv_heads, dtype=torch.int64))

    def __iadd__(self, other: "Merges") -> "Merges":
        self.merged += other.merged
        self.tokens += other.tokens
        return self

    def ratio(self) -> float:
        return round(compression_ratio(float(self.merged.sum()) / (self.tokens * self.merged.numel())), 3)

    def by_head(self) -> list[list[float]]:
        return [[round(compression_ratio(float(m) / self.tokens), 2) for m in row] for row in self.merged]


@torch.no_grad()
def predict(model: Model, mode: Mode, ids: list[int]) -> tuple[Tensor, Merges]:
    """Logits (tokens, vocab) for the token after each of `ids`."""
    hidden, decisions = model(torch.tensor([ids]), torch.arange(len(ids))[None], mode)
    merged = torch.stack([d.alpha[0].sum(-1).long() for d in decisions])
    return model.logits(hidden)[0], Merges(merged, len(ids))


def answers(model: Model, mode: Mode, prompt: Prompt) -> tuple[bool, Merges]:
    """Whether greedy decoding gives the answer."""
    ids = [BOS, *prompt.context, *prompt.question, *prompt.answer]
    logits, merges = predict(model, mode, ids[:-1])
    return logits[-len(prompt.answer):].argmax(-1).tolist() == list(prompt.answer), merges


def read_prompts(file: Path) -> list[Prompt]:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [Prompt(r["task"], *(r[n].encode("latin-1") for n in ("context", "question", "answer"))) for r in rows]


def fresh_prompts(count: int, lengths: list[int], seed: int) -> list[tuple[str, list[Prompt]]]:
    """Prompts of the grammar, with the needle's depth swept over the prompt."""
    generator = DocumentGenerator(b"", seed)
    return [(f"{task} {length}", [generator.prompt(length, task, (i + 0.5) / count) for i in range(count)])
            for length in lengths for task in ("pass", "multi", "dict")]


def measure_prompts(model: Model, mode: Mode, name: str, prompts: list[Prompt]) -> tuple[dict[str, Any], Merges]:
    right, merges = 0, Merges.none(model)
    for i, prompt in enumerate(prompts):
        hit, made = answers(model, mode, prompt)
        right += hit
        merges += made
        print(f"\r{name}: {right} of {i + 1} right ", end="", file=sys.stderr, flush=True)
    print(f"compression {merges.ratio():.2f}", file=sys.stderr)
    return {"right": right, "of": len(prompts), "compression": merges.ratio()}, merges


def measure_text(model: Model, mode: Mode, text: bytes, windows: int, length: int) -> tuple[dict[str, Any], Merges]:
    """Mean loss over windows spread evenly over the text."""
    stride = (len(text) - length) // max(1, windows - 1)
    total, merges = 0.0, Merges.none(model)
    for i in range(windows):
        ids = [BOS, *text[i * stride:i * stride + length]]
        logits, made = predict(model, mode, ids[:-1])
        total += float(F.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum"))
        merges += made
    nats = total / (windows * length)
    print(f"text: {nats:.4f} nats/byte, byte perplexity {math.exp(nats):.3f}, compression {merges.ratio():.2f}",
          file=sys.stderr)
    return {"nats_per_byte": round(nats, 4), "byte_perplexity": round(math.exp(nats), 3), "bytes": windows * length,
            "compression": merges.ratio()}, merges


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="folder with config.json and model.safetensors")
    add("--prompts", type=Path, help="needle prompts, one JSON object a line (tools/data/needle_prompts.jsonl)")
    add("--fresh", type=int, default=0, metavar="N", help="N new prompts of each task and length as well (default 0)")
    add("--lengths", type=lambda s: [int(x) for x in s.split(",")], default=[1024, 2048, 4096],
        help="tokens of the new prompts (default 1024,2048,4096)")
    add("--seed", type=int, default=777, help="seed of the new prompts (default 777)")
    add("--text", type=Path, help="text for the perplexity")
    add("--windows", type=int, default=8, help="windows of the text (default 8)")
    add("--length", type=int, default=4096, help="bytes of a window (default 4096)")
    add("--threads", type=int, default=1, help="threads (default 1; more only helps on an idle machine)")
    add("--json", type=Path, help="write the figures to this file")
    add("--note-compression", action="store_true",
        help="write the ratio measured over everything asked for into the model's config.json (dmc.compression)")
    options = parser.parse_args()
    for path in filter(None, (options.model / "config.json", options.prompts, options.text)):
        if not path.is_file():
            parser.error(f"no file {path}")
    if options.text and options.text.stat().st_size < options.length:
        parser.error(f"{options.text} is shorter than a window of {options.length} bytes")
    return options


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    config = json.loads((options.model / "config.json").read_text())
    model, mode = Model.load(options.model), HARD if "dmc" in config else ORIGINAL
    started, everything, figures = time.monotonic(), Merges.none(model), {}
    sets = [("prompts", read_prompts(options.prompts))] if options.prompts else []
    for name, prompts in sets + (fresh_prompts(options.fresh, options.lengths, options.seed) if options.fresh else []):
        figures[name], merges = measure_prompts(model, mode, name, prompts)
        everything += merges
    if options.text:
        figures["text"], merges = measure_text(model, mode, options.text.read_bytes(), options.windows, options.length)
        everything += merges
    if not everything.tokens:
        raise SystemExit("nothing to measure: give --prompts, --fresh or --text")
    figures |= {"mode": mode.kind, "compression": everything.ratio(),
                "compression_by_layer_and_head": everything.by_head(),
                "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.note_compression and "dmc" in config:
        config["dmc"]["compression"] = everything.ratio()
        (options.model / "config.json").write_text(json.dumps(config, indent=1) + "\n")


if __name__ == "__main__":
    main()
