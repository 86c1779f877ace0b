#!/usr/bin/env python3
"""Continues the training of a small Llama so that its KV cache compresses itself (DMC, arXiv:2403.09636).

The run has three stages:
  anneal    the last neuron of every query and key, which DMC takes for its decisions, fades out of attention;
  ramp      decisions are made, relaxed; the asked compression ratio grows linearly from 1 to --compression;
  finetune  the asked ratio stays, and the learning rate falls.

The loss is next-byte cross entropy plus a one-sided penalty on the share of merged tokens alpha, over all layers, heads
and tokens of a step: weight * max(0, alpha* - mean alpha), alpha* = 1 - 1 / ratio. Left alone, this penalty is met by
heads that merge everything beside heads that merge nothing; so a second one, of the same form, holds the ratio of every
KV head below --head-compression: every head then has to choose among tokens. Documents are made on the fly
(needle_data.py), everything follows from --seed. The result is a Hugging Face folder: fp16 weights under the names of
the model that the run started from, and an object "dmc" in config.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dmc_model import ALPHA_BIAS, HARD, OMEGA_BIAS, WINDOW, Decisions, Mode, Model, compression_ratio
from muon import Muon
from needle_data import KINDS, PAD, DocumentGenerator

ITEMS_PER_STEP = 4
MIXTURE = {"needle": 64.0, "rand": 2.0, "copy": 5.0, "text": 27.0, "dense": 2.0}
SKIP_SHARE = 0.15
MAX_POSITION = 16384
WARMUP_STEPS = 20
ADAM_SHARE = 0.15
LOG_STEPS = 20


@dataclass(frozen=True)
class Plan:
    """Stages and rates of a run; every schedule is a function of the step alone."""

    anneal: int
    ramp: int
    finetune: int
    compression: float
    head_compression: float
    margin: float
    rate: float
    rate_end: float
    decision_rate: float

    @property
    def steps(self) -> int:
        return self.anneal + self.ramp + self.finetune

    def stage(self, step: int) -> str:
        return "anneal" if step < self.anneal else "ramp" if step < self.anneal + self.ramp else "finetune"

    def keep(self, step: int) -> float:
        """Scale of the stolen neurons in attention."""
        return max(0.0, 1.0 - (step + 1) / self.anneal) if step < self.anneal else 0.0

    def target(self, step: int) -> float:
        """alpha*: the share of tokens that has to merge."""
        done = min(1.0, (step + 1 - self.anneal) / max(1, self.ramp))
        ratio = 1.0 + (self.compression - 1.0) * done
        return 1.0 - 1.0 / ratio + self.margin * done

    def head_limit(self) -> float:
        """The share of tokens that one KV head may merge."""
        return 1.0 - 1.0 / self.head_compression

    def scale(self, step: int) -> float:
        """Learning rate as a share of the highest: warm-up, constant, linear fall in the last stage."""
        into = step - self.anneal - self.ramp
        low = self.rate_end / self.rate
        fall = 1.0 if into < 0 else 1.0 - (1.0 - low) * into / max(1, self.finetune)
        return min(1.0, (step + 1) / WARMUP_STEPS) * fall


@dataclass(frozen=True)
class Batches:
    """What items are made of: each has sequences of one length, drawn with the weights of `lengths`."""

    text: bytes
    seed: int
    item_tokens: int
    lengths: dict[int, float]


@dataclass
class Item:
    """Some sequences of one length that a thread handles at once."""

    ids: Tensor
    positions: Tensor
    weights: Tensor
    answers: Tensor
    kinds: list[str]
    noise: Tensor

    @property
    def inputs(self) -> Tensor:
        return self.ids[:, :-1]

    @property
    def targets(self) -> Tensor:
        return self.ids[:, 1:]


@dataclass
class Forward:
    """What the forward pass of an item leaves for the backward pass and the log.

    `merged`: sums of alpha, (layers, kv_heads), over `tokens` tokens.
    """

    loss: Tensor
    merged: Tensor
    tokens: int
    bytes_loss: Tensor
    right: Tensor
    decisions: list[Decisions]


@dataclass
class Meter:
    """Sums for the log."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, value: float, count: float = 1.0) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + value
        self.counts[name] = self.counts.get(name, 0.0) + count

    def take(self) -> dict[str, float]:
        means = {n: round(s / self.counts[n], 4) for n, s in self.sums.items() if self.counts[n]}
        self.sums.clear()
        self.counts.clear()
        return means


def make_item(batches: Batches, step: int, index: int, model: Model) -> Item:
    """The item is a function of batches, step and index, so that a resumed run sees the same documents."""
    key = (batches.seed * 1_000_003 + step) * ITEMS_PER_STEP + index
    generator = DocumentGenerator(batches.text, key)
    length = generator.random.choices(list(batches.lengths), list(batches.lengths.values()))[0]
    mixture = tuple(MIXTURE[kind] for kind in KINDS)
    documents = [generator.document(length, mixture, MAX_POSITION, SKIP_SHARE)
                 for _ in range(max(1, batches.item_tokens // length))]
    noise = model.noise_like(len(documents), length, torch.Generator().manual_seed(key))
    return Item(torch.tensor([d.ids for d in documents]), torch.tensor([d.positions for d in documents]),
                torch.tensor([d.weights for d in documents])[:, 1:],
                torch.tensor([d.answers for d in documents])[:, 1:],
                [d.kind for d in documents], noise)


def run_forward(model: Model, item: Item, mode: Mode) -> Forward:
    hidden, decisions = model(item.inputs, item.positions, mode)
    logits = model.logits(hidden)
    loss = F.cross_entropy(logits.flatten(0, 1), item.targets.flatten(), reduction="none").view_as(item.weights)
    real = (item.inputs != PAD)[:, None]
    merged = torch.stack([(d.alpha * real).sum((0, 2)) for d in decisions])
    return Forward((loss * item.weights).sum(), merged, int(real.sum()), loss.detach(),
                   logits.detach().argmax(-1) == item.targets, decisions)


def starting_logits(ids: Tensor) -> Tensor:
    """What decisions start from: a letter after a letter rather merges (a_t = 1), everything else appends (a_t = -6).

    A start that differs between tokens matters: from equal logits, the penalty moves all tokens of a head together, and
    heads end up merging everything or nothing.
    """
    lower = ids | 32
    letter = (lower >= ord("a")) & (lower <= ord("z")) & (ids < 128)
    inside = letter & F.pad(letter[:, :-1], (1, 0))
    return torch.where(inside, 1.0, -6.0)


class Trainer:
    """Model, optimisers and the state of a run."""

    def __init__(self, model: Model, plan: Plan, batches: Batches, penalty: float, threads: int, product: torch.dtype):
        model.set_product(product)
        self.model, self.plan, self.batches, self.penalty = model, plan, batches, penalty
        self.matrices, self.rows = model.matrices(), model.decision_rows()
        taken = {id(p) for p in self.matrices + self.rows}
        self.others = [p for p in model.parameters() if id(p) not in taken]
        self.muon = Muon(self.matrices, product=product)
        self.adam = torch.optim.Adam([{"params": self.others}, {"params": self.rows}], lr=0.0, betas=(0.9, 0.97))
        self.pool = ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1))
        self.step, self.seconds, self.meter = 0, 0.0, Meter()
        self.compression = 1.0  # measured, hard decisions, since the last report

    def mode(self, item: Item) -> Mode:
        if self.step < self.plan.anneal:
            return Mode("dense", keep=self.plan.keep(self.step))
        return Mode("relaxed", item.noise)

    def train_step(self) -> None:
        """One update. Items run on the threads of the pool, gradients are added in the order of the items."""
        if self.step == self.plan.anneal:
            self.reset_rows()
        started = time.monotonic()
        model, step = self.model, self.step
        items = list(self.pool.map(lambda i: make_item(self.batches, step, i, model), range(ITEMS_PER_STEP)))
        passes = list(self.pool.map(lambda item: run_forward(model, item, self.mode(item)), items))
        weight = sum(float(item.weights.sum()) for item in items)
        tokens = sum(p.tokens for p in passes)
        alpha = sum(p.merged.detach() for p in passes) / tokens
        decides = step >= self.plan.anneal
        # The gradient of both penalties with respect to the mean alpha of every head.
        pull = self.penalty / alpha.numel() * ((alpha > self.plan.head_limit()).float()
                                               - float(alpha.mean() < self.plan.target(step)))
        wanted = self.matrices + self.others + (self.rows if decides else [])

        def backward(done: Forward) -> tuple[Tensor, ...]:
            loss = done.loss / weight
            if decides:
                loss = loss + (pull * done.merged).sum() / tokens
            return torch.autograd.grad(loss, wanted)

        grads = [torch.stack(parts).sum(0) for parts in zip(*self.pool.map(backward, passes))]
        self.update(wanted, grads)
        self.note(items, passes, weight, float(alpha.mean()))
        if (step + 1) % LOG_STEPS == 0 and decides:
            self.compare_hard(items[0], passes[0])
        self.step += 1
        self.seconds += time.monotonic() - started

    @torch.no_grad()
    def reset_rows(self) -> None:
        """From here on the neurons decide: w_t = sigmoid(5) everywhere, a_t is fitted to `starting_logits`."""
        for row in self.rows:
            row.zero_()
        item = make_item(self.batches, self.step, 0, self.model)
        wanted = starting_logits(item.inputs).flatten() - ALPHA_BIAS
        for layer, x in zip(self.model.layers, self.model.layer_inputs(item.inputs, item.positions)):
            rows = x.flatten(0, 1)
            ridge = 1e-2 * len(rows) * torch.eye(rows.shape[1])
            layer.alpha.copy_(torch.linalg.solve(rows.T @ rows + ridge, rows.T @ wanted).expand_as(layer.alpha))

    def update(self, wanted: list[Tensor], grads: list[Tensor]) -> None:
        scale = self.plan.scale(self.step)
        count = len(self.matrices)
        self.muon.step(grads[:count], self.plan.rate * scale)
        for p, grad in zip(wanted[count:], grads[count:]):
            p.grad = grad
        torch.nn.utils.clip_grad_norm_(self.others, 1.0)
        for group, rate in zip(self.adam.param_groups, (self.plan.rate * ADAM_SHARE, self.plan.decision_rate)):
            group["lr"] = rate * scale
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def note(self, items: list[Item], passes: list[Forward], weight: float, alpha: float) -> None:
        self.meter.add("loss", sum(float(p.loss.detach()) for p in passes) / weight)
        self.meter.add("alpha", alpha)
        for item, done in zip(items, passes):
            for row, kind in enumerate(item.kinds):
                if kind == "text":
                    self.meter.add("text_nats", float(done.bytes_loss[row].mean()))
                if kind == "needle":
                    answers = item.answers[row]
                    for number in range(1, int(answers.max()) + 1):
                        self.meter.add("needle_em", float(done.right[row][answers == number].all()))
            for layer, made in enumerate(done.decisions if self.step >= self.plan.anneal else []):
                for head in range(made.logit.shape[1]):
                    hard = (made.logit[:, head].detach() > 0)[item.inputs != PAD]
                    self.meter.add("merged", float(hard.sum()), hard.numel())
                    self.meter.add(f"merged_{layer}.{head}", float(hard.sum()), hard.numel())

    @torch.no_grad()
    def compare_hard(self, item: Item, relaxed: Forward) -> None:
        """The same item, decided hard (with the weights after the update)."""
        weight = float(item.weights.sum())
        self.meter.add("item_loss_relaxed", float(relaxed.loss.detach()) / weight)
        self.meter.add("item_loss_hard", float(run_forward(self.model, item, HARD).loss) / weight)

    def save(self, file: Path) -> None:
        state = {"model": self.model.state_dict(), "muon": self.muon.state(), "adam": self.adam.state_dict(),
                 "step": self.step, "seconds": self.seconds, "seed": self.batches.seed}
        torch.save(state, file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)

    def load(self, file: Path) -> None:
        state = torch.load(file, weights_only=True)
        if state["seed"] != self.batches.seed:
            raise SystemExit(f"{file} was made with --seed {state['seed']}, not {self.batches.seed}")
        self.model.load_state_dict(state["model"])
        self.muon.load_state(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.step, self.seconds = state["step"], state["seconds"]


def clock(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


def report(trainer: Trainer, started_at: tuple[int, float], log: Path | None) -> None:
    """One line for people on stderr, one JSON object in the log."""
    plan, step = trainer.plan, trainer.step
    per_step = (time.monotonic() - started_at[1]) / max(1, step - started_at[0])
    means = trainer.meter.take()
    heads = {n.removeprefix("merged_"): round(compression_ratio(means.pop(n)), 3)
             for n in sorted(means) if n.startswith("merged_")}
    entry = {"step": step, "stage": plan.stage(step - 1), "seconds": round(trainer.seconds, 1),
             "rate": round(plan.rate * plan.scale(step - 1), 6)} | means
    if heads:
        trainer.compression = compression_ratio(means["merged"])
        entry |= {"alpha_target": round(max(0.0, plan.target(step - 1)), 4),
                  "compression": round(trainer.compression, 3), "compression_by_head": heads}
    if log:
        with log.open("a") as f:
            f.write(json.dumps(entry) + "\n")
    shown = " ".join(f"{n} {means[n]:.3f}" for n in ("loss", "text_nats", "needle_em", "alpha", "item_loss_relaxed",
                                                     "item_loss_hard") if n in means)
    ratio = f" ratio {entry['compression']:.2f} (asked {1 / (1 - entry['alpha_target']):.2f})" if heads else ""
    left = clock(per_step * (plan.steps - step))
    print(f"[{step}/{plan.steps} {entry['stage']}] {per_step:.2f} s/step, {left} left: {shown}{ratio}", file=sys.stderr,
          flush=True)


def train(trainer: Trainer, checkpoint: Path, every: int, log: Path | None) -> None:
    """Runs the plan to its end; an interrupt saves a checkpoint and ends the run."""
    started_at = (trainer.step, time.monotonic())
    try:
        while trainer.step < trainer.plan.steps:
            trainer.train_step()
            if trainer.step % LOG_STEPS == 0 or trainer.step == trainer.plan.steps:
                report(trainer, started_at, log)
            if trainer.step % every == 0 or trainer.step == trainer.plan.steps:
                trainer.save(checkpoint)
    except KeyboardInterrupt:
        print(f"interrupted at step {trainer.step}; continue with --resume from {checkpoint}", file=sys.stderr)
        raise SystemExit(130) from None


def export(model: Model, source: Path, out: Path, compression: float) -> None:
    """Writes the Hugging Face folder; tokenizer files are those of the source."""
    out.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "config.json").read_text())
    config["dmc"] = {"window": WINDOW, "alpha_source": "last_neuron", "alpha_bias": ALPHA_BIAS,
                     "omega_bias": OMEGA_BIAS, "compression": round(compression, 3)}
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    model.save(out / "model.safetensors")


def lengths(text: str) -> dict[int, float]:
    """Reads "1024:0.8,2048:0.2"."""
    pairs = [part.split(":") for part in text.split(",")]
    found = {int(length): float(share) for length, share in pairs}
    if min(found) < 256 or max(found) > MAX_POSITION or min(found.values()) < 0 or not any(found.values()):
        raise ValueError(f"lengths from 256 to {MAX_POSITION}, shares not negative, one of them positive")
    return found


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="folder of the Llama to start from (config.json, model.safetensors)")
    add("--out", type=Path, required=True, help="folder for the result; checkpoint.pt in it is what --resume reads")
    add("--text", type=Path, help="text to train on, any bytes; without it the grammar of needle_data.py does")
    add("--json", type=Path, metavar="LOG", help=f"append one JSON object every {LOG_STEPS} steps to this file")
    add("--resume", action="store_true", help="continue from the checkpoint in --out; --finetune may differ")
    add("--seed", type=int, default=1, help="documents and noise follow from it (default 1)")
    add("--threads", type=int, default=2, help="threads; each handles whole sequences (default 2)")
    add("--item-tokens", type=int, default=1024, metavar="N",
        help=f"a step has {ITEMS_PER_STEP} items, each of sequences with N tokens together (default 1024)")
    add("--lengths", type=lengths, default=lengths("1024:0.8,2048:0.2"), metavar="T:SHARE,...",
        help="tokens of a sequence and how often they are drawn (default 1024:0.8,2048:0.2)")
    add("--compression", type=float, default=2.0, help="tokens for each cache entry to end with (default 2)")
    add("--head-compression", type=float, default=4.0, metavar="RATIO",
        help="highest ratio of a single KV head (default 4)")
    add("--margin", type=float, default=0.015, help="ask for this share of merged tokens more (default 0.015)")
    add("--penalty", type=float, default=4.0, help="weight of the compression loss (default 4)")
    add("--anneal", type=int, default=25, help="steps of the first stage (default 25)")
    add("--ramp", type=int, default=20, help="steps of the second stage (default 20)")
    add("--finetune", type=int, default=325, help="steps of the last stage (default 325)")
    add("--rate", type=float, default=0.004, help="highest learning rate of the matrices, Muon (default 0.004)")
    add("--rate-end", type=float, default=0.0002, help="learning rate at the end (default 0.0002)")
    add("--decision-rate", type=float, default=0.0005, help="highest rate of the decision rows, Adam (default 0.0005)")
    add("--bf16", action="store_true", help="matrix products in bfloat16: several times faster where the CPU has them")
    add("--checkpoint-steps", type=int, default=100, help="save a checkpoint every so many steps (default 100)")
    options = parser.parse_args(arguments)
    for name, low in (("threads", 1), ("anneal", 1), ("ramp", 1), ("finetune", 0), ("checkpoint_steps", 1)):
        if getattr(options, name) < low:
            parser.error(f"--{name.replace('_', '-')} is {getattr(options, name)}; allowed: {low} or more")
    if not 1.0 <= options.compression <= options.head_compression:
        parser.error(f"--compression is {options.compression}; allowed: 1 to --head-compression "
                     f"({options.head_compression})")
    for path in filter(None, (options.model / "config.json", options.model / "model.safetensors", options.text)):
        if not path.is_file():
            parser.error(f"no file {path}")
    return options


def main() -> None:
    options = parse()
    torch.set_num_threads(1)  # the pool's threads share the work; small products gain nothing from more
    plan = Plan(options.anneal, options.ramp, options.finetune, options.compression, options.head_compression,
                options.margin, options.rate, options.rate_end, options.decision_rate)
    batches = Batches(options.text.read_bytes() if options.text else b"", options.seed, options.item_tokens,
                      options.lengths)
    trainer = Trainer(Model.load(options.model), plan, batches, options.penalty, options.threads,
                      torch.bfloat16 if options.bf16 else torch.float32)
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / "checkpoint.pt"
    if options.resume:
        if not checkpoint.is_file():
            raise SystemExit(f"--resume: no checkpoint {checkpoint}")
        trainer.load(checkpoint)
    train(trainer, checkpoint, options.checkpoint_steps, options.json)
    export(trainer.model, options.model, options.out, trainer.compression)
    print(f"wrote {options.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
