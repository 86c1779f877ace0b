#!/usr/bin/env python3
"""Compiles the CUDA kernels with NVRTC 12.9 for GPUs that nvcc 13 has left (sm_70: V100), and checks their registers.

Usage: check_nvrtc.py [--arch ARCH]... [--json] OBJECT...
       check_nvrtc.py --skip REASON      says why there are no objects, and exits with 77

OBJECTs are those that nvcc made of gpu/cuda/launch/*.cu: every kernel that they hold is compiled from the kernel
headers (gpu/cuda/kernels/*.cuh) that its .cu includes, so there is no list of instances to keep. Every header is
compiled by itself as well, and fails where it defines a kernel that no object holds. ARCH: sm_70 (the default),
compute_70 (PTX), or another that NVRTC knows. Exits with 77, and the reason, without NVRTC (tools/setup --cuda).
"""
import argparse
import concurrent.futures
import ctypes
import dataclasses
import json
import os
import pathlib
import re
import sys
import time

import ptxas_log

ROOT = pathlib.Path(__file__).resolve().parent.parent
KERNELS, LAUNCH = "gpu/cuda/kernels", "gpu/cuda/launch"
NVRTC = ROOT / "build/cuda-toolkit/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"
WHY_NOT = ROOT / "build/cuda-toolkit.missing"  # written by tools/setup_cuda
CHUNK = 4  # kernels of one compilation: several run at a time

# NVRTC has no standard library; these are all that kernel headers may include of it.
HEADERS = {
    "cstddef": """#pragma once
namespace std {
using size_t = decltype(sizeof(0));
using ptrdiff_t = long;
enum class byte : unsigned char {};
}
""",
    "cstdint": """#pragma once
namespace std {
using int8_t = signed char;
using int16_t = short;
using int32_t = int;
using int64_t = long;
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = unsigned long;
using intptr_t = long;
using uintptr_t = unsigned long;
}
""",
}
INCLUDE = re.compile(r'^#include "([^"]+)"', re.M)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
BOUNDS = re.compile(r"__launch_bounds__\s*\([^)]*\)")
DEFINITION = re.compile(r"\b__global__\b[^;{(]*?(\w+)\s*\(")
NOISE = re.compile(r"Architectures prior to .* are deprecated|^ptxas ")


@dataclasses.dataclass
class Unit:
    """What is compiled together, in a few compilations: a header, or the kernels of a .cu file."""
    file: str
    headers: list
    names: dict  # expression -> symbol


@dataclasses.dataclass
class Compilation:
    log: str
    seconds: float
    missing: list  # expressions whose symbol is not the one that nvcc gave


class Nvrtc:
    """The few calls of libnvrtc that it takes. Thread-safe."""

    def __init__(self):
        self.nvrtc = ctypes.CDLL(str(NVRTC))
        self.nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p

    def check(self, status):
        if status != 0:
            raise RuntimeError(f"NVRTC: {self.nvrtc.nvrtcGetErrorString(status).decode()}")

    def compile(self, headers: list, names: dict, arch: str) -> Compilation:
        """`names`: expression -> symbol. Paths are from the current folder."""
        program = ctypes.c_void_p()
        text = "".join(f'#include "{header}"\n' for header in headers)
        array = ctypes.c_char_p * len(HEADERS)
        sources, includes = (array(*(t.encode() for t in texts)) for texts in (HEADERS.values(), HEADERS))
        self.check(self.nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"check.cu", len(HEADERS),
                                                   sources, includes))
        try:
            for expression in names:
                self.check(self.nvrtc.nvrtcAddNameExpression(program, expression.encode()))
            # As tools/cmake/TandemCuda.cmake has them.
            options = [f"--gpu-architecture={arch}", "-std=c++17", "-I.", "--fmad=false", "-default-device"]
            if arch.startswith("sm_"):
                options.append("--ptxas-options=-v")
            start = time.monotonic()
            status = self.nvrtc.nvrtcCompileProgram(program, len(options),
                                                      (ctypes.c_char_p * len(options))(*(o.encode() for o in options)))
            seconds = time.monotonic() - start
            log = self.log_of(program)
            if status != 0 and "error" not in log:
                self.check(status)
            missing = [e for e, symbol in names.items() if status == 0 and self.symbol_of(program, e) != symbol]
            return Compilation(log, seconds, missing)
        finally:
            self.nvrtc.nvrtcDestroyProgram(ctypes.byref(program))

    def log_of(self, program) -> str:
        size = ctypes.c_size_t()
        self.check(self.nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
        text = ctypes.create_string_buffer(size.value)
        self.check(self.nvrtc.nvrtcGetProgramLog(program, text))
        return text.value.decode()

    def symbol_of(self, program, expression: str) -> str:
        symbol = ctypes.c_char_p()
        self.check(self.nvrtc.nvrtcGetLoweredName(program, expression.encode(), ctypes.byref(symbol)))
        return symbol.value.decode()


def kernels_defined(header: str):
    return DEFINITION.findall(BOUNDS.sub(" ", COMMENT.sub(" ", (ROOT / header).read_text())))


def kernel_headers_of(source: str):
    """What a file of LAUNCH includes of KERNELS, itself or through headers of LAUNCH."""
    found = []
    for include in INCLUDE.findall((ROOT / source).read_text()):
        if include.startswith(KERNELS):
            found.append(include)
        elif include.startswith(LAUNCH):
            found += kernel_headers_of(include)
    return list(dict.fromkeys(found))


def units_of(objects):
    """All units, and what is wrong with them already."""
    headers = sorted(f"{KERNELS}/{path.name}" for path in (ROOT / KERNELS).glob("*.cuh"))
    units, held = [Unit(header, [header], {}) for header in headers], set()
    for path, log in ptxas_log.logs_of(objects).items():
        source = f"{LAUNCH}/{pathlib.Path(path).stem}"
        symbols = sorted({symbol for symbol, _ in ptxas_log.COMPILING.findall(log)})
        names = dict(zip(ptxas_log.expressions(symbols), symbols))
        held.update(expression.split("<")[0].rsplit("::", 1)[-1] for expression in names)
        if names:
            units.append(Unit(source, kernel_headers_of(source), names))
    return units, [f"no object has the kernel {kernel}, which {header} defines"
                   for header in headers for kernel in kernels_defined(header) if kernel not in held]


def chunks(names: dict):
    items = list(names.items())
    return [dict(items[i:i + CHUNK]) for i in range(0, len(items), CHUNK)] or [{}]  # {}: the header alone


def report(unit, arch, parts, budget, findings):
    """The figures of a unit for one architecture; appends what is wrong to `findings`."""
    kernels = [k for part in parts for k in ptxas_log.parse(part.log)] if arch.startswith("sm_") else []
    findings += budget.violations(kernels)
    for part in parts:
        findings += [f"{unit.file}: {e} has another symbol than nvcc's for {arch}" for e in part.missing]
        words = "\n".join(line for line in part.log.splitlines() if line.strip() and not NOISE.search(line))
        if words:
            findings.append(f"{unit.file} for {arch}:\n{words}")
    return {"file": unit.file, "arch": arch, "instances": len(unit.names),
            "seconds": round(sum(part.seconds for part in parts), 2),
            "kernels": [dataclasses.asdict(k) for k in kernels]}


def run(arguments):
    """The rows of all units and architectures, and what is wrong."""
    units, findings = units_of(arguments.objects)
    nvrtc, budget = Nvrtc(), ptxas_log.Budget((ROOT / KERNELS / "budget.json").read_text())
    os.chdir(ROOT)  # NVRTC looks for includes in the current folder first
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        work = [(unit, arch, [pool.submit(nvrtc.compile, unit.headers, chunk, arch) for chunk in chunks(unit.names)])
                for unit in units for arch in arguments.archs]
        rows = [report(unit, arch, [part.result() for part in parts], budget, findings) for unit, arch, parts in work]
    return rows, findings


def line_of(row) -> str:
    registers = max((k["registers"] for k in row["kernels"]), default="-")
    spills = max((k["spill_bytes"] for k in row["kernels"]), default="-")
    return f"{row['file']:44} {row['arch']:10} {row['instances']:9} {row['seconds']:8.2f} {registers:>9} {spills:>6}"


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("objects", nargs="*")
    parser.add_argument("--arch", action="append", dest="archs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--skip")
    arguments = parser.parse_args()
    arguments.archs = arguments.archs or ["sm_70"]
    reason = arguments.skip
    if reason is None and not NVRTC.exists():
        reason = "NVRTC is not installed; tools/setup --cuda does so"
        if WHY_NOT.exists():
            reason = WHY_NOT.read_text().strip()
    if reason is not None:
        print(f"NVRTC check skipped: {reason}")
        return ptxas_log.SKIPPED
    start = time.monotonic()
    rows, findings = run(arguments)
    seconds = round(time.monotonic() - start, 1)
    if arguments.json:
        print(json.dumps({"files": rows, "findings": findings, "seconds": seconds}, indent=1))
    else:
        print(f"{'file':44} {'arch':10} instances  seconds registers spills", *map(line_of, rows), sep="\n")
        print(f"{seconds} s in all", *findings, sep="\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
