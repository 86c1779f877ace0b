#!/usr/bin/env python3
"""Fails when a source file includes what its layer may not see, a kernel source uses the standard library's heavy parts,
or something besides runtime/include/tandem is installed.

Usage: check_layers.py [--self-test | ROOT]
"""
import pathlib
import re
import sys
import tempfile

# folder -> what its files may include besides the folder itself: folders, or single headers. The longest folder that
# matches counts; files elsewhere (tests, bench, tools/tandem) may include anything.
MAY_INCLUDE = {
    "runtime/include/tandem": (),
    "runtime/base": (),
    "numa": ("runtime/base",),
    "cpu": ("runtime/base", "numa"),
    "lsh": ("runtime/base", "numa", "cpu"),
    "gpu": ("runtime/base", "numa", "cpu"),
    "runtime": ("runtime/base", "runtime/include/tandem", "numa", "cpu", "lsh", "gpu"),
    "tools/formats": ("runtime/base",),
    # What plays the part of an engine uses the C ABI like any other engine.
    "tools/llama": ("runtime/include/tandem", "tools/formats", "runtime/base/error.h", "runtime/base/dtype.h"),
    # Predictions are made of the library's own costs and row formats, without a runtime.
    "tools/plan": ("runtime/base", "cpu", "lsh"),
    # Pages and pictures of whatever they are given.
    "tools/report": ("runtime/base/error.h",),
    # What is measured of a machine: by the library's parts, without a runtime.
    "tools/probes": ("runtime/base", "numa", "cpu", "lsh", "gpu"),
    "tools/ggml": ("runtime/include/tandem",),
    "tools/python": ("runtime/include/tandem",),
}
SOURCES = {".h", ".hpp", ".c", ".cpp", ".inl", ".cuh", ".cu"}
PROJECT_FOLDERS = ("runtime", "numa", "cpu", "lsh", "gpu", "tools", "bench", "tests")
INSTALLER = "tools/cmake/TandemInstall.cmake"

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.M)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
# Their templates are weak symbols: an ISA's copy could be linked into code that every machine runs.
HEAVY_HEADERS = set(
    "algorithm any array deque exception filesystem format forward_list fstream functional iomanip ios iostream istream "
    "list map memory mutex numeric optional ostream queue random ranges regex set span sstream stack stdexcept string "
    "string_view thread tuple unordered_map unordered_set valarray variant vector".split())
HEAVY_CODE = re.compile(r"\bstd::(vector|array|string|map|set|function|sort|fill|copy|accumulate|transform)\b|\b(throw|try)\b")


def starts_with(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def layer_of(path: str):
    return next((f for f in sorted(MAY_INCLUDE, key=len, reverse=True) if starts_with(path, f)), None)


def resolve(root: pathlib.Path, includer: str, target: str):
    """The project path of an included file, or None for a header of somebody else."""
    if starts_with(target, "tandem"):
        return "runtime/include/" + target
    if target.startswith(tuple(f + "/" for f in PROJECT_FOLDERS)):
        return target
    sibling = pathlib.PurePosixPath(includer).parent / target
    return sibling.as_posix() if (root / sibling).exists() else None


def may_include(includer: str, layer: str, target: str) -> bool:
    owner = layer_of(target)
    # A folder in the list stands for its own layer, not for a stricter layer inside it: runtime/base is not runtime.
    return owner == layer or any(target == allowed or owner == allowed for allowed in MAY_INCLUDE[layer])


def check_source(root: pathlib.Path, path: str):
    text = COMMENT.sub(" ", (root / path).read_text(errors="replace"))
    layer = layer_of(path)
    for bracket, target in INCLUDE.findall(text):
        if path.endswith(".inl") and bracket == "<" and target in HEAVY_HEADERS:
            yield f"{path}: a kernel source may not include <{target}>"
        included = resolve(root, path, target)
        if layer and included and not may_include(path, layer, included):
            yield f"{path}: {layer} may not include {included}"
    if path.endswith(".inl"):
        for use in HEAVY_CODE.finditer(text):
            yield f"{path}: a kernel source may not use {use.group(0)}"


def check_cmake(root: pathlib.Path, path: str):
    text = re.sub(r"#[^\n]*", "", (root / path).read_text(errors="replace"))
    rules = re.findall(r"^\s*install\s*\(([^)]*)\)", text, re.M | re.I)
    if path != INSTALLER:
        yield from (f"{path}: install() belongs in {INSTALLER}" for _ in rules)
        return
    for folder in (f for rule in rules for f in re.findall(r"\bDIRECTORY\s+(\S+)", rule)):
        if not folder.rstrip("/").endswith("runtime/include/tandem"):
            yield f"{path}: only runtime/include/tandem is installed, not {folder}"


def violations(root: pathlib.Path):
    for file in sorted(root.rglob("*")):
        path = file.relative_to(root).as_posix()
        if not starts_with(path, "build") and not path.startswith("."):
            if file.suffix in SOURCES and file.is_file():
                yield from check_source(root, path)
            elif file.name == "CMakeLists.txt" or file.suffix == ".cmake":
                yield from check_cmake(root, path)


def self_test() -> int:
    """Plants one violation of each kind beside legal neighbours: exactly the planted ones must be reported."""
    legal = {
        "runtime/include/tandem/tandem.h": "#include <stdint.h>\n",
        "runtime/base/error.h": "#include <string>\n",
        "runtime/base/view.h": '#include "runtime/base/error.h"\n',
        "numa/topology.h": '#include "runtime/base/error.h"\n',
        "cpu/kernels.h": '#include "numa/topology.h"\n// #include "lsh/tables.h"\n',
        "cpu/dot_kernels.inl": '#include <cstddef>\n#include "cpu/kernels.h"\n// never std::vector\n',
        "lsh/tables.h": '#include "cpu/kernels.h"\n#include <vector>\n',
        "gpu/device.h": '#include "cpu/kernels.h"\n',
        "runtime/runtime.cpp": '#include "lsh/tables.h"\n#include "gpu/device.h"\n#include "tandem/tandem.h"\n',
        "tools/formats/trace.h": '#include "runtime/base/error.h"\n',
        "tools/llama/llama.cpp": '#include "tandem/tandem.h"\n#include "tools/formats/trace.h"\n'
                                 '#include "runtime/base/error.h"\n#include "llama.h"\n',
        "tools/llama/llama.h": "",
        "tools/tandem/run.cpp": '#include "cpu/kernels.h"\n#include "tools/llama/llama.h"\n',
        "tests/lsh/tables_test.cpp": '#include "lsh/tables.h"\n#include "gpu/device.h"\n',
        "bench/dot.cpp": '#include "cpu/kernels.h"\n',
        INSTALLER: "install(TARGETS tandem)\ninstall(DIRECTORY ${PROJECT_SOURCE_DIR}/runtime/include/tandem DESTINATION x)\n",
    }
    planted = {
        "runtime/include/tandem/bad.hpp": '#include "runtime/base/error.h"\n',
        "runtime/base/bad.h": '#include "numa/topology.h"\n',
        "numa/bad.h": '#include "tandem/tandem.h"\n',
        "cpu/bad.h": '  #  include "lsh/tables.h"\n',
        "cpu/bad_header.inl": "#include <algorithm>\n",
        "cpu/bad_code.inl": "std::vector<float> sums;\n",
        "cpu/deep/bad.cpp": '#include <runtime/runtime.h>\n',
        "lsh/bad.h": '#include "gpu/device.h"\n',
        "gpu/bad.cu": '#include "lsh/tables.h"\n',
        "runtime/bad.cpp": '#include "tools/formats/trace.h"\n',
        "tools/formats/bad.h": '#include "cpu/kernels.h"\n',
        "tools/llama/bad.cpp": '#include "runtime/base/view.h"\n',
        "tools/llama/bad.h": '#include "cpu/kernels.h"\n',
        "tools/ggml/bad.cpp": '#include "runtime/base/error.h"\n',
        "lsh/CMakeLists.txt": "install(DIRECTORY lsh DESTINATION include)\n",
    }
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for path, text in {**legal, **planted}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        found = list(violations(root))
    reported = sorted(line.split(":")[0] for line in found)
    if reported == sorted(planted):
        print(f"self-test ok: {len(planted)} planted violations reported, {len(legal)} legal files not")
        return 0
    print("\n".join(found))
    print("missed:", sorted(set(planted) - set(reported)), "false or double:", [p for p in reported if p not in planted])
    return 1


def main(arguments) -> int:
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        print(__doc__, file=sys.stderr)
        return 2
    found = list(violations(pathlib.Path(arguments[0] if arguments else ".").resolve()))
    print("\n".join(found) or "layers ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
