"""The examples do what they say."""
import pathlib
import re
import subprocess
import sys
import unittest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "tools/python/examples"


def run(name, *options):
    return subprocess.run([sys.executable, EXAMPLES / name, *options], capture_output=True, text=True, check=False, timeout=900)


class Needle(unittest.TestCase):
    def test_16k_tokens_are_answered(self):
        result = run("needle.py")
        self.assertEqual(result.returncode, 0, result.stderr)
        tokens, back = map(int, re.search(r"A text of (\d+) tokens states a fact, some (\d+) tokens", result.stdout).groups())
        self.assertGreater(tokens, 16000)
        self.assertGreater(back, 12000)
        # What the tables find of so many rows differs from head to head: their line says so, whichever way it ends.
        verdicts = {line[:36].strip(): line[45:51].strip() for line in result.stdout.splitlines() if " % " in line[50:70]}
        self.assertIn(verdicts.pop("tandem: window + LSH tables 10,150", None), ("right", "wrong"), result.stdout)
        self.assertEqual(verdicts, {"transformers sdpa: every key": "right", "tandem: window + sketch": "right",
                                    "streaming: window only": "wrong"}, result.stdout)

    def test_options(self):
        for text, options in (("--prompt is 20; allowed: 0 to 19", ("--prompt", "20")),
                              ("--further is -2; allowed: -1 to 19, another one than --prompt", ("--further", "-2")),
                              ("--further is 18; allowed: -1 to 19", ("--further", "18"))):
            result = run("needle.py", *options)
            self.assertEqual(result.returncode, 2)
            self.assertIn(text, result.stderr)


if __name__ == "__main__":
    unittest.main()
