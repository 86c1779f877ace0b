#!/usr/bin/env python3
"""The command line from outside: help, JSON fields, what each command does, and a real answer of the tiny model.

usage: cli_test.py TANDEM_BINARY DATA_FOLDER [unittest options]
"""
import json
import os
import signal
import subprocess
import time

import cli_case
from cli_case import BAD_USAGE, BINARY, FAILED, OK, CommandLine

COMMANDS = (["info"], ["generate"], ["run"], ["eval"], ["eval", "needles"], ["eval", "window"], ["eval", "codecs"], ["synth"],
            ["profile"], ["profile", "split"], ["calibrate"])
RUN_FIELDS = {"error", "lse_error", "rows_share", "bytes_per_step", "index_bytes_per_token", "build_ns_per_token", "us"}


def tensors_of(path):
    """The header of a safetensors file."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length))


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


class Info(CommandLine):
    def test_json(self):
        report = json.loads(self.expect(OK, "info", "--json", "-").stdout)
        self.assertLessEqual({"version", "abi", "build", "isa", "machine"}, set(report))
        self.assertFalse({"config", "split"} & set(report))  # of a runtime that nobody asked for

    def test_text_has_units_and_no_empty_lines(self):
        text = self.expect(OK, "info").stdout
        self.assertRegex(text, r"last_level_cache_bytes +[\d.]+ [KMG]iB\n")
        self.assertRegex(text, r"(?m)^cpu +\S")
        names = [line.split()[0] for line in text.splitlines()]
        for name in ("version", "abi", "isa"):
            self.assertEqual(names.count(name), 1, text)
        self.assertNotIn("split", names)
        self.assertNotRegex(text, r"(?m)^ *sanitize *$")

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
        copies = [] if "--warm" in arguments else ["--max-copies", 3]
        self.expect(OK, "run", "--trace", self.trace, *copies, "--always-select", "--json", file, *arguments)
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
            # Means over the steps, as all other figures: step s sees the prompt and s + 1 decoded tokens.
            self.assertAlmostEqual(figures["window_rows"] + figures["host_rows"], 700 + (6 + 1) / 2)

    def test_the_split_is_reported(self):
        for arguments, auto in (([], False), (["--auto-split"], True)):
            result = self.expect(OK, "run", "--trace", self.trace, "--warm", "--json", "-", *arguments)
            split = json.loads(result.stdout)["split"]
            self.assertEqual((split["auto"], split["selecting_over_dense"]), (auto, 1))
            self.assertEqual(split["measured_steps"], {"dense": 0, "selected": 0})
            self.assertGreater(split["crossover_rows"], 0)

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

    def test_says_when_nothing_calibrates_a_sketch(self):
        trace = self.path("without-queries")
        self.expect(OK, "synth", "--out", trace, "--tokens", 300, "--kv-heads", 1, "--q-heads", 2, "--head-dim", 64,
                    "--steps", 2, "--query-tail", 0)
        run = ["run", "--warm", "--json", self.path("q.json"), "--trace"]
        for selector, arguments, warned in (("sketch", [trace], True), ("topk", [trace], False),
                                            ("sketch", [self.trace], False)):
            with self.subTest(selector=selector, trace=arguments):
                text = self.expect(OK, *run, *arguments, "--selector", selector).stdout
                with open(self.path("q.json")) as file:
                    report = json.load(file)
                self.assertEqual("q_tail" in text, warned)
                self.assertEqual("calibration_note" in report, warned)

    def test_says_when_the_selector_did_not_run(self):
        run = ["run", "--trace", self.trace, "--warm", "--json", self.path("dense.json"), "--selector"]
        for arguments, dense in ((["topk"], 6), (["topk", "--always-select"], 0), (["all"], 6)):
            with self.subTest(arguments=arguments):
                text = self.expect(OK, *run, *arguments).stdout
                with open(self.path("dense.json")) as file:
                    report = json.load(file)
                self.assertEqual(report["layers"][0]["dense_steps"], dense)
                self.assertEqual("6 of 6 steps ran dense: the profile" in text, arguments == ["topk"])
                self.assertEqual("dense_note" in report, arguments == ["topk"])
                self.assertEqual(report["always_select"], "--always-select" in arguments)
                self.assertGreater(report["profile"]["dense_row_ns"], 0)
                self.assertNotIn("seed", report["selector_config"])  # it changes nothing

    def test_says_when_threads_outnumber_the_cpus(self):
        cpus = len(os.sched_getaffinity(0))
        for threads in (1, cpus + 1):
            text = self.expect(OK, "run", "--trace", self.trace, "--warm", "--threads", threads).stdout
            self.assertEqual(f"{threads} threads, more than the {cpus} usable CPUs" in text, threads > cpus)

    def test_only_the_layers_asked_for_are_opened(self):
        trace = self.copy_of_trace("partial")
        with open(os.path.join(trace, "meta.json")) as file:
            meta = json.load(file)
        self.write("partial/meta.json", json.dumps({**meta, "layers": [0, 5]}))
        self.expect(OK, "run", "--trace", trace, "--warm", "--layers", "0")
        self.expect(FAILED, "run", "--trace", trace, "--warm", naming=["layer5.safetensors"])

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
        self.assertEqual(self.rows_share("--auto-split"), 1)  # 6 steps tell nothing
        slow_dense = self.write("slow_dense.json", '{"dense_row_ns": 1e6}')
        self.assertLess(self.rows_share("--profile", slow_dense), 0.2)
        self.assertEqual(self.rows_share("--profile", self.write("slow_gather.json", '{"gathered_row_ns": 1e6}')), 1)

    def test_short_prompt_stays_in_the_window(self):
        figures = self.report("--selector", "lsh", "--local", 2000)["mean"]
        self.assertLess(figures["error"]["max"], 1e-4)
        self.assertEqual(figures["rows_share"], 0)


class Profile(CommandLine):
    def measure(self, name, *arguments):
        out = self.path(name)
        result = self.expect(OK, "profile", "--quick", "--memory", 0.3, "--out", out, *arguments)
        with open(out) as text:
            return out, json.load(text), result.stdout

    def test_a_gpu_comes_from_gpu_bench(self):
        result = self.write("emulated.json", json.dumps({"benchmark": "gpu_bench", "emulated": True}))
        self.expect(FAILED, "profile", "--gpu", result, naming=["emulated.json.emulated"])
        self.expect(FAILED, "profile", "--gpu", self.path("nowhere.json"), naming=["nowhere.json"])

    def test_what_is_measured_is_what_run_takes(self):
        file = self.path("profile-report.json")
        out, machine, text = self.measure("machine.json", "--threads", 2, "--json", file, "--name", "box")
        for word in ("gathered_row_ns", "lsh 10,150", "read_gb_per_s", "window kivi2 group 128", "note: "):
            self.assertIn(word, text)
        self.assertEqual((machine["schema"], machine["version"], machine["name"]), ("tandem-machine", 1, "box"))
        costs = machine["step_costs"]
        self.assertLessEqual({"dense_row_ns", "gathered_row_ns", "scanned_row_1bit_ns", "scanned_row_2bit_ns",
                              "scored_row_ns", "table_row_ns", "table_read_ns", "selection_ns"}, set(costs))
        self.assertTrue(all(value > 0 for value in costs.values()), costs)
        with open(file) as text:
            report = json.load(text)
        self.assertEqual(report["machine"], machine)
        self.assertEqual(report["profile"], costs)
        self.assertEqual(set(report["built_in"]), set(costs))
        self.assertEqual((report["quick"], report["threads"]), (True, 2))
        self.assertIn("sketch 0.02", report["crossover_rows"])
        self.expect(OK, "run", "--trace", self.trace, "--warm", "--profile", out)

    def test_details_are_what_figures_and_rooflines_are_made_of(self):
        _, machine, text = self.measure("details.json", "--no-costs")
        self.assertNotIn("step_costs", machine)
        self.assertNotIn("selects from", text)
        details = machine["details"]
        for row in details["host"]:
            self.assertTrue(0 < row["low"] <= row["median"] <= row["high"], row)
        self.assertLessEqual({"read", "copy", "triad", "gather", "latency", "fma"}, {row["what"] for row in details["host"]})
        for kernel in details["kernels"]:
            self.assertAlmostEqual(kernel["gflop_per_s"], kernel["gb_per_s"] * kernel["flop_per_byte"], places=6)
            self.assertGreater(kernel["flop_per_byte"], 3)
        self.assertGreater(details["roofline"]["fma_gflop_per_s"], 0)
        self.assertGreater(machine["cpu"]["figures"]["memory_gb"]["value"], 0)
        self.assertEqual(machine["cpu"]["figures"]["fma_gflop_per_s"]["kind"], "measured")
        self.assertTrue(details["isa"] and details["kernel"] and details["version"])

    def test_figures_of_a_cache_are_no_figures(self):
        _, machine, _ = self.measure("small.json", "--no-costs")
        if 3 * machine["details"]["array_bytes"] >= 2 * machine["details"]["last_level_cache_bytes"]:
            self.skipTest("the caches are smaller than the least arrays")
        self.assertEqual(set(machine["cpu"]["figures"]), {"fma_gflop_per_s", "memory_gb"})
        self.assertIn("the arrays may fit into the caches", " ".join(machine["details"]["notes"]))

    def test_a_later_run_is_merged_with_an_earlier_one(self):
        out, first, _ = self.measure("first.json", "--no-costs")
        _, both, text = self.measure("both.json", "--no-costs", "--merge", out)
        earlier, merged = (machine["cpu"]["figures"]["fma_gflop_per_s"] for machine in (first, both))
        self.assertEqual(merged["runs"], 2)
        self.assertLessEqual(merged["low"], earlier.get("low", earlier["value"]))
        self.assertGreaterEqual(merged["high"], earlier.get("high", earlier["value"]))
        self.assertRegex(text, r"fma_gflop_per_s .* 2  GFLOP/s")

    def test_what_cannot_be_merged_is_said_before_anything_is_measured(self):
        part = {"schema": "tandem-machine", "version": 1, "name": "x",
                "cpu": {"name": "x", "title": "Z80", "cores": 1, "figures": {}}}
        figure = {"value": -3, "kind": "measured"}
        for change, words in (({}, ["Z80"]), ({"version": 2}, [".version is 2", "allowed"]),
                              ({"schema": "map"}, [".schema is 'map'"]), ({"cpu": None}, ["neither cpu nor gpus"]),
                              ({"cpu": {**part["cpu"], "figures": {"read_gb_per_s": figure}}},
                               ["read_gb_per_s.value is -3", "allowed"]),
                              ({"cpu": {**part["cpu"], "figures": {"latency_ns": {**figure, "value": 1e9}}}},
                               ["latency_ns.value is 1000000000", "allowed"])):
            earlier = self.write("earlier.json", json.dumps({**part, **change}))
            self.expect(FAILED, "profile", "--merge", earlier, naming=words)
        self.expect(FAILED, "profile", "--merge", self.path("none.json"), naming=["none.json"])

    def test_bad_profiles(self):
        run = ["run", "--trace", self.trace, "--profile"]
        self.expect(FAILED, *run, self.path("missing.json"), naming=["--profile", "missing.json"])
        self.expect(FAILED, *run, self.write("text.json", "fast"), naming=["--profile", "text.json", "not JSON"])
        self.expect(BAD_USAGE, *run, self.write("field.json", '{"dense_row": 1}'), naming=["profile.dense_row", "dense_row_ns"])
        self.expect(BAD_USAGE, *run, self.write("value.json", '{"dense_row_ns": -1}'), naming=["dense_row_ns is -1", "allowed"])
        self.expect(BAD_USAGE, *run, self.write("list.json", "[]"), naming=["profile is array", "object"])
        for text, words in (('{"schema": "map"}', ["profile.schema is 'map'", "tandem-machine"]),
                            ('{"schema": "tandem-machine", "version": 2}', ["profile.version is 2", "allowed: 1"]),
                            ('{"schema": "tandem-machine", "version": 1}', ["profile.step_costs is missing"])):
            self.expect(BAD_USAGE, *run, self.write("machine.json", text), naming=words)
        self.expect(FAILED, "profile", "--quick", "--out", self.path("no", "such", "p.json"), naming=["--out", "p.json"])


class Model(CommandLine):
    def answer(self, *arguments):
        result = self.expect(OK, "generate", "--model", self.model, "--needle", self.prompts + ":2", *arguments)
        self.assertRegex(result.stderr, r"% of the keys attended; expected 38977: (right|wrong)\n\Z")
        return result.stdout

    def test_the_split_is_reported(self):
        report = json.loads(self.answer("--auto-split", "--json", "-"))
        self.assertTrue(report["split"]["auto"])
        self.assertLessEqual({"selecting_over_dense", "measured_steps", "crossover_rows"}, set(report["split"]))

    def test_dense_and_top_k_find_the_needle(self):
        self.assertEqual(self.answer("--attention", "dense"), "38977\n")
        self.assertEqual(self.answer("--attention", "tandem", "--selector", "topk", "--budget", "0.05", "--always-select"),
                         "38977\n")

    def test_one_pipe_for_both(self):
        command = [BINARY, "generate", "--model", self.model, "--needle", self.prompts + ":2", "--selector", "topk"]
        text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300).stdout
        self.assertRegex(text, r"\A38977\n\d+ of \d+ steps ran dense: the profile [^\n]+\n\d+ \+ \d+ prompt tokens [^\n]+\n\Z")

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
        self.assertEqual({name: method["steps"] for name, method in methods.items()},
                         {name: 15 * method["seeds"] for name, method in methods.items()})
        self.assertEqual([methods[name]["dense_steps"] for name in ("dense", "topk:0.05", "streaming")], [15, 0, 0])
        self.assertNotIn("the profile expects", result.stdout)

    def test_eval_says_when_a_method_did_not_select(self):
        file = self.path("eval-dense.json")
        result = self.expect(OK, "eval", "needles", "--model", self.model, "--prompts", self.prompts, "--max-context", 1100,
                             "--limit", 1, "--methods", "dense,topk:0.05", "--json", file)
        self.assertRegex(result.stdout, r"\n\ntopk:0.05: 5 of 5 steps ran dense: the profile expects .*--always-select")
        self.assertNotRegex(result.stdout, r"\ndense: ")
        with open(file) as text:
            methods = json.load(text)["methods"]
        self.assertEqual([(method["dense_steps"], method["steps"]) for method in methods], [(5, 5), (5, 5)])


class Interrupt(CommandLine):
    def test_nothing_half_written_stays(self):
        before = set(os.listdir(self.folder))
        process = subprocess.Popen([BINARY, "synth", "--out", self.path("large"), "--tokens", "200000", "--json",
                                    self.path("large.json")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and set(os.listdir(self.folder)) == before:
            time.sleep(0.01)  # its first file appears when it listens to signals and has begun to work
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, FAILED)
        self.assertEqual(errors, "tandem: interrupted\n")
        self.assertEqual(set(os.listdir(self.folder)), before)


if __name__ == "__main__":
    cli_case.main()
