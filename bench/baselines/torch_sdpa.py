#!/usr/bin/env python3
"""What PyTorch takes for the dense decode step that decode_step measures: scaled_dot_product_attention, on the CPU or,
with --device cuda, on a GPU (by CUDA events); there also what FlashInfer takes, with --library flashinfer.

One layer of a batch-1 step: 8 KV heads, the query heads of a group folded into the query length (so that K and V are
read once per group, the best case for it), no mask. Cold: steps visit copies of K and V that exceed the last-level cache
together. The floor is bytes of K and V over the bandwidth of summing a buffer as large with as many threads. Writes the
JSON that decode_step writes, for compare.py and plot.py.

usage: torch_sdpa.py [--contexts 4K,32K] [--threads 2,1] [--dtypes bf16,f32] [--steps N] [--json FILE]
                     [--device cpu|cuda] [--library torch|flashinfer]

Needs PyTorch, which the project itself does not: python3 -m venv venv && venv/bin/pip install torch
"""
import argparse
import datetime
import json
import math
import os
import platform
import sys
import time

UNITS = {"K": 1 << 10, "M": 1 << 20}
COLD_FACTOR = 1.25


def tokens_of(text):
    return int(text[:-1]) * UNITS[text[-1]] if text[-1] in UNITS else int(text)


def quantile(values, share):
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def last_level_cache_bytes():
    """The largest cache that the first processor sees, all instances of it counted once; 32 MiB when unknown."""
    best = 32 << 20
    base = "/sys/devices/system/cpu/cpu0/cache"
    for index in os.listdir(base) if os.path.isdir(base) else []:
        try:
            with open(f"{base}/{index}/size", encoding="ascii") as file:
                text = file.read().strip()
            best = max(best, int(text[:-1]) * UNITS[text[-1]])
        except (OSError, ValueError, KeyError):
            continue
    return best


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def timed_us(torch, device, call):
    """Microseconds that `call` takes, on the device's clock where it has one, and what it returns."""
    if device == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        result = call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e3, result
    start = time.perf_counter()
    result = call()
    return (time.perf_counter() - start) * 1e6, result


def bandwidth(torch, device, cache_bytes, passes=3):
    """GB/s of the best of a few sums over a buffer larger than the caches."""
    buffer = torch.ones(int(COLD_FACTOR * cache_bytes) // 8, dtype=torch.int64, device=device)
    best = 0.0
    for _ in range(passes + 1):
        us, _ = timed_us(torch, device, buffer.sum)
        best = max(best, buffer.numel() * 8 / us / 1e3)
    return best


def attention_of(torch, library):
    """attend(q (1, kv_heads, group, dim), k and v (1, kv_heads, tokens, dim)) -> out like q."""
    if library == "torch":
        return torch.nn.functional.scaled_dot_product_attention
    import flashinfer

    def attend(q, k, v):
        out = flashinfer.single_decode_with_kv_cache(q.flatten(0, 2), k[0], v[0], kv_layout="HND")
        return out.view(q.shape)
    return attend


def relative_errors(torch, q, k, v, out):
    """|out - exact| / |exact| per query head, exact in double precision."""
    q, k, v = q.double(), k.double(), v.double()
    exact = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v
    return ((out.double() - exact).norm(dim=-1) / exact.norm(dim=-1)).flatten().tolist()


def measure(torch, options, tokens, threads, dtype_name, cache_bytes):
    dtype = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[dtype_name]
    torch.set_num_threads(threads)
    group = options.q_heads // options.kv_heads
    shape = (1, options.kv_heads, tokens, options.head_dim)
    kv_bytes = 2 * math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
    copies = math.ceil(COLD_FACTOR * cache_bytes / kv_bytes) + 1
    generator = torch.Generator().manual_seed(1)
    k, v = (torch.randn(shape, generator=generator).to(options.device, dtype) for _ in range(2))
    pairs = [(k, v)] + [(k.clone(), v.clone()) for _ in range(copies - 1)]
    q = torch.randn(1, options.kv_heads, group, options.head_dim, generator=generator).to(options.device, dtype)
    before = bandwidth(torch, options.device, cache_bytes)
    attend = attention_of(torch, options.backend)
    times = []
    with torch.inference_mode():
        for step in range(options.steps + copies):
            keys, values = pairs[step % copies]
            us, out = timed_us(torch, options.device, lambda: attend(q, keys, values))
            if step >= copies:  # the first round only touches the copies
                times.append(us)
        errors = relative_errors(torch, q, k, v, out)
    after = bandwidth(torch, options.device, cache_bytes)
    floor = kv_bytes / max(before, after) / 1000
    median = quantile(times, 0.5)
    name = "torch sdpa" if options.backend == "torch" else options.backend
    return {"name": name if options.device == "cpu" else f"{name} on {options.device}",
            "selector": {"kind": "torch_sdpa", "library": f"torch {torch.__version__}"}, "device": options.device,
            "tokens": tokens, "threads": threads, "batch": 1, "host_dtype": dtype_name, "layers": copies, "cold": "rotate",
            "bandwidth_gb_per_s": {"before": before, "after": after}, "samples": len(times),
            "us": {"min": min(times), "p10": quantile(times, 0.1), "median": median, "p90": quantile(times, 0.9),
                   "mean": sum(times) / len(times)},
            "worker_us": {}, "bytes_per_step": kv_bytes, "floor_us": floor, "gap": median / floor,
            "gap_of_min": min(times) / floor, "rows_gathered": tokens * options.kv_heads, "rows_share": 1, "keys_share": 1,
            "error": {"mean": sum(errors) / len(errors), "p50": quantile(errors, 0.5), "p95": quantile(errors, 0.95)},
            "lse_error": None, "lse_error_estimate": None, "index_bytes_per_token": 0, "build_ns_per_token": 0}


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", default="4K,32K")
    parser.add_argument("--threads", default="2,1")
    parser.add_argument("--dtypes", default="bf16,f32")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--q-heads", type=int, default=32)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--cache-mib", type=int, default=0, help="last-level cache; 0: what the system says [0]")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where tensors are [cpu]")
    parser.add_argument("--library", dest="backend", choices=("torch", "flashinfer"), default="torch",
                        help="whose attention; flashinfer needs --device cuda [torch]")
    parser.add_argument("--json", default="")
    options = parser.parse_args(arguments)
    try:
        import torch
    except ImportError:
        print("torch_sdpa.py: PyTorch is missing; python3 -m venv venv && venv/bin/pip install torch", file=sys.stderr)
        return 2
    if options.device == "cuda":
        options.threads = "1"  # of the host, which does not matter
        properties = torch.cuda.get_device_properties(0)
        cache = getattr(properties, "L2_cache_size", 64 << 20)
    else:
        properties, cache = None, last_level_cache_bytes()
    cache_bytes = options.cache_mib << 20 or cache
    rows = []
    print(f"{'tokens':>8} {'threads':>7} {'dtype':>5} {'min us':>10} {'median':>10} {'floor us':>10} {'gap':>6} {'error':>9}",
          file=sys.stderr)
    for tokens in map(tokens_of, options.contexts.split(",")):
        for threads in map(int, options.threads.split(",")):
            for dtype in options.dtypes.split(","):
                row = measure(torch, options, tokens, threads, dtype, cache_bytes)
                rows.append(row)
                print(f"{tokens:8} {threads:7} {dtype:>5} {row['us']['min']:10.1f} {row['us']['median']:10.1f} "
                      f"{row['floor_us']:10.1f} {row['gap']:6.2f} {row['error']['mean']:9.2g}", file=sys.stderr)
    report = {"benchmark": "torch_sdpa", "version": torch.__version__,
              "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
              "command": sys.argv, "machine": {"processor": properties.name if properties else processor(),
                                               "kernel": platform.platform(),
                                               "last_level_cache_bytes": cache_bytes},
              "settings": {"num_kv_heads": options.kv_heads, "num_q_heads": options.q_heads, "head_dim": options.head_dim,
                           "kind": "random", "steps": options.steps, "cold": "rotate"}, "rows": rows}
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
            file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
