"""The options of layer_stack.py, and whether they can be had here, before anything takes long."""
import argparse
import os
import pathlib

import torch

import tandem_attention
from machine import free_bytes, tokens_of, usable_cores

from . import shapes

DOES_NOT_FIT = 3  # exit status
SELECTORS = ("sketch", "sketch_topk", "topk", "lsh", "all")
WITH_BUDGET = ("sketch", "sketch_topk", "topk")
BUDGETS = (0.04, 0.02, 0.01, 0.005, 0.0025)
EXAMPLES = """
examples:
  layer_stack.py --model tiny --context 8K --window 256              # seconds, anywhere
  layer_stack.py --layers 2 --context 32K --batch 2 --budget 0.02    # two of 32 layers on a CPU
  layer_stack.py --device cuda:0 --batch 2,4,8 --sequences fit --timeline step.json --json result.json
"""


def number(kind, allowed, holds):
    """A type for argparse: a number of `kind` for which `holds` does."""
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not holds(value):
            raise argparse.ArgumentTypeError(f"'{text}' is not allowed; allowed: {allowed}")
        return value
    return parse


count = number(int, "a whole number, 1 or more", lambda value: value >= 1)
share = number(float, "a share above 0, up to 1", lambda value: 0 < value <= 1)


def list_of(parse):
    return lambda text: [parse(part) for part in text.split(",")]


def parser(description):
    made = argparse.ArgumentParser(description=description, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", default="llama-3.1-8b", choices=shapes.MODELS, help="whose layers' shape [%(default)s]")
    made.add_argument("--layers", type=count, help="how many of its layers [all of them]")
    made.add_argument("--device", default="cpu", help="of weights and windows: cpu, or cuda:N [%(default)s]")
    made.add_argument("--batch", default=[2], type=list_of(count), metavar="LIST",
                      help="sequences; of several numbers, the one with which the sides balance best is taken [2]")
    made.add_argument("--sequences", default=None, metavar="N|fit", type=lambda text: text if text == "fit" else count(text),
                      help="distinct caches: the others of the batch are forks and share rows, which flatters the host where these stay "
                           "in its processor's cache; fit: as many as host memory holds [the batch]")
    made.add_argument("--context", default="128K", type=tokens_of, help="tokens of each sequence [%(default)s]")
    made.add_argument("--window", default="4K", type=tokens_of, help="latest tokens in the window [%(default)s]")
    made.add_argument("--selector", default="sketch", choices=SELECTORS, help="of host rows [%(default)s]")
    made.add_argument("--budget", default=None, metavar="LIST|choose",
                      type=lambda text: list(BUDGETS) if text == "choose" else list_of(share)(text),
                      help="share of the host rows that a step gathers; of several, the one with which the sides balance best is taken. "
                           f"choose: of {', '.join(map(str, BUDGETS))} [choose, with selectors that have one and without --error]")
    made.add_argument("--error", type=number(float, "above 0, below 1", lambda value: 0 < value < 1),
                      help="relative error that a step may have, instead of a budget; sketch only")
    made.add_argument("--never-slower", action="store_true",
                      help="let the runtime attend to every row where it expects that to be quicker; else selectors always select")
    made.add_argument("--dense-layers", default=0, type=number(int, "0 or more", lambda value: value >= 0), metavar="N",
                      help="the first N layers attend to every row [0]")
    made.add_argument("--threads", default=usable_cores(), type=count, help="of Tandem, and of torch on a CPU [%(default)s]")
    made.add_argument("--ping-pong", default="both", choices=("on", "off", "both"), help="two half batches, or not [%(default)s]")
    made.add_argument("--steps", default=15, type=count, help="rounds that are timed [%(default)s]")
    made.add_argument("--cuda-graphs", default="on", choices=("on", "off"), help="launch weight products as CUDA graphs [%(default)s]")
    made.add_argument("--json", metavar="FILE", help="all figures")
    made.add_argument("--timeline", metavar="FILE", help="one step of each kind, for ui.perfetto.dev, with the weights beside Tandem's spans")
    return made


def checked(options, refuse):
    """Options that hold for themselves and do not for each other; refuse(text) does not return."""
    shape = shapes.MODELS[options.model]
    options.layers = options.layers or shape.layers
    if options.layers > shape.layers:
        refuse(f"--layers is {options.layers}; {options.model} has {shape.layers}: allowed are 1 to {shape.layers}")
    if options.dense_layers > options.layers:
        refuse(f"--dense-layers is {options.dense_layers}; allowed: 0 to {options.layers}, the number of layers")
    if options.context <= options.window:
        refuse(f"--window is {options.window}; allowed: less than --context, which is {options.context}")
    if options.ping_pong != "off" and min(options.batch) < 2:
        refuse(f"--batch is {min(options.batch)} and has no halves; allowed: 2 or more, or --ping-pong off")
    if options.selector not in WITH_BUDGET and options.budget:
        refuse(f"--budget is given, but --selector is '{options.selector}'; allowed: {', '.join(WITH_BUDGET)}")
    if options.error is not None and (options.selector != "sketch" or options.budget):
        refuse(f"--error is {options.error}, with --selector {options.selector}" + (" and a --budget" if options.budget else "") +
               "; allowed: --selector sketch without --budget")
    if options.budget is None:
        options.budget = list(BUDGETS) if options.selector in WITH_BUDGET and options.error is None else [None]
    try:
        device = torch.device(options.device)
    except RuntimeError:
        device = None
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if device is None or str(device) not in ("cpu", *gpus):
        refuse(f"--device is '{options.device}'; allowed: cpu" + "".join(f", {gpu}" for gpu in gpus) +
               ("" if gpus else " (torch finds no GPU here)"))
    for name in ("json", "timeline"):
        path = getattr(options, name)
        if path and not os.access(pathlib.Path(path).resolve().parent, os.W_OK):
            refuse(f"--{name} is '{path}', where nothing can be written; allowed: a file in a folder that exists and is writeable")
    return shape, device


def memory_checked(options, shape, device, refuse):
    """Distinct caches, after the arithmetic of whether they fit. The library says what it would take at most."""
    on_gpu = device.type == "cuda"
    with tandem_attention.Runtime(num_layers=1, num_q_heads=shape.q_heads, num_kv_heads=shape.kv_heads, head_dim_k=shape.head_dim,
                                  local_tokens=64, device=str(device) if on_gpu else "host") as runtime:
        free = min(free_bytes(), runtime.describe()["memory"]["limit_bytes"])
    batch = max(options.batch)
    wanted = batch if options.sequences in (None, "fit") else min(options.sequences, batch)

    def needs(sequences):
        return shapes.memory_of(shape, layers=options.layers, context=options.context, window=options.window, batch=batch,
                                sequences=sequences, selector=options.selector, on_gpu=on_gpu)
    if options.sequences == "fit":
        wanted = max(1, min(batch, shapes.sequences_that_fit(needs(1), free)))
    memory = needs(wanted)
    if reason := shapes.refusal(memory, options.layers, free):
        refuse(reason, DOES_NOT_FIT)
    if on_gpu and memory.device > torch.cuda.mem_get_info(device)[0]:
        refuse(f"weights and windows need {memory.device / shapes.GIB:.1f} GiB on {device}, of which "
               f"{torch.cuda.mem_get_info(device)[0] / shapes.GIB:.1f} GiB are free; allowed: fewer --layers, a smaller --batch or --window", DOES_NOT_FIT)
    return wanted, memory
