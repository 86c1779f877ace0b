#!/usr/bin/env python3
"""Runs a test of the Python package with an interpreter that has what it imports.

usage: run.py TEST.py MODULES [unittest options]      MODULES: torch,transformers or -

The interpreter is the one that TANDEM_ENGINES_PYTHON names, else that of build/engines-venv (tools/setup_engines), else
this one. Exit status 77, and the reason, where it lacks a module: CTest counts that as skipped.
"""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def interpreter() -> str:
    named = os.environ.get("TANDEM_ENGINES_PYTHON")
    made = ROOT / "build/engines-venv/bin/python3"
    return named or (str(made) if made.exists() else sys.executable)


def main(test: str, modules: str, *options: str) -> int:
    python = interpreter()
    for module in [] if modules == "-" else modules.split(","):
        found = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True, check=False)
        if found.returncode != 0:
            print(f"skipped: {python} has no {module}; tools/setup_engines installs it")
            return 77
    path = os.pathsep.join([str(ROOT / "tools/python"), str(ROOT / "tests/engines"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1",
                   "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([python, test, *options], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
