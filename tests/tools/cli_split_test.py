#!/usr/bin/env python3
"""tandem profile split: what it measures, predicts, chooses and writes, and --config, which reads what it wrote.

usage: cli_split_test.py TANDEM_BINARY DATA_FOLDER [unittest options]
"""
import json
import os

import cli_case
from cli_case import BAD_USAGE, FAILED, OK, CommandLine

SHAPE = ("layers", "q_heads", "kv_heads", "head_dim")
SMALL = {"--layers": 2, "--q-heads": 4, "--kv-heads": 2, "--head-dim": 64, "--context": "3K", "--fit-context": "2K,4K",
         "--threads": 1, "--steps": 3}


def split(**options):
    """The arguments of a small sweep; `options`, by their names with '_' for '-', replace its own, None takes them away."""
    given = {**SMALL, **{"--" + name.replace("_", "-"): value for name, value in options.items()}}
    given = {name: value for name, value in given.items() if value is not None}
    return ["profile", "split", *(part for option in given.items() for part in option)]


class Split(CommandLine):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.config, cls.report_file = cls.path("split.json"), cls.path("report.json")
        made = cli_case.tandem(*split(batch="1,2", selectors="all,sketch1:0.05,sketch1:0.2,topk:0.1", windows="64,128",
                                      target="eps=0.9", out=cls.config, json=cls.report_file))
        assert made.returncode == OK, made.stderr
        cls.text = made.stdout
        with open(cls.report_file) as file:
            cls.report = json.load(file)
        with open(cls.config) as file:
            cls.split = json.load(file)

    def test_every_case_is_predicted_and_measured(self):
        cases = self.report["cases"]
        self.assertEqual(len(cases), 2 * 2 * 4)
        for case in cases:
            predicted, measured = case["predicted_us"], case["measured"]
            self.assertLessEqual(predicted["low"], predicted["value"])
            self.assertLessEqual(predicted["value"], predicted["high"])
            self.assertGreater(predicted["low"], 0)
            self.assertGreater(measured["us"], 0)
            self.assertLessEqual(measured["us"], measured["median_us"])
            self.assertFalse(case["fitted"])
            self.assertEqual((case["tokens"], case["config"]["num_layers"]), (3072, 2))
            host = 3072 - 4 - case["config"]["local_tokens"]
            self.assertLessEqual(abs(measured["host_rows"] - host), 64)
        self.assertEqual(self.report["prediction"]["cases"], len(cases))

    def test_selectors_gather_what_they_should_and_err_accordingly(self):
        by_name = {}
        for case in self.report["cases"]:
            by_name.setdefault(case["name"].split(",")[0], []).append(case["measured"])
        for measured in by_name["all"]:
            self.assertEqual(measured["rows_share"], 1)
            self.assertLess(measured["error"]["mean"], 0.01)
        for name, share in (("sketch1:0.05", 0.05), ("sketch1:0.2", 0.2)):
            for measured in by_name[name]:
                self.assertAlmostEqual(measured["rows_share"], share, delta=0.03)
                self.assertGreater(measured["error"]["mean"], 0.001)
        self.assertLess(by_name["sketch1:0.2"][0]["error"]["mean"], by_name["sketch1:0.05"][0]["error"]["mean"])

    def test_the_fastest_split_that_is_good_enough_is_taken(self):
        for choice in self.report["choices"]:
            cases = [case for case in self.report["cases"] if case["batch"] == choice["batch"]]
            good = [case for case in cases if case["measured"]["error"]["mean"] <= 0.9]
            taken = next(case for case in cases if case["name"] == choice["take"])
            self.assertTrue(choice["reaches_target"])
            fastest = min(case["measured"]["us"] for case in good)
            self.assertLessEqual(taken["measured"]["us"], 1.031 * fastest)
            self.assertIn("tokens/s", choice["reason"])
            self.assertIn("take: " + choice["take"], self.text)

    def test_the_configuration_is_what_run_and_the_library_take(self):
        self.assertEqual(self.split, self.report["config"])
        self.assertEqual((self.split["num_layers"], self.split["num_threads"], self.split["never_slower"]), (2, 1, True))
        self.assertGreater(self.split["profile"]["dense_row_ns"], 0)
        result = self.expect(OK, "run", "--trace", self.trace, "--warm", "--config", self.config, "--json", "-")
        report = json.loads(result.stdout)
        self.assertEqual(report["selector_config"]["kind"], self.split["selector"]["kind"])
        self.assertEqual(report["profile"], self.split["profile"])
        self.assertEqual((report["window"]["local_tokens"], report["threads"]), (self.split["local_tokens"], 1))
        self.assertEqual(json.loads(self.expect(OK, "run", "--trace", self.trace, "--warm", "--config", self.config, "--threads",
                                                2, "--json", "-").stdout)["threads"], 2)

    def test_a_target_out_of_reach_says_so(self):
        result = self.expect(OK, *split(selectors="sketch1:0.05,sketch1:0.1", target="eps=0.0001", json="-"))
        choice = json.loads(result.stdout)["choices"][0]
        self.assertFalse(choice["reaches_target"])
        self.assertIn("no split reaches the target", choice["reason"])
        self.assertIn("sketch1:0.1", choice["take"])

    def test_tokens_per_second_ask_for_the_most_exact(self):
        result = self.expect(OK, *split(selectors="all,sketch1:0.05", target="tok/s=0.001", json="-"))
        choice = json.loads(result.stdout)["choices"][0]
        self.assertTrue(choice["take"].startswith("all"), choice)
        result = self.expect(OK, *split(selectors="all,sketch1:0.05", target="tok/s=1e9", json="-"))
        self.assertFalse(json.loads(result.stdout)["choices"][0]["reaches_target"])

    def test_a_model_says_its_shape(self):
        config = os.path.join(self.model, "config.json")
        result = self.expect(OK, *split(**dict.fromkeys(SHAPE), model=config, selectors="all", json="-"))
        report = json.loads(result.stdout)
        self.assertEqual(report["model"], "tiny-llama")
        self.assertEqual(report["shape"], {"num_layers": 4, "num_q_heads": 4, "num_kv_heads": 2, "head_dim": 64})
        self.assertEqual(report["config"]["num_layers"], 4)
        self.assertIsNone(self.report["model"])

    def test_models_refuse_what_they_are_not(self):
        bare = dict.fromkeys(SHAPE)
        for options, naming in (
                ({**bare, "model": "llama-3.1-9b"}, ["'llama-3.1-9b' is not known", "nearest: llama-3.1-8b", "plan list"]),
                ({**bare, "model": "llama-3.1-8b", "context": "8K,256K"}, ["context is 262144", "131072", "llama-3.1-8b"]),
                ({**bare, "model": "mistral-7b", "context": "8K"}, ["--context", "'8192'", "4096", "window slides"]),
                *(({**bare, "model": "llama-3.1-8b", name: 2}, ["--" + name.replace("_", "-"), "'2'", "llama-3.1-8b"])
                  for name in SHAPE)):
            with self.subTest(options=options):
                self.expect(BAD_USAGE, *split(**options), naming=naming)
        self.expect(FAILED, *split(**bare, model="missing/config.json"), naming=["missing/config.json"])

    def test_a_trace_gives_its_own_errors(self):
        golden = os.path.join(cli_case.DATA, "golden_trace")
        config = self.path("traced.json")
        options = {**dict.fromkeys(SHAPE), "context": None, "trace": golden, "selectors": "all,sketch1:0.02,sketch1:0.1"}
        result = self.expect(OK, *split(**options, model=os.path.join(self.model, "config.json"), out=config, json="-"))
        report = json.loads(result.stdout)
        self.assertEqual(report["trace"], {"path": golden, "layer": 2})
        self.assertEqual((report["shape"]["num_layers"], report["settings"]["steps"]), (4, 3))
        self.assertEqual({case["tokens"] for case in report["cases"]}, {8192})
        errors = {case["name"].split(",")[0]: case["measured"]["error"]["mean"] for case in report["cases"]}
        run = ("run", "--trace", golden, "--warm", "--steps", 4, "--always-select", "--threads", 1, "--window-dtype", "bf16",
               "--host-dtype", "bf16", "--local", 64, "--json", "-", "--selector", "sketch", "--sketch-bits", 1)
        for budget in (0.02, 0.1):
            replayed = json.loads(self.expect(OK, *run, "--budget", budget).stdout)
            self.assertAlmostEqual(errors[f"sketch1:{budget}"], replayed["mean"]["error"]["mean"], delta=1e-6)
        self.assertLess(errors["all"], errors["sketch1:0.1"])
        self.assertEqual(json.loads(self.expect(OK, "run", "--trace", golden, "--warm", "--steps", 2, "--config", config,
                                                "--json", "-").stdout)["trace"]["tokens"], 8192)

    def test_a_trace_is_as_long_as_it_is(self):
        bare = {**dict.fromkeys(SHAPE), "context": None, "trace": self.trace, "selectors": "all"}
        report = json.loads(self.expect(OK, *split(**{**bare, "steps": None, "context": 700, "json": "-"})).stdout)
        self.assertEqual((report["shape"]["num_layers"], report["settings"]["steps"]), (1, 5))
        self.assertEqual(report["trace"]["layer"], 0)
        self.assertIsNone(report["model"])
        self.assertNotIn("scale", report["config"])

    def test_a_scale_of_its_own_goes_into_the_configuration(self):
        scaled, config = self.copy_of_trace("scaled"), self.path("scaled.json")
        with open(os.path.join(scaled, "meta.json")) as file:
            meta = json.load(file)
        self.write("scaled/meta.json", json.dumps({**meta, "scale": 0.25}))
        self.expect(OK, *split(**dict.fromkeys(SHAPE), context=None, trace=scaled, selectors="all", out=config))
        with open(config) as file:
            self.assertEqual(json.load(file)["scale"], 0.25)
        self.expect(OK, "run", "--trace", scaled, "--warm", "--config", config)
        self.expect(BAD_USAGE, "run", "--trace", self.trace, "--warm", "--config", config, naming=["scale 0.25", "0.125"])

    def test_traces_refuse_what_they_are_not(self):
        bare = {**dict.fromkeys(SHAPE), "context": None, "trace": self.trace}
        silent = self.copy_of_trace("silent")
        with open(os.path.join(silent, "meta.json")) as file:
            meta = json.load(file)
        for options, naming in (
                ({"context": "512"}, ["--context", "'512'", "700"]),
                ({"context": "1K"}, ["--context", "'1024'", "700"]),
                ({"layer": 1}, ["--layer", "'1'", "of the trace: 0"]),
                ({"q_heads": 4}, ["--q-heads", "'4'", "--trace"]),
                ({"head_dim": 64}, ["--head-dim", "'64'", "--trace"]),
                ({"steps": 6}, ["--steps", "'6'", "2 to 5"]),
                ({"model": "llama-3.1-8b"}, ["--trace", "num_q_heads 4", "32", "llama-3.1-8b"])):
            with self.subTest(options=options):
                self.expect(BAD_USAGE, *split(**{**bare, **options}), naming=naming)
        golden = os.path.join(cli_case.DATA, "golden_trace")
        self.expect(BAD_USAGE, *split(**{**bare, "trace": golden, "layers": 2}), naming=["--trace", "a layer 2", "0 to 1"])
        self.expect(BAD_USAGE, *split(layer=0), naming=["--layer", "--trace"])
        self.expect(FAILED, *split(**{**bare, "trace": self.path("nowhere")}), naming=["nowhere"])
        self.write("silent/meta.json", json.dumps({**meta, "steps": 2}))
        self.expect(BAD_USAGE, *split(**{**bare, "trace": silent}), naming=["--trace", "2 decode steps", "at least 3"])
        mute = self.path("mute")
        self.expect(OK, "synth", "--out", mute, "--tokens", 700, "--kv-heads", 2, "--q-heads", 4, "--head-dim", 64, "--steps", 6,
                    "--query-tail", 0)
        self.expect(BAD_USAGE, *split(**{**bare, "trace": mute, "selectors": "all,sketch1:0.1"}), naming=["q_tail", "sketch1:0.1"])

    def test_dense_layers_are_summed_with_the_others(self):
        result = self.expect(OK, *split(layers=5, selectors="sketch1:0.05,sketch1:0.2", dense_layers="0,2,5", target="eps=0.99",
                                        json="-", html=self.path("dense.html")))
        with open(self.path("dense.html")) as file:
            self.assertIn("Milliseconds of a decode step of all 5 layers", file.read())
        report = json.loads(result.stdout)
        cases = {case["name"]: case["measured"] for case in report["cases"]}
        dense = next(measured for name, measured in cases.items() if name.startswith("all,"))
        steps = {(step["split"], step["dense_layers"]): step for step in report["steps"]}
        self.assertEqual(len(report["steps"]), len(steps))
        self.assertEqual({(name.split(",")[0], layers) for name, layers in steps},
                         {("all", 0), *((sketch, layers) for sketch in ("sketch1:0.05", "sketch1:0.2") for layers in (0, 2))})
        for (name, layers), step in steps.items():
            others = cases[name]
            us = layers * dense["us"] + (5 - layers) * others["us"]
            self.assertAlmostEqual(step["ms"], us / 1000, delta=1e-6 * us)
            self.assertAlmostEqual(step["tokens_per_second"], 1e6 / us, delta=1e-6 / us * 1e6)
            error = (layers * dense["error"]["mean"] + (5 - layers) * others["error"]["mean"]) / 5
            self.assertAlmostEqual(step["error"], error, delta=1e-9)
            self.assertLessEqual(step["predicted_ms"]["low"], step["predicted_ms"]["value"])
            self.assertLessEqual(step["predicted_ms"]["value"], step["predicted_ms"]["high"])

    def test_dense_layers_reach_errors_that_the_split_alone_does_not(self):
        sketch = next(case for case in self.report["cases"] if case["name"].startswith("sketch1:0.05, window 64"))
        between = 0.75 * sketch["measured"]["error"]["mean"]  # of all layers; half of them dense err half as much
        options = {"selectors": "sketch1:0.05", "dense_layers": 1, "target": f"eps={between}"}
        result = self.expect(OK, *split(**options, out=self.path("dense.json"), json=self.path("dense_report.json")))
        with open(self.path("dense_report.json")) as file:
            report = json.load(file)
        choice = report["choices"][0]
        self.assertTrue(choice["reaches_target"])
        self.assertEqual(len(report["steps"]), 2)
        if choice["dense_layers"] == 0:  # where every row is faster than a sketch beside it
            self.assertTrue(choice["take"].startswith("all"))
        else:
            self.assertTrue(choice["take"].startswith("sketch1:0.05"))
            self.assertIn("TD_EXACT", choice["advice"])
            self.assertIn("; 1 dense layer\n", result.stdout)
            self.assertIn(choice["advice"], result.stdout)
            self.assertEqual(report["config"]["selector"]["kind"], "sketch")
        self.assertEqual(report["dense_layers"], choice["dense_layers"])
        self.assertLess(choice["error"], between)
        self.assertEqual((self.report["dense_layers"], self.report["choices"][0]["dense_layers"]), (0, 0))

    def test_other_shapes_and_formats_are_measured_and_predicted(self):
        far = 4  # times: what is wrong by a row's size, a group or a budget is further off than a busy machine's noise
        for options in ({"q_heads": 2}, {"q_heads": 16}, {"head_dim": 80}, {"head_dim": 256},
                        {"host_dtypes": "bf16,int8,k8v4"}, {"windows": 256, "window_codecs": "none,int8,kivi4"},
                        {"selectors": "all,lsh:6,40,topk:0.02,topk:0.05,topk:0.2"}):
            with self.subTest(options=options):
                given = {"selectors": "all,sketch1:0.1", **options}
                report = json.loads(self.expect(OK, *split(**given, json="-"), "--quick").stdout)
                self.assertEqual(report["settings"]["steps"], 4)
                topk = [case["predicted_us"]["value"] for case in report["cases"] if case["name"].startswith("topk")]
                self.assertEqual(topk, sorted(topk))  # the budget in the middle is not part of the fit
                for case in report["cases"]:
                    off = case["predicted_us"]["value"] / case["measured"]["us"]
                    self.assertTrue(1 / far < off < far, (case["name"], case["predicted_us"], case["measured"]["us"]))
                    exact = case["name"].startswith("all,") and "4" not in case["config"]["host_dtype"]
                    self.assertLess(case["measured"]["error"]["mean"], 0.2 if exact else 2)

    def test_rows_that_the_data_decides_are_predicted_where_it_was_seen(self):
        options = {"selectors": "sketch1:0.1,sketch1:error=0.3", "context": "3K,6K", "json": "-"}
        report = json.loads(self.expect(OK, *split(**options)).stdout)
        predicted = {(case["tokens"], case["name"].split(",")[0]): case["predicted_us"] for case in report["cases"]}
        self.assertEqual([key for key, value in predicted.items() if value is None], [(6144, "sketch1:error=0.3")])
        between = predicted[3072, "sketch1:error=0.3"]
        self.assertLess(between["low"], between["value"])
        self.assertLess(between["value"], between["high"])
        self.assertEqual(report["prediction"]["cases"], 3)
        self.assertIn("--fit-context", report["not_predicted"])
        self.assertEqual(self.report["not_predicted"], "")

    def test_nothing_foretells_what_is_not_predicted(self):
        bare = {**dict.fromkeys(SHAPE), "context": None, "trace": self.trace}
        result = self.expect(OK, *split(**bare, selectors="lsh:6,40", target="eps=0.99"), "--json", self.path("lsh.json"))
        with open(self.path("lsh.json")) as file:
            report = json.load(file)
        self.assertIsNone(report["cases"][0]["predicted_us"])
        self.assertIsNone(report["choices"][0]["foretold"])
        self.assertEqual(report["prediction"]["cases"], 0)
        self.assertIn("not predicted", result.stdout)

    def test_what_does_not_fit_is_refused_and_the_others_go_on(self):
        report = json.loads(self.expect(OK, *split(context="3K,16M", batch=128, selectors="sketch1:0.05", json="-")).stdout)
        refused = [case for case in report["cases"] if case["measured"] is None]
        self.assertEqual([case["tokens"] for case in refused], [16 << 20])
        self.assertIn("MiB", refused[0]["not_measured"])
        self.assertGreater(refused[0]["predicted_us"]["value"], 0)
        self.assertEqual([choice["tokens"] for choice in report["choices"]], [3 << 10])
        self.expect(FAILED, *split(context="16M", batch=128, selectors="all"), naming=["no split could be measured", "MiB"])

    def test_bad_usage(self):
        for option, value, naming in (
                ("context", "0", ["--context", "'0'"]),
                ("target", "eps=2", ["--target", "'eps=2'", "tok/s=T"]),
                ("target", "fast", ["--target", "'fast'"]),
                ("selectors", "all,best", ["--selectors", "best"]),
                ("host_dtypes", "f8", ["--host-dtypes", "f8"]),
                ("window_codecs", "zip", ["--window-codecs", "zip"]),
                ("windows", "0", ["--windows", "'0'"]),
                ("threads", "0", ["--threads", "'0'"]),
                ("batch", "1,100000", ["--batch", "'100000'"]),
                ("dense_layers", "0,3", ["--dense-layers", "'3'", "0 to 2"]),
                ("dense_layers", "few", ["--dense-layers", "'few'"]),
                ("q_heads", 5, ["num_q_heads"])):
            with self.subTest(option=option, value=value):
                self.expect(BAD_USAGE, *split(**{option: value}), naming=naming)

    def test_config_refuses_what_it_cannot_take(self):
        self.expect(BAD_USAGE, "run", "--trace", self.trace, "--config", self.config, "--budget", "0.1", naming=["--budget"])
        run = ("run", "--trace", self.trace, "--warm", "--config")
        other = self.write("other.json", json.dumps({**self.split, "num_q_heads": 8}))
        self.expect(BAD_USAGE, *run, other, naming=["num_q_heads", "8", "4"])
        for change, naming in (({"budget": 1}, ["budget", "not a field"]), ({"local_tokens": 0}, ["local_tokens", "0"]),
                               ({"never_slower": 1}, ["never_slower"]), ({"selector": {"kind": "best"}}, ["best"])):
            with self.subTest(change=change):
                result = cli_case.tandem(*run, self.write("bad.json", json.dumps({**self.split, **change})))
                self.assertIn(result.returncode, (FAILED, BAD_USAGE))
                for text in naming:
                    self.assertIn(text, result.stderr)
        self.expect(FAILED, *run, self.write("none.json", "{"), naming=["none.json", "JSON"])
        self.expect(FAILED, *run, self.path("missing.json"), naming=["missing.json"])


if __name__ == "__main__":
    cli_case.main()
