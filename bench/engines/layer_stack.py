#!/usr/bin/env python3
"""Decode steps of a whole layer stack: weight products by torch, attention by Tandem, and how far they overlap.

Every layer has all that a decoder's layer has: norms, QKV, RoPE, attention, O, and a gated MLP, with random bf16 weights.
Caches are filled with synthetic keys and values. Embedding and LM head are no part of it. With --device cuda:0 weights,
tokens and windows lie on the GPU and all other rows in host memory. With cpu both sides share the processor, and overlap
as far as --threads leaves each of them cores of its own.

Without ping-pong the two sides take turns: weights wait for attention, and attention for weights. With it the batch goes
through the layers in two halves, and while the host attends for one, the GPU multiplies for the other. Each half reads all
weights, so the GPU's side grows; the report has that side as it is for halves. Ping-pong pays where the host's side is
long enough to hide a second reading of the weights.

What is timed takes turns too, step by step, from the same state: weights alone, attention alone, the host tier alone,
windows alone, the whole step without ping-pong and with it. Overlap efficiency is max(cpu side, gpu side) / step; the
report also says whether the sides are balanced (neither below half of the other), what was read, and how far off it is.

Needs torch and libtandem.so (TANDEM_LIBRARY, or the installed package tandem-attention). Exit status: 0, 2 for bad usage, 3 for
what does not fit into memory.
"""
import pathlib
import statistics
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tools/python"))  # after an installed package

try:
    import torch
except ImportError as missing:
    sys.exit(f"{missing}: pip install torch")

import tandem_attention
from machine import processor, write_report
from stack import check, options as stack_options, steps, timeline
from stack.choice import LEAST_BALANCE, LEAST_EFFICIENCY, Candidate, choose, judge
from stack.progress import Progress
from stack.stack import Lanes, Split, Stack, Timed
from stack.weights import Weights
from synthetic import LayerRows

PROBE_LAYERS, PROBE_STEPS = 4, 3


def lanes_of(weights, batch, options):
    """With CUDA graphs where they are wanted and torch can capture them. Returns the lanes and why there are none."""
    try:
        return Lanes(weights, batch, options.cuda_graphs == "on"), None
    except RuntimeError as error:
        if options.cuda_graphs == "off" or weights.device.type != "cuda":
            raise
        why = str(error).split("\n", maxsplit=1)[0]
        print(f"layer_stack.py: no CUDA graphs, Python launches each kernel: {why}", file=sys.stderr)
        return Lanes(weights, batch, False), why


def split_of(options, budget, sequences):
    return Split(options.context, options.window, options.selector, budget, options.error, sequences, options.dense_layers,
                 options.threads, options.never_slower)


def groups_of(options, lanes):
    """The ways that were asked for: name, lanes."""
    return ([("whole", lanes.whole)] if options.ping_pong != "on" else []) + (
        [("halves", lanes.halves)] if options.ping_pong != "off" else [])


def windows_on_device(stack, lanes, group):
    """Milliseconds that the GPU takes for the windows of a step; None where it does not say."""
    if not stack.on_gpu:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path, ends = f"{folder}/windows.json", []

        def work():
            ends.append(time.perf_counter_ns())
            steps.windows_alone(group)
            ends.append(time.perf_counter_ns())
        lanes.reset(stack.length)
        timeline.record(stack.runtime, [], path, work)
        return timeline.device_ms(path, stack.runtime.describe()["device"], [("windows", *ends)])["windows"]


def probe(weights, options, rows, sequences):
    """What both sides take at every batch and budget in a few layers, as much as it would be in all of them."""
    few = weights.first(min(PROBE_LAYERS, weights.layers))
    lanes = {batch: lanes_of(few, batch, options)[0] for batch in options.batch}
    found = []
    for budget in options.budget:
        stack = Stack(few, split_of(options, budget, min(sequences, 2)), max(options.batch), rows)
        for batch, those in lanes.items():
            those.attach(stack)
            name, group = groups_of(options, those)[-1]  # halves, unless there are none
            timed = Timed(stack, those)
            for i in range(-1, PROBE_STEPS):
                timed.parts(group, name, counted=i >= 0)
            sides = timed.sides(name, windows_on_device(stack, those, group))
            found.append(Candidate(batch, budget, sides.times(weights.layers / few.layers)))
            print(f"  {found[-1]}", file=sys.stderr)
            those.detach()
        stack.close()
    return found


def measure(stack, lanes, options):
    """Figures of each way that was asked for, by the names of tests: "ping_pong_off" and "ping_pong_on"."""
    timed, groups = Timed(stack, lanes), groups_of(options, lanes)
    whole_steps = {"whole": lambda: steps.step(lanes.whole[0]), "halves": lambda: steps.ping_pong_step(lanes.halves)}
    for name, group in groups:
        timed.parts(group, name, counted=False)
        timed.run(name, whole_steps[name], counted=False)
    checks = {"error": check.measured_errors(stack, lanes)}
    if lanes.halves:
        checks["halves_have_the_bits_of_the_whole"] = check.same_bits(stack, lanes)
        checks["difference_of_ping_pong"] = check.difference(stack, lanes)
    progress, windows, stats = Progress("steps", options.steps), {}, {}
    for i in range(options.steps):
        for name, group in groups:
            timed.parts(group, name)
            timed.run(name, whole_steps[name], grow=name == groups[-1][0])
            stats[name] = check.stats_of(group)
        progress.advance()
    ways = {}
    for name, group in groups:
        windows[name] = windows_on_device(stack, lanes, group)
        step_ms = timed.median(name)
        times = {what: {"median": statistics.median(ms), "min": min(ms), "all": ms} for what, ms in timed.ms.items()
                 if what == name or what.endswith(f", {name}")}
        ways["ping_pong_off" if name == "whole" else "ping_pong_on"] = {
            **judge(timed.sides(name, windows[name]), step_ms), "tokens_per_s": 1e3 * lanes.batch / step_ms,
            "weight_bytes_read": len(group) * stack.weights.layers * stack.weights.shape.weight_bytes(),
            "weights_ms": timed.median(f"weights, {name}"), "attention_ms": timed.median(f"attention, {name}"),
            "host_tier_ms": timed.median(f"host, {name}"), "window_calls_ms": timed.median(f"window, {name}"),
            "window_device_ms": windows[name], "times_ms": {what.removesuffix(f", {name}"): each for what, each in times.items()},
            **stats[name]}
    return ways, checks


def write_timeline(stack, lanes, options):
    """One step of each kind, with the lanes' weight products beside Tandem's own spans."""
    marks = []

    def work():
        for name, _ in groups_of(options, lanes):
            lanes.reset(stack.length)
            begin = time.perf_counter_ns()
            steps.seconds_of({"whole": lambda: steps.step(lanes.whole[0]),
                              "halves": lambda: steps.ping_pong_step(lanes.halves)}[name], lanes.all)
            marks.append((f"step, ping-pong {'off' if name == 'whole' else 'on'}", begin, time.perf_counter_ns()))
            stack.truncate()
    spans = timeline.record(stack.runtime, lanes.all, options.timeline, work)
    timeline.add_spans(options.timeline, spans, marks)


def notes_of(options, sequences, batch, on_gpu):
    """What a reader has to know beside the figures."""
    notes = ["embedding and LM head are not part of a step; weights are random, keys and values synthetic: errors say little about a trained model"]
    if not on_gpu:
        notes.append("weights and attention share the processor: they overlap as far as --threads, which holds for each of them, leaves both "
                     "cores of their own")
    if options.ping_pong != "off":
        notes.append("with ping-pong every half batch reads all weights: gpu_ms and weight_bytes_read are those of both halves")
    if sequences < batch:
        notes.append(f"{sequences} of {batch} sequences are distinct, the others forks that share their rows: where these stay in the processor's "
                     "cache between two sequences, the host's side is shorter than with distinct ones")
    return notes


def show(ways, checks, stack, lanes, notes):
    print(f"{'ping-pong':9} {'step ms':>8} {'tokens/s':>8} {'cpu ms':>8} {'gpu ms':>8} {'balance':>7} {'overlap':>7} {'rows':>6} "
          f"{'estimate':>8} {'error':>8}")
    for name, way in ways.items():
        estimate = "none" if way["error_estimate"] is None else f"{way['error_estimate']:.2g}"
        print(f"{name.removeprefix('ping_pong_'):9} {way['step_ms']:8.2f} {way['tokens_per_s']:8.1f} {way['cpu_ms']:8.2f} {way['gpu_ms']:8.2f} "
              f"{100 * way['balance']:6.0f}% {100 * way['overlap_efficiency']:6.1f}% {100 * way['share_of_host_rows']:5.2f}% {estimate:>8} "
              f"{checks['error']['mean']:8.2g}")
    print(f"cpu: {'the host tier' if stack.on_gpu else 'attention'}; gpu: weights{' and windows' if stack.on_gpu else ', on the processor too'}; "
          f"goal: overlap {100 * LEAST_EFFICIENCY:.0f} %, balance {100 * LEAST_BALANCE:.0f} %; batch {lanes.batch}")
    if len(ways) == 2:
        print(f"a step with ping-pong takes {ways['ping_pong_on']['step_ms'] / ways['ping_pong_off']['step_ms']:.2f} of one without")
    for note in notes:
        print(f"note: {note}")


def main(arguments):
    parser = stack_options.parser(__doc__)
    options = parser.parse_args(arguments)

    def refuse(text, status=2):
        parser.exit(status, f"layer_stack.py: {text}\n")
    shape, device = stack_options.checked(options, refuse)
    torch.set_grad_enabled(False)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.set_num_threads(options.threads)
    try:
        sequences, memory = stack_options.memory_checked(options, shape, device, refuse)
        weights = Weights(shape, options.layers, device)
        rows = LayerRows(shape.kv_heads, shape.q_heads, shape.head_dim)
        candidates = [Candidate(options.batch[0], options.budget[0], None)]
        if len(options.batch) * len(options.budget) > 1:
            candidates = probe(weights, options, rows, sequences)
        chosen, why = choose(candidates)
        print(why, file=sys.stderr)
        lanes, no_graphs = lanes_of(weights, chosen.batch, options)
        sequences = min(sequences, chosen.batch)
        stack = Stack(weights, split_of(options, chosen.budget, sequences), chosen.batch, rows)
        lanes.attach(stack)
        ways, checks = measure(stack, lanes, options)
        if options.timeline:
            write_timeline(stack, lanes, options)
        about = stack.runtime.describe()
    except tandem_attention.TandemError as error:
        refuse(str(error))
    notes = notes_of(options, sequences, chosen.batch, stack.on_gpu)
    show(ways, checks, stack, lanes, notes)
    if options.json:
        write_report(
            options.json, "layer_stack", torch=torch.__version__, tandem=tandem_attention.version(),
            machine={"processor": processor(), "threads": options.threads, "device": about["device"], "isa": about["isa"],
                     "host_bytes_needed": memory.host, "device_bytes_needed": memory.device},
            model=options.model, layers=options.layers, batch=chosen.batch, sequences=sequences, context=options.context,
            window=options.window, selector=options.selector, budget=chosen.budget, wanted_error=options.error,
            never_slower=options.never_slower, dense_layers=options.dense_layers, steps=options.steps, cuda_graphs=lanes.graphs, cuda_graphs_refused=no_graphs,
            chosen={"why": why, "candidates": [each.report() for each in candidates]},
            **checks, **ways, notes=notes)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
