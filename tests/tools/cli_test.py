#!/usr/bin/env python3
"""The command line from outside: exit codes, messages, JSON fields, and a real answer of the tiny model.

usage: cli_test.py TANDEM_BINARY DATA_FOLDER [unittest options]
"""
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BINARY = DATA = None
OK, FAILED, BAD_USAGE = 0, 1, 2
COMMANDS = (["info"], ["generate"], ["run"], ["eval"], ["eval", "needles"], ["synth"], ["profile"])
RUN_FIELDS = {"error", "lse_error", "rows_share", "bytes_per_step", "index_bytes_per_token", "build_ns_per_token", "us"}


def tandem(*arguments, **options):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)


def tensors_of(path):
    """The header of a safetensors file."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length))


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


class Help(CommandLine):
    def test_every_command_has_help_with_an_example(self):
        for command in COMMANDS:
            with self.subTest(command=command):
                result = self.expect(OK, *command, "--help")
                self.assertIn("Example:\n  tandem " + " ".join(command), result.stdout)
                self.assertEqual(result.stderr, "")

    def test_version(self):
        self.assertRegex(self.expect(OK, "--version").stdout, r"tandem \d+\.\d+")

    def test_common_options_are_documented(self):
        for command in (["generate"], ["run"], ["eval", "needles"]):
            text = self.expect(OK, *command, "--help").stdout
            for option in ("--seed", "--threads", "--isa", "--json", "--selector", "--lsh", "--budget", "--sinks",
                           "--profile", "--always-select"):
                self.assertIn(option, text)


class BadUsage(CommandLine):
    """Exit code 2, before any work is done; the message names option, value and what is allowed."""

    def run_with(self, *arguments):
        return ["run", "--trace", self.trace, *arguments]

    def test_commands(self):
        self.expect(BAD_USAGE, naming=["command is missing", "info"])
        self.expect(BAD_USAGE, "frobnicate", naming=["frobnicate", "info"])
        self.expect(BAD_USAGE, "eval", "haystack", naming=["haystack", "needles"])
        self.expect(BAD_USAGE, "run", naming=["--trace"])
        self.expect(BAD_USAGE, *self.run_with("--no-such-option"), naming=["--no-such-option"])

    def test_values(self):
        cases = [
            ("--selector", "best", "all, topk, lsh, sketch, sketch-topk"),
            ("--error", "1", "0 to 0.999"),
            ("--error", "-0.1", "0 to 0.999"),
            ("--error", "nan", "0 to 0.999"),
            ("--sketch-bits", "3", "0, 1 or 2"),
            ("--budget", "0", "above 0 and at most 1"),
            ("--budget", "-0.5", "above 0 and at most 1"),
            ("--budget", "1.5", "above 0 and at most 1"),
            ("--budget", "nan", "above 0 and at most 1"),
            ("--budget", "much", "above 0 and at most 1"),
            ("--lsh", "10", "K,L"),
            ("--lsh", "0,150", "1 to 12"),
            ("--lsh", "13,150", "1 to 12"),
            ("--lsh", "10,301", "1 to 300"),
            ("--lsh", "10,0", "1 to 300"),
            ("--lsh", "10,150,2", "K,L"),
            ("--lsh", "ten,150", "K,L"),
            ("--lsh-planes", "haar", "hadamard, gaussian"),
            ("--min-collisions", "3", "1 or 2"),
            ("--isa", "sse9", "scalar, avx2, avx512"),
            ("--threads", "-1", "0 to 1024"),
            ("--threads", "1025", "0 to 1024"),
            ("--threads", "two", "0 to 1024"),
            ("--sinks", "-4", "from 0"),
            ("--local", "256x", "from 1"),
            ("--window-dtype", "int8", "f32, f16, bf16"),
            ("--host-dtype", "f64", "f32, f16, bf16"),
            ("--seed", "1.5", "whole number"),
            ("--seed", "0", "from 1"),
            ("--steps", "7", "at most the trace's 6"),
            ("--layers", "0,9", "layers 0"),
            ("--layers", "0,0", "each layer once"),
            ("--max-copies", "0", "from 1"),
            ("--memory", "-1", "from 0"),
        ]
        for option, value, allowed in cases:
            with self.subTest(option=option, value=value):
                self.expect(BAD_USAGE, *self.run_with(option, value), naming=[option, value.split(",")[-1], allowed])

    def test_generate(self):
        model = ["generate", "--model", self.model]
        self.expect(BAD_USAGE, *model, naming=["--prompt"])
        self.expect(BAD_USAGE, *model, "--prompt", "a", "--needle", self.prompts + ":0", naming=["--needle"])
        self.expect(BAD_USAGE, *model, "--prompt", "a", "--attention", "sparse", naming=["sparse", "dense"])
        self.expect(BAD_USAGE, *model, "--needle", self.prompts, naming=["FILE:INDEX"])
        self.expect(BAD_USAGE, *model, "--needle", self.prompts + ":99", naming=["below 20"])
        self.expect(BAD_USAGE, *model, "--prompt", "a", "--record", self.path("r"), naming=["--record", "dense"])
        for attention in ("dense", "streaming"):
            for option in (["--selector", "topk"], ["--lsh", "8,75"], ["--min-collisions", 2],
                           ["--lsh-planes", "gaussian"], ["--budget", 0.1], ["--always-select"]):
                self.expect(BAD_USAGE, *model, "--prompt", "a", "--attention", attention, *option,
                            naming=[option[0], attention, "tandem"])

    def test_eval(self):
        needles = ["eval", "needles", "--model", self.model, "--prompts", self.prompts, "--methods"]
        for methods, naming in [("dense,best", "best"), ("topk:2", "above 0"), ("sketch:0", "above 0"), ("sketch3:0.1", "sketch3:0.1"), ("lsh:10", "K,L"), ("lsh:40,7", "1 to 12"),
                                ("", "dense")]:
            with self.subTest(methods=methods):
                self.expect(BAD_USAGE, *needles, methods, naming=["--methods", naming])
        self.expect(BAD_USAGE, *needles, "lsh:8,75", "--seeds", 2, "--seed", 2**64 - 1,
                    naming=["--seed", str(2**64 - 1), str(2**64 - 2)])

    def test_synth(self):
        out = ["synth", "--out", self.path("never")]
        self.expect(BAD_USAGE, *out, "--q-heads", "12", "--kv-heads", "8", naming=["--q-heads", "12"])
        self.expect(BAD_USAGE, *out, "--head-dim", "63", naming=["--head-dim", "63", "even"])
        self.expect(BAD_USAGE, *out, "--tokens", "0", naming=["--tokens"])
        self.expect(BAD_USAGE, *out, "--kind", "round", naming=["--kind", "round", "mixed, diffuse", "positional"])
        self.expect(BAD_USAGE, *out, "--query-tail", "1025", naming=["--query-tail", "1025", "from 0 to 1024"])
        self.assertFalse(os.path.exists(self.path("never")))


class BadFiles(CommandLine):
    """Exit code 1; the message names the file and what is wrong with it; nothing half-written stays behind."""

    def test_trace(self):
        self.expect(FAILED, "run", "--trace", self.path("missing"), naming=["missing", "meta.json"])
        no_layer = self.copy_of_trace("no_layer")
        os.remove(os.path.join(no_layer, "layer0.safetensors"))
        self.expect(FAILED, "run", "--trace", no_layer, naming=["layer0.safetensors"])
        truncated = self.copy_of_trace("truncated")
        layer = os.path.join(truncated, "layer0.safetensors")
        os.truncate(layer, os.path.getsize(layer) // 2)
        self.expect(FAILED, "run", "--trace", truncated, naming=["layer0.safetensors"])
        bad_json = self.copy_of_trace("bad_json")
        self.write("bad_json/meta.json", '{"T": 700,')
        self.expect(FAILED, "run", "--trace", bad_json, naming=["meta.json"])
        misshapen = self.copy_of_trace("misshapen")
        with open(os.path.join(misshapen, "meta.json")) as file:
            meta = json.load(file)
        self.write("misshapen/meta.json", json.dumps({**meta, "T": 701}))
        self.expect(FAILED, "run", "--trace", misshapen, naming=["layer0.safetensors"])

    def test_model(self):
        prompt = ["--prompt", "a"]
        self.expect(FAILED, "generate", "--model", self.path("missing"), *prompt, naming=["missing"])
        truncated = self.path("model")
        shutil.copytree(self.model, truncated)
        os.truncate(os.path.join(truncated, "model.safetensors"), 1000)
        self.expect(FAILED, "generate", "--model", truncated, *prompt, naming=["model.safetensors"])
        shutil.copy(os.path.join(self.model, "model.safetensors"), truncated)
        self.write("model/config.json", "{}")
        self.expect(FAILED, "generate", "--model", truncated, *prompt, naming=["config.json"])

    def test_prompts(self):
        needles = ["eval", "needles", "--model", self.model, "--prompts"]
        self.expect(FAILED, *needles, self.path("missing.jsonl"), naming=["missing.jsonl"])
        bad = self.write("bad.jsonl", '{"context": "a", "question": "b", "answer": "c"}\nnot json\n')
        self.expect(FAILED, *needles, bad, naming=["bad.jsonl", "line 2"])
        bad = self.write("field.jsonl", '{"context": "a", "question": 3, "answer": "c"}\n')
        self.expect(FAILED, *needles, bad, naming=["question", "number", "string"])
        self.expect(FAILED, *needles, self.write("empty.jsonl", ""), naming=["no prompts"])
        self.expect(FAILED, "generate", "--model", self.model, "--prompt-file", self.path("missing.txt"),
                    naming=["missing.txt"])

    def test_prompt_too_long(self):
        long = self.write("long.txt", "a" * 20000)
        self.expect(FAILED, "generate", "--model", self.model, "--prompt-file", long, naming=["20001", "16384"])
        prompt = {"context": "a" * 20000, "question": "b", "answer": "c"}
        self.expect(FAILED, "eval", "needles", "--model", self.model, "--prompts",
                    self.write("long.jsonl", json.dumps(prompt)), naming=["20003", "16384"])

    def test_output(self):
        run = ["run", "--trace", self.trace, "--json"]
        self.expect(FAILED, *run, self.path("no", "such", "folder.json"), naming=["folder.json"])
        self.expect(FAILED, *run, self.folder, naming=["folder"])
        self.expect(FAILED, *run, "/proc/result.json", naming=["/proc/result.json"])
        self.expect(FAILED, "synth", "--out", self.trace, naming=["trace", "not empty"])
        self.expect(FAILED, "synth", "--out", self.prompts, naming=["not a folder"])
        self.expect(FAILED, "synth", "--out", "/proc/trace", naming=["/proc/trace"])
        self.expect(FAILED, "generate", "--model", self.model, "--prompt", "a", "--attention", "dense", "--record",
                    self.trace, naming=["not empty"])
        self.assertEqual([name for name in os.listdir(self.folder) if ".tmp-" in name], [])

    def test_memory_limit(self):
        for gib in ("0.0001", "1e-12"):
            self.expect(FAILED, "run", "--trace", self.trace, "--memory", gib, naming=["memory"])

    def test_address_space_limit(self):
        """The process ends, although the exit handlers of OpenBLAS would wait for a thread without memory."""
        sanitizers = json.loads(self.expect(OK, "info", "--json", "-").stdout)["build"]["sanitize"]
        if sanitizers:
            self.skipTest("sanitizers reserve more address space than the limit")
        limit = 150000 * 1024
        for arguments in (["info"], ["synth", "--out", self.path("never"), "--tokens", "64", "--threads", "1024"]):
            with self.subTest(arguments=arguments):
                result = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60,
                                        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
                self.assertIn(result.returncode, (OK, FAILED), result.stderr)
                if result.returncode != OK:
                    self.assertRegex(result.stderr, r"(?m)^tandem: (cannot start threads: |.*memory)")

    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([BINARY, "info"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, FAILED)
        self.assertIn("standard output", result.stderr)


class Info(CommandLine):
    def test_json(self):
        report = json.loads(self.expect(OK, "info", "--json", "-").stdout)
        self.assertLessEqual({"version", "build", "isa", "machine"}, set(report))

    def test_isa_is_obeyed(self):
        self.assertEqual(json.loads(self.expect(OK, "info", "--isa", "scalar", "--json", "-").stdout)["isa"], "scalar")


class Synth(CommandLine):
    def test_query_tail(self):
        for tail, tokens, shape in ((0, 300, None), (48, 300, [2, 48, 64]), (64, 20, [2, 20, 64])):
            with self.subTest(tail=tail, tokens=tokens):
                trace = self.path(f"tail-{tail}-{tokens}")
                report = json.loads(self.expect(OK, "synth", "--out", trace, "--tokens", tokens, "--kv-heads", 1, "--q-heads",
                                                2, "--head-dim", 64, "--steps", 2, "--query-tail", tail, "--kind", "peaked",
                                                "--json", "-").stdout)
                self.assertEqual((report["kind"], report["query_tail"]), ("peaked", shape[1] if shape else 0))
                tensors = tensors_of(os.path.join(trace, "layer0.safetensors"))
                self.assertEqual(tensors["q_tail"]["shape"] if shape else tensors.get("q_tail"), shape)


class Run(CommandLine):
    def report(self, *arguments):
        file = self.path("result.json")
        # 700 tokens: without --always-select every step would be dense.
        self.expect(OK, "run", "--trace", self.trace, "--max-copies", 3, "--always-select", "--json", file, *arguments)
        with open(file) as text:
            return json.load(text)

    def test_fields(self):
        report = self.report("--selector", "lsh", "--lsh", "8,20", "--threads", 1, "--isa", "scalar")
        self.assertEqual((report["selector"], report["threads"], report["isa"], report["steps"]), ("lsh", 1, "scalar", 6))
        self.assertEqual(report["copies"], 3)
        self.assertEqual([layer["layer"] for layer in report["layers"]], [0])
        for figures in (*report["layers"], report["mean"]):
            self.assertLessEqual(RUN_FIELDS, set(figures))
            self.assertLessEqual({"mean", "p95", "max"}, set(figures["error"]))
            self.assertLessEqual({"mean", "max"}, set(figures["lse_error"]))
            self.assertLessEqual({"select", "attend", "merge", "total"}, set(figures["us"]))
            self.assertGreater(figures["index_bytes_per_token"], 0)
            self.assertGreater(figures["us"]["total"], 0)
            self.assertTrue(0 < figures["rows_share"] < 1, figures["rows_share"])

    def test_all_rows_are_exact(self):
        for dtype in ("f32", "f16", "bf16"):
            with self.subTest(dtype=dtype):
                trace = self.path("exact-" + dtype)
                self.expect(OK, "synth", "--out", trace, "--tokens", 500, "--kv-heads", 1, "--q-heads", 3, "--head-dim", 80,
                            "--steps", 3, "--dtype", dtype)
                result = self.expect(OK, "run", "--trace", trace, "--selector", "all", "--warm", "--json", "-")
                figures = json.loads(result.stdout)["mean"]
                self.assertLess(figures["error"]["max"], 1e-4)
                self.assertLess(figures["lse_error"]["max"], 1e-4)
                self.assertLess(figures["recorded_out_max_diff"], 1e-4)
                self.assertEqual(figures["rows_share"], 1)

    def test_top_k_gathers_its_budget(self):
        figures = self.report("--selector", "topk", "--budget", "0.1", "--warm")["mean"]
        self.assertGreater(figures["rows_share"], 0.09)
        self.assertLess(figures["rows_share"], 0.25)  # two query heads share a KV head

    def test_sketch_tells_its_error(self):
        trace = self.path("sketched")
        self.expect(OK, "synth", "--out", trace, "--tokens", 3000, "--kv-heads", 2, "--q-heads", 8, "--head-dim", 64,
                    "--steps", 12, "--kind", "diffuse")
        def figures(*arguments):
            result = self.expect(OK, "run", "--trace", trace, "--warm", "--local", 64, "--always-select", "--json", "-", *arguments)
            return json.loads(result.stdout)["mean"]
        budget = figures("--selector", "sketch", "--sketch-bits", 2, "--budget", "0.05")
        self.assertTrue(0.04 < budget["rows_share"] < 0.06, budget["rows_share"])
        self.assertEqual(budget["certified_share"], 1)
        self.assertGreater(budget["coverage"], 0.9)
        self.assertGreater(budget["error_estimate"], 0.5 * budget["error"]["mean"])
        self.assertLess(budget["index_bytes_per_token"], 80)  # 18 a token, and the map
        wanted = figures("--selector", "sketch", "--error", "0.08")
        self.assertLess(wanted["error"]["mean"], 0.08)
        top = figures("--selector", "sketch-topk", "--budget", "0.05")
        self.assertIsNone(top["error_estimate"])
        self.assertLess(top["rows_share"], 0.06)

    def test_copies_do_not_change_results(self):
        cold, warm = self.report("--selector", "lsh"), self.report("--selector", "lsh", "--warm")
        self.assertEqual(cold["mean"]["error"], warm["mean"]["error"])

    def test_seed(self):
        errors = [self.report("--selector", "lsh", "--seed", seed)["mean"]["error"]["mean"] for seed in (1, 1, 2)]
        self.assertEqual(errors[0], errors[1])
        self.assertNotEqual(errors[0], errors[2])

    def rows_share(self, *arguments):
        result = self.expect(OK, "run", "--trace", self.trace, "--selector", "topk", "--budget", "0.05", "--warm", "--json",
                             "-", *arguments)
        return json.loads(result.stdout)["mean"]["rows_share"]

    def test_the_profile_decides_whether_a_step_selects(self):
        self.assertEqual(self.rows_share(), 1)
        self.assertLess(self.rows_share("--always-select"), 0.2)
        slow_dense = self.write("slow_dense.json", '{"dense_row_ns": 1e6}')
        self.assertLess(self.rows_share("--profile", slow_dense), 0.2)
        self.assertEqual(self.rows_share("--profile", self.write("slow_gather.json", '{"gathered_row_ns": 1e6}')), 1)

    def test_short_prompt_stays_in_the_window(self):
        figures = self.report("--selector", "lsh", "--local", 2000)["mean"]
        self.assertLess(figures["error"]["max"], 1e-4)
        self.assertEqual(figures["rows_share"], 0)


class Profile(CommandLine):
    def test_what_is_measured_is_what_run_takes(self):
        out, file = self.path("profile.json"), self.path("profile-report.json")
        result = self.expect(OK, "profile", "--quick", "--threads", 2, "--out", out, "--json", file)
        self.assertIn("gathered_row_ns", result.stdout)
        self.assertIn("lsh 10,150", result.stdout)
        with open(out) as text:
            profile = json.load(text)
        self.assertLessEqual({"dense_row_ns", "gathered_row_ns", "scanned_row_1bit_ns", "scanned_row_2bit_ns",
                              "scored_row_ns", "table_row_ns", "table_read_ns", "selection_ns"}, set(profile))
        self.assertTrue(all(value > 0 for value in profile.values()), profile)
        with open(file) as text:
            report = json.load(text)
        self.assertEqual(report["profile"], profile)
        self.assertEqual(set(report["built_in"]), set(profile))
        self.assertEqual((report["quick"], report["threads"]), (True, 2))
        self.assertIn("sketch 0.02", report["crossover_rows"])
        self.expect(OK, "run", "--trace", self.trace, "--warm", "--profile", out)

    def test_bad_profiles(self):
        run = ["run", "--trace", self.trace, "--profile"]
        self.expect(FAILED, *run, self.path("missing.json"), naming=["--profile", "missing.json"])
        self.expect(FAILED, *run, self.write("text.json", "fast"), naming=["--profile", "text.json", "not JSON"])
        self.expect(BAD_USAGE, *run, self.write("field.json", '{"dense_row": 1}'), naming=["profile.dense_row", "dense_row_ns"])
        self.expect(BAD_USAGE, *run, self.write("value.json", '{"dense_row_ns": -1}'), naming=["dense_row_ns is -1", "allowed"])
        self.expect(BAD_USAGE, *run, self.write("list.json", "[]"), naming=["profile is array", "object"])
        self.expect(FAILED, "profile", "--quick", "--out", self.path("no", "such", "p.json"), naming=["--out", "p.json"])


class Model(CommandLine):
    def answer(self, *arguments):
        result = self.expect(OK, "generate", "--model", self.model, "--needle", self.prompts + ":2", *arguments)
        self.assertRegex(result.stderr, r"% of the keys attended; expected 38977: (right|wrong)\n\Z")
        return result.stdout

    def test_dense_and_top_k_find_the_needle(self):
        self.assertEqual(self.answer("--attention", "dense"), "38977\n")
        self.assertEqual(self.answer("--attention", "tandem", "--selector", "topk", "--budget", "0.05", "--always-select"),
                         "38977\n")

    def test_streaming_does_not(self):
        self.assertNotEqual(self.answer("--attention", "streaming"), "38977\n")

    def test_question_by_hand(self):
        prompt = self.write("prompt.txt", "The pass key is 58213. Remember it. 58213 is the pass key.")
        result = self.expect(OK, "generate", "--model", self.model, "--prompt-file", prompt, "--question",
                             " What is the pass key? The pass key is ", "--max-tokens", 5, "--json", "-")
        report = json.loads(result.stdout)
        self.assertEqual(report["text"], "58213")
        self.assertEqual(report["tokens"], 5)
        self.assertEqual(report["keys_share"], 1)  # all of it fits in the window

    def test_record_then_run(self):
        trace = self.path("recorded")
        text = self.answer("--attention", "dense", "--record", trace, "--max-tokens", 8)
        self.assertTrue(text.startswith("38977"), text)
        result = self.expect(OK, "run", "--trace", trace, "--selector", "all", "--warm", "--json", "-")
        report = json.loads(result.stdout)
        self.assertEqual((report["steps"], len(report["layers"])), (8, 4))
        shape = tensors_of(os.path.join(trace, "layer3.safetensors"))["q_tail"]["shape"]
        self.assertEqual(shape, [4, min(report["trace"]["tokens"], 1024), 64])
        self.assertLess(report["mean"]["recorded_out_max_diff"], 1e-4)

    def test_eval(self):
        file = self.path("eval.json")
        result = self.expect(OK, "eval", "needles", "--model", self.model, "--prompts", self.prompts, "--max-context", 1100,
                             "--limit", 3, "--always-select", "--methods",
                             "dense,topk:0.05,lsh:8,75,sketch2:0.05,streaming", "--seeds", 2, "--json", file)
        self.assertIn("3/3", result.stdout)
        with open(file) as text:
            report = json.load(text)
        self.assertEqual(report["prompts"], 3)
        methods = {method["name"]: method for method in report["methods"]}
        self.assertEqual(list(methods), ["dense", "topk:0.05", "lsh:8,75", "sketch2:0.05", "streaming"])
        for method in methods.values():
            self.assertLessEqual({"name", "exact", "keys_share", "ms_per_token"}, set(method))
        self.assertEqual(methods["dense"]["exact"], 3)
        self.assertEqual(methods["dense"]["keys_share"], 1)
        self.assertEqual(methods["topk:0.05"]["exact"], 3)
        self.assertLess(methods["streaming"]["exact"], 3)
        self.assertEqual(methods["lsh:8,75"]["seeds"], 2)


class Interrupt(CommandLine):
    def test_nothing_half_written_stays(self):
        before = set(os.listdir(self.folder))
        process = subprocess.Popen([BINARY, "synth", "--out", self.path("large"), "--tokens", "200000", "--json",
                                    self.path("large.json")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, FAILED)
        self.assertEqual(errors, "tandem: interrupted\n")
        self.assertEqual(set(os.listdir(self.folder)), before)


if __name__ == "__main__":
    BINARY, DATA = sys.argv[1:3]
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
