"""What the tests of the command line share: how to run it, and a folder with a small trace.

Whoever imports this was called with TANDEM_BINARY DATA_FOLDER [unittest options].
"""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

if len(sys.argv) < 3:
    sys.exit(f"usage: {os.path.basename(sys.argv[0])} TANDEM_BINARY DATA_FOLDER [unittest options]")
BINARY, DATA = sys.argv[1:3]
OK, FAILED, BAD_USAGE = 0, 1, 2


def tandem(*arguments, **options):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)


class CommandLine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="tandem-cli-")
        cls.model = os.path.join(DATA, "tiny-llama")
        cls.prompts = os.path.join(DATA, "needle_prompts.jsonl")
        cls.trace = cls.path("trace")
        made = tandem("synth", "--out", cls.trace, "--tokens", 700, "--kv-heads", 2, "--q-heads", 4, "--head-dim", 64,
                      "--steps", 6, "--dtype", "f16")
        assert made.returncode == OK, made.stderr

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def path(cls, *parts):
        return os.path.join(cls.folder, *parts)

    def expect(self, exit_code, *arguments, naming=()):
        """Runs and checks the exit code; a failure is one line on stderr that holds all of `naming`."""
        result = tandem(*arguments)
        self.assertEqual(result.returncode, exit_code, result.stderr)
        if exit_code != OK:
            self.assertRegex(result.stderr, r"\Atandem: [^\n]+\n\Z")
        for text in naming:
            self.assertIn(text, result.stderr)
        return result

    def copy_of_trace(self, name):
        target = self.path(name)
        shutil.copytree(self.trace, target)
        return target

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)


def main():
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
