"""What ptxas says about kernels (nvcc -Xptxas=-v, NVRTC --ptxas-options=-v), and their budget of registers."""
import dataclasses
import json
import re
import subprocess

NAMESPACE = "tandem::gpu::cuda::"
SKIPPED = 77  # CTest's exit code for a check that could not run

COMPILING = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
PROPERTIES = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


@dataclasses.dataclass
class Kernel:
    symbol: str
    arch: str
    registers: int = -1
    stack_bytes: int = 0
    spill_bytes: int = 0  # stores and loads, of the kernel and of the functions that it calls
    shared_bytes: int = 0
    name: str = ""  # without the namespace, see expression()


def parse(text: str):
    """The kernels of a log, with names. Raises ValueError where a kernel's registers are missing."""
    kernels = []
    for line in text.splitlines():
        if match := COMPILING.search(line):
            kernels.append(Kernel(*match.groups()))
        elif kernels and (match := PROPERTIES.search(line)):
            stack, stores, loads = map(int, match.groups())
            kernels[-1].stack_bytes = max(kernels[-1].stack_bytes, stack)
            kernels[-1].spill_bytes += stores + loads
        elif kernels and (match := USED.search(line)):
            kernels[-1].registers = int(match.group(1))
            kernels[-1].shared_bytes = int((SHARED.search(line) or [0, 0])[1])
    for kernel, expression in zip(kernels, expressions(k.symbol for k in kernels)):
        if kernel.registers < 0:
            raise ValueError(f"no registers of {kernel.symbol} for {kernel.arch} in the log")
        kernel.name = expression.replace(NAMESPACE, "")
    return kernels


def expressions(symbols):
    """Mangled names of kernels as the C++ expressions that name them."""
    symbols = list(symbols)
    done = subprocess.run(["c++filt"], input="\n".join(symbols), text=True, capture_output=True, check=True)
    return [expression(line) for line in done.stdout.splitlines()]


def expression(demangled: str) -> str:
    """`void ns::kernel<ns::T, 8>(int)` -> `ns::kernel<ns::T, 8>`."""
    depth = 0
    for i, char in enumerate(demangled):
        depth += {"<": 1, ">": -1}.get(char, 0)
        if char == "(" and depth == 0:
            demangled = demangled[:i]
            break
    return demangled.removeprefix("void ")


class Budget:
    """budget.json: {"registers": of a kernel that is not listed, "kernels": {name or its beginning: registers},
    "spill_bytes": {name or its beginning: stores and loads}}. The longest beginning counts; others may not spill."""

    def __init__(self, text: str):
        content = json.loads(text)
        self.default, self.kernels = content["registers"], content["kernels"]
        self.spills = content.get("spill_bytes", {})
        self.used = set()

    def registers(self, name: str) -> int:
        return self._of(name, self.kernels, self.default)

    def _of(self, name: str, entries: dict, default: int) -> int:
        def fits(key):
            return name == key or name.startswith(key if "<" in key else key + "<")

        key = max(filter(fits, entries), key=len, default=None)
        if key is None:
            return default
        self.used.add(key)
        return entries[key]

    def violations(self, kernels):
        for kernel in kernels:
            allowed = self.registers(kernel.name)
            if kernel.registers > allowed:
                yield f"{kernel.name} for {kernel.arch}: {kernel.registers} registers; allowed: {allowed}"
            allowed = self._of(kernel.name, self.spills, 0)
            if kernel.spill_bytes > allowed:
                yield (f"{kernel.name} for {kernel.arch}: {kernel.spill_bytes} bytes of spills; "
                       f"allowed: {allowed or 'none'}")

    def unused(self):
        return sorted((set(self.kernels) | set(self.spills)) - self.used)


def logs_of(objects):
    """Path -> the log beside it, of the objects of .cu files. Raises OSError where one is missing."""
    logs = {}
    for path in objects:
        if path.endswith(".cu.o"):
            with open(path + ".ptxas") as log:
                logs[path] = log.read()
    return logs
