#!/usr/bin/env python3
"""The command line where the system is the problem: no memory, no disk, signals, files that are no files.

usage: cli_system_test.py TANDEM_BINARY DATA_FOLDER [unittest options]
"""
import errno
import json
import os
import resource
import shutil
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
    def has(process, mask, number):
        with open(f"/proc/{process.pid}/status") as status:
            bits = next(line.split()[1] for line in status if line.startswith(mask + ":"))
        return int(bits, 16) >> (number - 1) & 1

    def test_the_second_one_ends_the_process(self):
        pipe = self.path("pipe")
        os.mkfifo(pipe)  # nobody reads it: writing to it waits, and a signal does not change that
        process = subprocess.Popen([BINARY, "info", "--json", pipe], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not self.has(process, "SigCgt", signal.SIGINT):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        with self.assertRaises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, -signal.SIGTERM)

    def test_the_second_one_leaves_nothing(self):
        pipe = self.path("page")
        os.mkfifo(pipe)  # nobody reads it, so that the file waits for its name
        before = set(os.listdir(self.folder))
        process = subprocess.Popen([BINARY, "plan", "compare", "v100-32", "a100-40", "--model", "llama-3.1-8b",
                                    "--html", pipe, "--json", self.path("comparison.json")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and set(os.listdir(self.folder)) == before:
            time.sleep(0.01)  # the file appears when it listens to signals
        process.send_signal(signal.SIGINT)
        while self.has(process, "ShdPnd", signal.SIGINT):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, -signal.SIGTERM)
        self.assertEqual(set(os.listdir(self.folder)), before)


class Disk(CommandLine):
    def test_a_limit_on_file_sizes(self):
        target = self.path("too-large")
        before = set(os.listdir(self.folder))
        result = tandem("synth", "--tokens", "2048", "--steps", "2", "--kv-heads", "1", "--q-heads", "1", "--out", target,
                        preexec_fn=limited(resource.RLIMIT_FSIZE, 100000))
        self.assertEqual(result.returncode, FAILED)
        self.assertEqual(result.stderr,
                         f"tandem: {target}/layer0.safetensors: cannot be written: {os.strerror(errno.EFBIG)}\n")
        self.assertEqual(set(os.listdir(self.folder)), before)


class OddFiles(CommandLine):
    """A pipe without a writer, and a folder, in the place of each file: refused at once, whoever asks for it."""

    def refuses(self, file, *arguments):
        for make, kind in ((os.mkfifo, "a pipe"), (os.mkdir, "a folder")):
            with self.subTest(command=arguments[:3], kind=kind):
                if os.path.isdir(file):
                    os.rmdir(file)
                elif os.path.lexists(file):
                    os.remove(file)
                make(file)
                result = tandem(*arguments)
                self.assertEqual(result.returncode, FAILED)
                self.assertRegex(result.stderr, rf"\Atandem: [^\n]*{os.path.basename(file)}: is {kind}; allowed: a regular file\n\Z")

    def test_trace(self):
        for name in ("meta.json", "layer0.safetensors"):
            trace = self.copy_of_trace("odd-" + name)
            self.refuses(os.path.join(trace, name), "run", "--trace", trace)

    def test_model(self):
        for name in ("config.json", "model.safetensors"):
            model = self.path("odd-" + name)
            shutil.copytree(self.model, model)
            self.refuses(os.path.join(model, name), "generate", "--model", model, "--prompt", "a")

    def test_options(self):
        odd = self.path("odd")
        model = ["--model", self.model]
        self.refuses(odd, "generate", *model, "--prompt-file", odd)
        self.refuses(odd, "generate", *model, "--needle", odd + ":0")
        self.refuses(odd, "eval", "needles", *model, "--prompts", odd)
        self.refuses(odd, "run", "--trace", self.trace, "--profile", odd)
        for option in ("--prompt-file", "--needle"):
            self.expect(FAILED, "generate", *model, option, self.path("none:0"), naming=[option + ": ", "none"])


if __name__ == "__main__":
    cli_case.main()
