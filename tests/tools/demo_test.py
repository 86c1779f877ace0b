#!/usr/bin/env python3
"""What tools/demo refuses before it installs or builds anything.

usage: demo_test.py SOURCE_FOLDER [unittest options]
"""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = sys.argv[1]
FILES = ("tools/demo", "tools/data/needle_prompts.jsonl")


class Demo(unittest.TestCase):
    def setUp(self):
        self.clone = tempfile.mkdtemp(prefix="tandem-demo-")
        for file in FILES:
            os.makedirs(os.path.dirname(os.path.join(self.clone, file)), exist_ok=True)
            shutil.copy(os.path.join(SOURCE, file), os.path.join(self.clone, file))

    def tearDown(self):
        shutil.rmtree(self.clone)

    def refused(self, exit_code, *arguments):
        """The one line on stderr."""
        result = subprocess.run([os.path.join(self.clone, "tools/demo"), *arguments], capture_output=True, text=True,
                                timeout=60)
        self.assertEqual(result.returncode, exit_code, result.stderr)
        self.assertRegex(result.stderr, r"\Atools/demo: [^\n]+\n\Z")
        self.assertEqual(result.stdout, "")
        return result.stderr

    def test_arguments(self):
        for prompt in ("20", "020", "-1", "x", "1 2", "99999999999999999999", "0x10"):
            with self.subTest(prompt=prompt):
                self.assertIn(f"'{prompt}' is not allowed; allowed: the index", self.refused(2, prompt))
        self.assertIn("'17' is not allowed", self.refused(2, "16", "17"))

    def test_build_folder_of_another_clone(self):
        os.makedirs(os.path.join(self.clone, "build/release"))
        with open(os.path.join(self.clone, "build/release/CMakeCache.txt"), "w") as cache:
            cache.write("CMAKE_HOME_DIRECTORY:INTERNAL=/somewhere/else\n")
        for arguments in ((), ("08",), ("010",), ("0",)):
            with self.subTest(arguments=arguments):
                error = self.refused(1, *arguments)
                self.assertIn("/somewhere/else", error)
                self.assertIn(f"rm -r {os.path.realpath(self.clone)}/build/release", error)

    def test_build_folder_that_is_none(self):
        with open(os.path.join(self.clone, "build"), "w"):
            pass
        self.assertIn("cannot write to", self.refused(1))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
