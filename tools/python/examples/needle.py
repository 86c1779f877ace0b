#!/usr/bin/env python3
"""Asks a small trained model, through transformers, about a fact that stands 13,600 tokens back in a text of 16K; four ways.

usage: needle.py [--prompt N] [--further N] [--budget B]

The model is tools/data/tiny-llama (2.4 M parameters, a token is a byte). Its positions go to 16,384, twice as far as the longest
of the 20 prompts in tools/data/needle_prompts.jsonl: the text of one of them is followed by that of another one, which states
other facts, and by the question about the first. Needs torch, transformers, safetensors and this package.
"""
import argparse
import json
import pathlib
import time

import torch
import transformers

import tandem_attention

DATA = pathlib.Path(__file__).resolve().parents[2] / "data"
WAYS = {
    "transformers sdpa: every key": None,
    "tandem: window + sketch": dict(selector="sketch", never_slower=False),
    "tandem: window + LSH tables 10,150": dict(selector="lsh", lsh_bits=10, lsh_tables=150, never_slower=False),
    "streaming: window only": dict(selector="all", host_tier=False),
}


def ask(model, prompt, question, count, handle):
    """The answer's bytes. The question is read like the answer is written, over the cache: 8 tokens at a time."""
    argument = tandem_attention.cache_argument(model)
    cache = handle.new_cache() if handle is not None else transformers.DynamicCache(config=model.config)
    with torch.no_grad():
        model(prompt[:, :-question], logits_to_keep=1, **{argument: cache})
        for start in range(prompt.shape[1] - question, prompt.shape[1] - 8, 8):
            model(prompt[:, start:start + 8], logits_to_keep=1, **{argument: cache})
    tokens = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=count,
                            eos_token_id=None, **{argument: cache})
    return bytes(min(token, 255) for token in tokens[0, prompt.shape[1]:].tolist()).decode("latin-1")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", type=int, default=18, help="0 to 19, the question's; 16 to 19 have 8,190 tokens")
    parser.add_argument("--further", type=int, default=16, help="0 to 19, the text that follows; -1: none")
    parser.add_argument("--budget", type=float, default=0.02, help="share of the rows that a sketch gathers")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    lines = (DATA / "needle_prompts.jsonl").read_text(encoding="utf-8").splitlines()
    for name, index, lowest in (("prompt", options.prompt, 0), ("further", options.further, -1)):
        if not lowest <= index < len(lines) or (name == "further" and index == options.prompt):
            parser.error(f"--{name} is {index}; allowed: {lowest} to {len(lines) - 1}" + ", another one than --prompt" * -lowest)
    item = json.loads(lines[options.prompt])
    further = json.loads(lines[options.further])["context"] if options.further >= 0 else ""
    prompt = torch.tensor([[256, *(item["context"] + further + item["question"]).encode("latin-1")]])
    back = len(item["context"]) * (1 - item["depth"]) + len(further)
    model = transformers.AutoModelForCausalLM.from_pretrained(DATA / "tiny-llama", dtype=torch.float32).eval()
    print(f"A text of {prompt.shape[1]} tokens states a fact, some {back:.0f} tokens before its end, where the question stands:\n"
          f"  \"{item['question'].strip()} ...\"\n")
    print(f"{'attention':36} {'answer':14} {'keys attended':>13} {'error estimate':>15} {'seconds':>8}")
    for name, way in WAYS.items():
        handle = None
        if way is not None:
            budget = {"budget": options.budget} if way["selector"] == "sketch" else {}
            handle = tandem_attention.attach(model, **way, **budget)
        start = time.perf_counter()
        answer = ask(model, prompt, len(item["question"]), len(item["answer"]), handle)
        seconds = time.perf_counter() - start
        keys, error = "100.0 %", ""
        if handle is not None:
            stats = handle.stats().attend
            keys = f"{100 * stats.keys_attended / stats.keys_visible:.1f} %"
            kept = way.get("host_tier", True)  # an estimate speaks of the rows that there are
            error = f"{stats.out_error:.3f}" if kept and stats.out_error is not None else ""
            handle.detach()
        verdict = "right" if answer == item["answer"] else "wrong"
        print(f"{name:36} {answer:8}{verdict:6} {keys:>13} {error:>15} {seconds:8.1f}")


if __name__ == "__main__":
    main()
