#!/usr/bin/env python3
"""The compressed window on the command line: calibrations, eval window, eval codecs, and the options of other commands.

usage: cli_window_test.py TANDEM_BINARY DATA_FOLDER [unittest options]
"""
import json
import os

import cli_case
from cli_case import BAD_USAGE, OK, CommandLine


class Calibrate(CommandLine):
    def calibration(self, name, *arguments):
        out, file = self.path(name), self.path(name + ".report")
        self.expect(OK, "calibrate", *arguments, "--out", out, "--json", file)
        with open(out) as calibration, open(file) as report:
            return json.load(calibration), json.load(report)

    def test_model(self):
        arguments = ["--model", self.model, "--prompts", self.prompts, "--tokens", 700]
        calibration, report = self.calibration("model.json", *arguments)
        with open(os.path.join(self.model, "config.json")) as text:
            model = json.load(text)
        shape = (calibration["num_layers"], calibration["num_kv_heads"], calibration["head_dim_k"],
                 calibration["head_dim_v"], calibration["rope_theta"])
        self.assertEqual(shape, (model["num_hidden_layers"], model["num_key_value_heads"], model["head_dim"],
                                 model["head_dim"], model["rope_theta"]))
        self.assertEqual((calibration["format"], calibration["version"], calibration["bits"], report["tokens"]),
                         ("tandem-nuq", 1, [2, 3, 4], 700))
        self.assertEqual(len(calibration["layers"]), calibration["num_layers"])
        errors = [(row["k_error"], row["v_error"]) for row in report["bits"]]
        self.assertEqual(errors, sorted(errors, reverse=True))
        self.assertLess(max(errors[-1]), 0.12)
        self.assertGreater(min(errors[-1]), 0.01)
        self.assertEqual(self.calibration("again.json", *arguments, "--threads", 1)[0]["bits"], calibration["bits"])

    def test_text(self):
        text = self.write("plain.txt", "the quick brown fox jumps over the lazy dog. " * 10)
        calibration, report = self.calibration("text.json", "--model", self.model, "--text", text, "--bits", "4",
                                               "--outliers", 0)
        self.assertEqual((calibration["bits"], calibration["outliers"], report["tokens"]), ([4], 0, 451))
        self.assertEqual([len(levels) for levels in calibration["layers"][0]["levels_k"]], [16])

    def test_trace(self):
        arguments = ["--trace", self.trace, "--bits", "3"]
        calibration, report = self.calibration("trace.json", *arguments, "--rope-theta", 10000, "--rope-dims", 32)
        self.assertEqual((report["tokens"], calibration["num_layers"], calibration["rope_dims"]), (700, 1, 32))
        post_rope = self.calibration("post.json", *arguments, "--rope-theta", 0)[0]
        self.assertNotEqual(calibration["layers"][0]["scale"], post_rope["layers"][0]["scale"])
        # Elements that are not rotated are the same either way.
        self.assertEqual(calibration["layers"][0]["scale"][32:64], post_rope["layers"][0]["scale"][32:64])

    def test_standard_output_holds_the_calibration_alone(self):
        result = self.expect(OK, "calibrate", "--trace", self.trace, "--rope-theta", 0, "--out", "-")
        self.assertEqual(json.loads(result.stdout)["num_kv_heads"], 2)
        self.assertIn("K error", self.expect(OK, "calibrate", "--trace", self.trace, "--rope-theta", 0, "--out",
                                             self.path("table.json")).stdout)


class Window(CommandLine):
    CELL = {"policy", "codec", "host_tier", "exact", "prompts", "perplexity", "perplexity_change", "error", "question_error",
            "bytes_per_token", "coded_bytes_per_token", "bits_per_element", "window_rows", "window_share", "dropped_rows"}

    def eval_window(self, *arguments):
        """The report, and its cells by (policy, codec, host tier)."""
        file = self.path("window.json")
        text = self.expect(OK, "eval", "window", "--model", self.model, "--prompts", self.prompts, "--limit", 1,
                           "--text-tokens", 700, "--text-steps", 24, "--json", file, *arguments).stdout
        with open(file) as report:
            report = json.load(report)
        return text, report, {(cell["policy"], cell["codec"], cell["host_tier"]): cell for cell in report["cells"]}

    def test_a_window_that_holds_everything_shows_the_codec_alone(self):
        _, report, cells = self.eval_window("--codecs", "f32,bf16,int8,kivi4,kivi2", "--policies", "full")
        self.assertEqual(list(cells), [("full", codec, "-") for codec in ("f32", "bf16", "int8", "kivi4", "kivi2")])
        errors = [cell["error"]["mean"] for cell in cells.values()]
        self.assertLess(errors[0], 1e-5)
        self.assertEqual(errors, sorted(errors))
        sizes = [cell["coded_bytes_per_token"] for cell in cells.values()]
        self.assertEqual(sizes, [512, 256, 136, 80, 48])
        for cell in cells.values():
            self.assertLessEqual(self.CELL, set(cell))
            self.assertEqual((cell["window_share"], cell["dropped_rows"]), (1, 0))
            self.assertGreaterEqual(cell["bytes_per_token"], cell["coded_bytes_per_token"])
            self.assertAlmostEqual(cell["bits_per_element"], cell["coded_bytes_per_token"] / 16)
            self.assertLess(cell["error"]["mean"], cell["error"]["p95"])
        self.assertAlmostEqual(cells["full", "f32", "-"]["perplexity"], report["dense"]["perplexity"], places=4)
        self.assertEqual((report["dense"]["exact"], cells["full", "f32", "-"]["exact"]), (1, 1))
        self.assertEqual(cells["full", "bf16", "-"]["exact"], 1)

    def test_without_a_host_tier_the_needle_is_lost(self):
        text, report, cells = self.eval_window("--codecs", "f32", "--policies", "latest,streaming,h2o:64", "--local", 128,
                                               "--host-dtype", "f32")
        self.assertEqual(list(cells), [("latest", "f32", "on"), ("latest", "f32", "off"), ("streaming", "f32", "off"),
                                       ("h2o:64", "f32", "on"), ("h2o:64", "f32", "off")])
        for (policy, _, host), cell in cells.items():
            kept = host == "on"
            self.assertEqual(cell["exact"], 1 if kept else 0, (policy, host))
            self.assertEqual(cell["dropped_rows"] == 0, kept, (policy, host))
            self.assertEqual(cell["error"]["mean"] < 1e-5, kept, (policy, host))
            self.assertEqual(cell["question_error"]["mean"] < 1e-5, kept, (policy, host))
            self.assertTrue(128 < cell["window_rows"] <= 4 + 128 + 64, cell["window_rows"])
            self.assertLess(cell["window_share"], 0.3)
        self.assertRegex(text, r"(?m)^dense +f32 +- +1/1 ")
        self.assertRegex(text, r"(?m)^latest +f32 +off +0/1 ")

    def test_the_same_figures_each_time(self):
        arguments = ["--codecs", "bf16,kivi2", "--policies", "latest", "--local", 192, "--seed", 3]
        first, _ = self.eval_window(*arguments)[1:]
        self.assertEqual(first, self.eval_window(*arguments)[1])
        # The model's matrix products are OpenBLAS's, whose last bits depend on its threads on some processors.
        single, _ = self.eval_window(*arguments, "--threads", 1)[1:]
        for a, b in zip([first["dense"], *first["cells"]], [single["dense"], *single["cells"]], strict=True):
            self.assertAlmostEqual(a["perplexity"], b["perplexity"], places=5)
            self.assertEqual(a["exact"], b["exact"])
            self.assertEqual(a.get("bytes_per_token"), b.get("bytes_per_token"))

    def test_a_model_that_merges_tokens(self):
        dmc = os.path.join(os.path.dirname(self.model), "tiny-llama-dmc")
        _, _, cells = self.eval_window("--codecs", "f32", "--policies", "full", "--dmc-model", dmc, "--host-dtype", "f32")
        self.assertEqual(list(cells), [("full", "f32", "-"), ("dmc, full", "f32", "-"), ("dmc", "f32", "on"), ("dmc", "f32", "off")])
        full, small, lost = (cells[name] for name in list(cells)[1:])
        self.assertTrue(0.3 < full["window_share"] < 0.6, full["window_share"])
        self.assertEqual((full["exact"], full["dropped_rows"], full["error"]["mean"]), (1, 0, None))
        self.assertAlmostEqual(full["perplexity"], small["perplexity"], places=3)  # what leaves the window is not lost
        self.assertEqual(small["exact"], 1)
        self.assertGreaterEqual(lost["dropped_rows"], 0)
        result = self.expect(BAD_USAGE, "eval", "window", "--model", self.model, "--prompts", self.prompts, "--dmc-model",
                             self.model)
        self.assertIn("trained to merge tokens", result.stderr)

    def test_text_of_a_file(self):
        text = self.write("text.txt", "The grass is green. The sky is blue. The sun is yellow. " * 20)
        generated = self.eval_window("--codecs", "f32", "--policies", "full")[1]
        report = self.eval_window("--codecs", "f32", "--policies", "full", "--text", text)[1]
        self.assertEqual((generated["text"], report["text"]), ("generated", text))
        self.assertNotEqual(report["dense"]["perplexity"], generated["dense"]["perplexity"])

    def test_what_the_build_refuses_is_said_once(self):
        text, _, cells = self.eval_window("--codecs", "bf16,int8", "--policies", "h2o:64", "--local", 256)
        self.assertIn("refused", cells["h2o:64", "int8", "on"])
        self.assertNotIn("refused", cells["h2o:64", "bf16", "on"])
        self.assertEqual(text.count("refused: h2o:64 int8: "), 1)

    def test_codecs_of_a_trace(self):
        file = self.path("codecs.json")
        text = self.expect(OK, "eval", "codecs", "--trace", self.trace, "--codecs", "f32,bf16,int8,kivi4,kivi2", "--json",
                           file).stdout
        with open(file) as report:
            rows = json.load(report)["rows"]
        self.assertEqual([row["codec"] for row in rows], ["f32", "bf16", "int8", "kivi4", "kivi2"])
        self.assertEqual([(rows[0][field]) for field in ("k_error", "v_error", "score_error")], [0, 0, 0])
        self.assertLess(rows[0]["error"]["mean"], 1e-5)
        for better, worse in zip(rows[1:], rows[2:]):
            for field in ("k_error", "v_error", "score_error"):
                self.assertLess(better[field], worse[field], (field, worse["codec"]))
            self.assertLess(better["error"]["mean"], worse["error"]["mean"])
            self.assertGreater(better["bits_per_element"], worse["bits_per_element"])
        self.assertTrue(0.002 < rows[2]["k_error"] < 0.02, rows[2]["k_error"])  # int8 of normal values
        self.assertRegex(text, r"(?m)^kivi4 +0 ")

    def test_generate_with_a_compressed_window(self):
        report = json.loads(self.expect(OK, "generate", "--model", self.model, "--needle", self.prompts + ":2", "--local", 512,
                                        "--window-codec", "kivi4", "--json", "-").stdout)
        self.assertTrue(report["exact"])
        lost = json.loads(self.expect(OK, "generate", "--model", self.model, "--needle", self.prompts + ":2", "--local", 256,
                                      "--window-policy", "streaming", "--json", "-").stdout)
        self.assertFalse(lost["exact"])

    def test_run_and_needles_with_a_compressed_window(self):
        def error(*arguments):
            result = self.expect(OK, "run", "--trace", self.trace, "--selector", "all", "--warm", "--local", 512, "--json", "-",
                                 *arguments)
            return json.loads(result.stdout)["mean"]["error"]["mean"]
        self.assertLess(error(), 1e-4)
        self.assertTrue(1e-3 < error("--window-codec", "int8") < 0.05)
        lost = self.expect(OK, "run", "--trace", self.trace, "--warm", "--host-tier", "off", "--json", "-").stdout
        self.assertGreater(json.loads(lost)["mean"]["error"]["mean"], 0.05)
        needles = self.expect(OK, "eval", "needles", "--model", self.model, "--prompts", self.prompts, "--limit", 1, "--methods",
                              "dense", "--window-codec", "int8", "--local", 512, "--json", "-").stdout
        self.assertEqual(json.loads(needles)["window"]["window_codec"]["kind"], "int8")
        self.assertEqual(json.loads(needles)["methods"][0]["exact"], 1)


if __name__ == "__main__":
    cli_case.main()
