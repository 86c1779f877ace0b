#!/usr/bin/env python3
"""Compares the C ABI with the one on record: layouts of structs, values of constants, exported functions.

The record, abi.txt, has a line for each of them, in the order of the header. What is on record may not change while
TANDEM_ABI stays what it is; fields may be added at the end of structs that begin with their size, and constants and
functions anywhere: --update records these. The header must also compile as strict C11.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = ROOT / "runtime" / "include" / "tandem" / "tandem.h"
RECORD = pathlib.Path(__file__).with_name("abi.txt")


def declarations(text):
    """(structs: name -> fields, constants, functions) of the header, in its order."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"^#.*?(?<!\\)$", "", text, flags=re.M)
    structs = {}
    for body, name in re.findall(r"typedef struct \{(.*?)\} (\w+);", text, flags=re.S):
        fields = []
        for declaration in body.split(";"):
            fields += [re.search(r"(\w+)\s*(\[\w+\])?$", part.strip()).group(1)
                       for part in declaration.split(",") if part.strip()]
        structs[name] = fields
    constants = []
    for body in re.findall(r"\benum(?: \w+)? \{(.*?)\}", text, flags=re.S):
        constants += re.findall(r"(?:^|,)\s*(\w+)", body)
    functions = re.findall(r"TD_API [\w ]+?\*? ?(td_\w+)\(", text)
    return structs, constants, functions


def program(structs, constants):
    lines = ["#include <stddef.h>", "#include <stdio.h>", "#include <tandem/tandem.h>", "int main(void) {",
             '  printf("TANDEM_ABI %d\\n", TANDEM_ABI);']
    for constant in constants:
        lines.append(f'  printf("constant {constant} %d\\n", (int){constant});')
    for name, fields in structs.items():
        lines.append(f'  printf("struct {name} %zu\\n", sizeof({name}));')
        for field in fields:
            lines.append(f'  printf("field {name}.{field} %zu %zu\\n", offsetof({name}, {field}), '
                         f'sizeof((({name}*)0)->{field}));')
    return "\n".join(lines + ["  return 0;", "}", ""])


def present(compiler, shared_object):
    structs, constants, functions = declarations(HEADER.read_text())
    with tempfile.TemporaryDirectory() as folder:
        source, binary = pathlib.Path(folder, "abi.c"), pathlib.Path(folder, "abi")
        source.write_text(program(structs, constants))
        subprocess.run([compiler, "-std=c11", "-pedantic-errors", "-Wall", "-Wextra", "-Werror",
                        f"-I{HEADER.parents[1]}", "-o", binary, source], check=True)
        lines = subprocess.run([binary], check=True, capture_output=True, text=True).stdout.splitlines()
    lines += [f"function {name}" for name in functions]
    symbols = subprocess.run(["nm", "-D", "--defined-only", shared_object], check=True, capture_output=True, text=True).stdout
    exported = {line.split()[-1].split("@")[0] for line in symbols.splitlines() if line.split()[-2] != "A"}
    return lines, sorted(exported ^ set(functions))


def sized(name, lines):
    return any(line.startswith(f"field {name}.size 0 4") for line in lines)


def broken(recorded, lines):
    """What was on record and is not as it was; the size of a struct that knows its own may grow."""
    problems = []
    for line in recorded:
        if line in lines:
            continue
        kind, name = line.split()[:2]
        now = next((other for other in lines if other.split()[:2] == [kind, name]), "gone")
        if kind == "struct" and now != "gone" and sized(name, lines) and int(now.split()[2]) > int(line.split()[2]):
            continue
        problems.append(f"{line}: now {now}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared_object", help="libtandem.so")
    parser.add_argument("--cc", default="cc", help="C compiler")
    parser.add_argument("--update", action="store_true", help="record what was added")
    options = parser.parse_args()
    lines, odd = present(options.cc, options.shared_object)
    recorded = RECORD.read_text().splitlines() if RECORD.exists() else []
    problems = [f"exported or declared, but not both: {name}" for name in odd]
    if not recorded or recorded[0] == lines[0]:
        problems += broken(recorded, lines)
    if not problems and options.update:
        RECORD.write_text("\n".join(lines) + "\n")
        recorded = lines
    if not problems and recorded != lines:
        added = [line for line in lines if line not in recorded]
        problems = [f"not on record (check_abi.py --update): {line}" for line in added or ["their order"]]
    for problem in problems:
        print(problem)
    if problems:
        sys.exit(1)
    print(f"abi ok: {len(lines)} structs, fields, constants and functions")


if __name__ == "__main__":
    main()
