#!/usr/bin/env python3
"""Plants one small fault after another in a copy of the tree and runs the quick suite: which tests notice?

A fault that nothing notices is a law without a test. The tree itself is never touched. Takes about a minute per fault on
two cores; --check only sees whether every fault still finds its place, and is one of the suite's own checks.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import time

from faults import FAULTS

ROOT = pathlib.Path(__file__).resolve().parents[2]


def misplaced(faults):
    """Faults whose text does not stand in its file exactly once."""
    wrong = []
    for number, (file, old, new, law) in enumerate(faults, 1):
        path = ROOT / file
        found = path.read_text().count(old) if path.exists() else 0
        if found != 1 or old == new:
            wrong.append(f"fault {number} ({law}): {file} has its text {found} times")
    return wrong


class Copy:
    """The tracked files of the tree and a build of their own."""

    def __init__(self, folder, jobs):
        self.folder = folder
        self.jobs = jobs
        self.build = folder / "build" / "release"

    def prepare(self):
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
        for name in files.decode().split("\0")[:-1]:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.read_bytes() != (ROOT / name).read_bytes():
                shutil.copyfile(ROOT / name, target)  # with the time of now: what it replaces may have been built since
                shutil.copymode(ROOT / name, target)
        configure = ["cmake", "--preset", "release"]
        if shutil.which("ccache"):
            configure += ["-DCMAKE_C_COMPILER_LAUNCHER=ccache", "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"]
        self.run(configure, check=True)
        self.run(["cmake", "--build", "--preset", "release", "-j", str(self.jobs)], check=True)

    def run(self, command, check=False, timeout=None):
        return subprocess.run(command, cwd=self.folder, check=check, timeout=timeout, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def noticed_by(self):
        """Who notices what stands in the copy now: the compiler, or the first suites that fail; '' for nobody."""
        built = self.run(["cmake", "--build", "--preset", "release", "-j", str(self.jobs)])
        if built.returncode != 0:
            return "the compiler"
        try:
            tests = self.run(["ctest", "--preset", "release", "-LE", "checks", "--stop-on-failure", "--timeout", "300"])
        except subprocess.TimeoutExpired:
            return "a hang"
        failed = re.findall(r"^\s*\d+ - (\S+) \(([^)]*)\)", tests.stdout, re.MULTILINE)
        if not failed:
            return ""
        name, how = failed[0]
        log = (self.build / "Testing" / "Temporary" / "LastTest.log").read_text(errors="replace")
        tests = re.findall(r"^\[  FAILED  \] ([^\s,(]+)(?:,| \()", log, re.MULTILINE)
        cases = re.findall(r"^(?:FAIL|ERROR): (\S+)", log, re.MULTILINE)
        first = (tests or cases or [how])[0]
        return f"{name}: {first}" + (f" and {len(set(tests)) - 1} more" if len(set(tests)) > 1 else "")


def plant(copy, numbers):
    escaped = 0
    for number in numbers:
        file, old, new, law = FAULTS[number - 1]
        path = copy.folder / file
        original = path.read_text()
        started = time.monotonic()
        path.write_text(original.replace(old, new))
        try:
            noticed = copy.noticed_by()
        finally:
            path.write_text(original)
        escaped += not noticed
        print(f"| {number} | {file} | {law} | {noticed or '**nobody**'} | {time.monotonic() - started:.0f} s |", flush=True)
    print(f"\n{len(numbers) - escaped} of {len(numbers)} faults noticed")
    return escaped


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="Example: tests/faults/plant.py --folder /tmp/faults --only 3,17")
    parser.add_argument("--check", action="store_true", help="only see whether the faults find their places")
    parser.add_argument("--folder", type=pathlib.Path, help="where to copy the tree to; kept, and used again")
    parser.add_argument("--only", help="numbers of faults, a list [all]")
    parser.add_argument("--jobs", type=int, default=2, help="of the build [2]")
    arguments = parser.parse_args()
    wrong = misplaced(FAULTS)
    if wrong:
        sys.exit("\n".join(wrong))
    if arguments.check:
        print(f"{len(FAULTS)} faults find their places")
        return
    if arguments.folder is None:
        parser.error("--folder is missing: where the tree is copied to")
    if arguments.folder.resolve() == ROOT or ROOT in arguments.folder.resolve().parents:
        parser.error(f"--folder is {arguments.folder}; allowed: a folder outside of {ROOT}")
    numbers = [int(n) for n in arguments.only.split(",")] if arguments.only else list(range(1, len(FAULTS) + 1))
    if not all(1 <= n <= len(FAULTS) for n in numbers):
        parser.error(f"--only is {arguments.only}; allowed: numbers from 1 to {len(FAULTS)}")
    copy = Copy(arguments.folder.resolve(), arguments.jobs)
    copy.prepare()
    print("| | file | law | noticed by | |\n|---|---|---|---|---|", flush=True)
    sys.exit(1 if plant(copy, numbers) else 0)


if __name__ == "__main__":
    main()
