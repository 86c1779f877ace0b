#!/usr/bin/env python3
"""The command line where the system is the problem: no memory, no disk, signals, files that are no files.

usage: cli_system_test.py TANDEM_BINARY DATA_FOLDER [unittest options]
"""
import json
import os
import resource
import signal
import subprocess
import time

import cli_case
from cli_case import BINARY, FAILED, OK, CommandLine, tandem


def limited(which, amount):
    """For a child process: a resource limit, with the signal that follows left at its default."""
    return lambda: resource.setrlimit(which, (amount, amount))


class Memory(CommandLine):
    def test_matrix_products_without_memory_are_refused(self):
        """OpenBLAS itself would try again for ever."""
        if json.loads(tandem("info", "--json", "-").stdout)["build"]["sanitize"]:
            self.skipTest("sanitizers reserve more address space than the limit")
        commands = (["generate", "--model", self.model, "--needle", self.prompts + ":2", "--max-tokens", "1"],
                    ["eval", "needles", "--model", self.model, "--prompts", self.prompts, "--limit", "1"])
        for command in commands:
            with self.subTest(command=command[0]):
                result = tandem(*command, preexec_fn=limited(resource.RLIMIT_AS, 250000 * 1024))
                self.assertEqual(result.returncode, FAILED)
                self.assertRegex(result.stderr, r"\Atandem: (out of memory: the matrix products|cannot start threads)")


class Signals(CommandLine):
    @staticmethod
    def catches(process, number):
        with open(f"/proc/{process.pid}/status") as status:
            mask = next(line.split()[1] for line in status if line.startswith("SigCgt:"))
        return int(mask, 16) >> (number - 1) & 1

    def test_the_second_one_ends_the_process(self):
        pipe = self.path("pipe")
        os.mkfifo(pipe)  # nobody reads it: writing to it waits, and a signal does not change that
        process = subprocess.Popen([BINARY, "info", "--json", pipe], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not self.catches(process, signal.SIGINT):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        with self.assertRaises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, -signal.SIGTERM)


if __name__ == "__main__":
    cli_case.main()
