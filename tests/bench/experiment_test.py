#!/usr/bin/env python3
"""bench/experiments/v100_vs_a100 on a machine without either card: the folder that it leaves.

usage: experiment_test.py PROJECT_FOLDER TANDEM_BINARY DECODE_STEP [unittest options]
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT, TANDEM, DECODE_STEP = (pathlib.Path(sys.argv.pop(1)) for _ in range(3))
SCRIPT = ROOT / "bench/experiments/v100_vs_a100"


def experiment(*arguments, **environment):
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, timeout=1200,
                          env={**os.environ, "TANDEM_BINARY": str(TANDEM), "TANDEM_DECODE_STEP": str(DECODE_STEP), **environment})


class Experiment(unittest.TestCase):
    def test_folder(self):
        with tempfile.TemporaryDirectory(prefix="tandem-experiment-") as folder:
            result = experiment("--quick", "--out", folder)
            self.assertEqual(result.returncode, 0, result.stderr)
            read = {path.name: path.read_text(encoding="utf-8") for path in pathlib.Path(folder).glob("*.*")}
            self.assertLessEqual({"compare.html", "compare.json", "compare.txt", "shared_context.json", "gqa-8.json",
                                  "gqa-32.json", "machine.json", "machine.html"}, set(read))
            rounds = json.loads(read["compare.json"])["rounds"]
            self.assertEqual([round["context"] for round in rounds], [32768, 98304, 131072])
            for machine in (machine for round in rounds for machine in round["machines"][1:]):
                self.assertIn("verdict", machine)
            self.assertEqual(json.loads(read["machine.json"])["schema"], "tandem-machine")
            steps = [json.loads(read[f"gqa-{heads}.json"])["rows"][0] for heads in (8, 32)]
            self.assertAlmostEqual(steps[1]["bytes_per_step"] / steps[0]["bytes_per_step"], 4, delta=0.4)

    def test_bad_usage(self):
        for arguments, text in ((["--frobnicate"], "--frobnicate"), (["--out"], "missing its value")):
            result = experiment(*arguments)
            self.assertEqual(result.returncode, 2)
            self.assertIn(text, result.stderr)
        self.assertIn("is missing", experiment(TANDEM_BINARY="/nowhere/tandem").stderr)


if __name__ == "__main__":
    unittest.main()
