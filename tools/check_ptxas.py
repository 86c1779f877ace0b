#!/usr/bin/env python3
"""Fails where a compiled CUDA kernel spills registers or uses more than its budget (gpu/cuda/kernels/budget.json), on
any architecture. Prints the most registers of each kernel's instances.

Usage: check_ptxas.py [--json] OBJECT...    the objects of .cu files; their logs lie beside them
       check_ptxas.py --skip REASON         says why there are none, and exits with 77
       check_ptxas.py --self-test
"""
import dataclasses
import json
import pathlib
import sys

import ptxas_log

BUDGET = pathlib.Path(__file__).resolve().parent.parent / "gpu/cuda/kernels/budget.json"

# As ptxas 13.0 writes it; the second kernel spills, in a function that it calls, and the third is over its budget.
CANNED_LOG = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN6tandem3gpu4cuda9move_runsEPKNS1_8MoveItemEl' for 'sm_80'
ptxas info    : Function properties for _ZN6tandem3gpu4cuda9move_runsEPKNS1_8MoveItemEl
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 20 registers, used 0 barriers, 368 bytes cmem[0]
ptxas info    : Compile time = 10.000 ms
ptxas info    : Compiling entry function '_ZN6tandem3gpu4cuda11unpack_rowsINS1_3F16EEEvPKNS1_10UnpackItemEliii' for 'sm_80'
ptxas info    : Function properties for helper
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Function properties for _ZN6tandem3gpu4cuda11unpack_rowsINS1_3F16EEEvPKNS1_10UnpackItemEliii
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 38 registers, used 1 barriers, 4096 bytes smem, 380 bytes cmem[0]
ptxas info    : Compiling entry function '_ZN6tandem3gpu4cuda11unpack_rowsINS1_3F32EEEvPKNS1_10UnpackItemEliii' for 'sm_90'
ptxas info    : Function properties for _ZN6tandem3gpu4cuda11unpack_rowsINS1_3F32EEEvPKNS1_10UnpackItemEliii
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 41 registers, used 1 barriers, 4096 bytes smem
"""
CANNED_BUDGET = """{"registers": 32, "kernels": {"unpack_rows": 64, "unpack_rows<F32": 40, "move": 1, "gone": 1},
                    "spill_bytes": {"unpack_rows<F16": 11}}"""
CANNED_FINDINGS = [
    "unpack_rows<F16> for sm_80: 12 bytes of spills; allowed: 11",
    "unpack_rows<F32> for sm_90: 41 registers; allowed: 40",
    "budget.json: no kernel is called gone",
    "budget.json: no kernel is called move",
]


def findings_of(kernels, budget):
    found = list(budget.violations(kernels))
    return found + [f"budget.json: no kernel is called {key}" for key in budget.unused()]


def self_test() -> int:
    kernels = ptxas_log.parse(CANNED_LOG)
    found = findings_of(kernels, ptxas_log.Budget(CANNED_BUDGET))
    expected_kernels = [("move_runs", "sm_80", 20, 0, 0), ("unpack_rows<F16>", "sm_80", 38, 16, 4096),
                        ("unpack_rows<F32>", "sm_90", 41, 0, 4096)]
    kernels = [(k.name, k.arch, k.registers, k.stack_bytes, k.shared_bytes) for k in kernels]
    nested = ptxas_log.expression("void ns::kernel<(ns::Kind)1, ns::T<2> >(int (*)(float))")
    try:
        ptxas_log.parse(CANNED_LOG.replace("Used 41 registers", ""))
        reports_missing = False
    except ValueError:
        reports_missing = True
    if (kernels, found, nested, reports_missing) == (expected_kernels, CANNED_FINDINGS,
                                                     "ns::kernel<(ns::Kind)1, ns::T<2> >", True):
        print("self-test ok: two kernels over their budget and two entries without a kernel reported, the rest not")
        return 0
    print(kernels, found, nested, reports_missing, sep="\n")
    return 1


def table(kernels, budget):
    """One line for each kernel template: the most registers of its instances by architecture."""
    archs = sorted({k.arch for k in kernels}, key=lambda arch: int(arch.removeprefix("sm_").rstrip("af")))
    yield (f"{'most registers':28} {'instances':>9} {'budget':>6} {' '.join(f'{a:>6}' for a in archs)} "
           f"{'spills':>6} {'stack':>5}")
    templates = {}
    for kernel in kernels:
        templates.setdefault(kernel.name.split("<")[0], []).append(kernel)
    for name, instances in sorted(templates.items()):
        most = [max((k.registers for k in instances if k.arch == arch), default=0) for arch in archs]
        allowed = max(budget.registers(k.name) for k in instances)
        yield (f"{name:28} {len({k.name for k in instances}):9} {allowed:6} {' '.join(f'{m:6}' for m in most)} "
               f"{max(k.spill_bytes for k in instances):6} {max(k.stack_bytes for k in instances):5}")


def main(arguments) -> int:
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) == 2 and arguments[0] == "--skip":
        print(f"register budget skipped: {arguments[1]}")
        return ptxas_log.SKIPPED
    as_json = arguments[:1] == ["--json"]
    objects = arguments[as_json:]
    if not objects or objects[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    kernels = [k for log in ptxas_log.logs_of(objects).values() for k in ptxas_log.parse(log)]
    budget = ptxas_log.Budget(BUDGET.read_text())
    found = findings_of(kernels, budget)
    if not kernels:
        found.append("the logs name no kernel")
    if as_json:
        print(json.dumps({"kernels": [dataclasses.asdict(k) for k in kernels], "findings": found}, indent=1))
    else:
        print("\n".join([*table(kernels, budget), *found]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
