#!/usr/bin/env python3
"""tandem plan from outside: machines and models by name, predictions, comparisons, and what it refuses.

usage: cli_plan_test.py TANDEM_BINARY DATA_FOLDER [unittest options]
"""
import json
import os

import cli_case
from cli_case import BAD_USAGE, FAILED, OK


class PlanCase(cli_case.CommandLine):
    def report(self, *arguments):
        return json.loads(self.expect(OK, "plan", *arguments, "--json", "-").stdout)


class List(PlanCase):
    def test_machines_and_models(self):
        report = self.report("list")
        self.assertLessEqual({"v100-32", "h200", "grace"}, {machine["name"] for machine in report["machines"]})
        self.assertLessEqual({"llama-3.1-8b", "mistral-7b"}, {model["name"] for model in report["models"]})

    def test_text_marks_what_is_assumed(self):
        text = self.expect(OK, "plan", "list").stdout
        self.assertRegex(text, r"(?m)^l20 .* 120\?")
        self.assertNotIn("datasheet", text)
        self.assertIn("datasheet", self.expect(OK, "plan", "list", "--sources").stdout)

    def test_data_adds(self):
        os.makedirs(self.path("more", "machines"), exist_ok=True)
        with open(os.path.join(cli_case.DATA, "machines", "t4.json")) as file:
            machine = json.load(file)
        machine["name"] = "mine"
        self.write("more/machines/mine.json", json.dumps(machine))
        names = {m["name"] for m in self.report("list", "--data", self.path("more"))["machines"]}
        self.assertLessEqual({"mine", "t4"}, names)
        machine["version"] = 3
        self.write("more/machines/mine.json", json.dumps(machine))
        self.expect(BAD_USAGE, "plan", "list", "--data", self.path("more"), naming=["mine.json.version is 3"])
        self.expect(FAILED, "plan", "list", "--data", self.path("nowhere"), naming=["nowhere"])


class Predict(PlanCase):
    def test_ranges_lanes_and_events(self):
        report = self.report("v100-32+xeon-8280", "--model", "llama-3.1-8b", "--context", "32K,96K", "--batch", "1,auto")
        self.assertEqual((report["machine"], report["model"]), ("v100-32+xeon-8280", "llama-3.1-8b"))
        self.assertEqual({p["context"] for p in report["predictions"]}, {32768, 98304})
        for p in report["predictions"]:
            speed = p["tokens_per_s"]
            self.assertLess(0, speed["low"])
            self.assertLess(speed["low"], speed["value"])
            self.assertLess(speed["value"], speed["high"])
            self.assertLessEqual(p["batch"], p["max_batch"])
            self.assertEqual(p["kind"], "assumed")
            last = max(event["end_ms"] for event in p["events"])
            self.assertAlmostEqual(last, p["step_ms"]["value"])
            self.assertAlmostEqual(sum(lane["critical_ms"] for lane in p["lanes"].values()), last)

    def test_text(self):
        text = self.expect(OK, "plan", "h100", "--model", "llama-3.1-8b", "--usd-per-hour", 3, "--method", "gpu,tandem").stdout
        self.assertRegex(text, r"(?m)^32K +\d+ +tandem +\d+ \(\d+ to \d+\)")
        self.assertIn("Nothing here was measured", text)
        self.assertIn("taken to be xeon-8480+", text)
        self.assertNotIn("swap", text)

    def test_a_config_of_hugging_face_and_a_file_of_a_machine(self):
        machine = os.path.join(cli_case.DATA, "machines", "l20.json")
        report = self.report(machine, "--model", os.path.join(self.model, "config.json"), "--context", "8K", "--method", "gpu",
                             "--batch", 1)
        self.assertEqual(report["model"], "tiny-llama")
        self.assertEqual(len(report["predictions"]), 1)

    def test_processors_alone(self):
        report = self.report("epyc-9654", "--model", "llama-3.1-8b", "--batch", 1)
        self.assertEqual([p["method"] for p in report["predictions"]], ["tandem", "host-dense"])
        self.assertEqual(report["predictions"][0]["lanes"]["device"]["busy_ms"], 0)

    def test_price_and_ping_pong(self):
        arguments = ["h100", "--model", "llama-3.1-8b", "--batch", 8, "--method", "tandem"]
        [plain] = self.report(*arguments)["predictions"]
        [priced] = self.report(*arguments, "--usd-per-hour", 2, "--ping-pong")["predictions"]
        self.assertNotIn("usd_per_million_tokens", plain)
        speed = priced["tokens_per_s"]["value"]
        self.assertAlmostEqual(priced["usd_per_million_tokens"]["value"], 2 / 3600 / speed * 1e6)
        self.assertEqual({event["micro_batch"] for event in priced["events"]}, {0, 1})


class Compare(PlanCase):
    MODEL = ("--model", "llama-3.1-8b", "--context", "32K,128K")

    def test_first_against_the_others(self):
        report = self.report("compare", "v100-32", "a100-40", "h100", *self.MODEL)
        self.assertEqual(len(report["rounds"]), 2)
        for turn in report["rounds"]:
            speeds = [m["methods"][0]["tokens_per_s"] for m in turn["machines"]]
            for machine, speed in list(zip(turn["machines"], speeds))[1:]:
                ratio = machine["first_over_this"]
                self.assertAlmostEqual(ratio["value"], speeds[0]["value"] / speed["value"])
                self.assertLess(ratio["low"], ratio["value"])
                self.assertIn("v100-32", machine["verdict"])

    def test_each_machine_with_a_method_of_its_own(self):
        [turn] = self.report("compare", "v100-32:tandem", "a100-40:gpu", "--model", "llama-3.1-8b", "--context", "128K")["rounds"]
        self.assertEqual([[p["method"] for p in m["methods"]] for m in turn["machines"]], [["tandem"], ["gpu"]])
        self.expect(BAD_USAGE, "plan", "compare", "v100-32:fast", "h100", *self.MODEL, naming=["v100-32:fast", "allowed: gpu"])

    def test_what_only_one_holds(self):
        text = self.expect(OK, "plan", "compare", "v100-32", "a100-40", *self.MODEL, "--method", "gpu").stdout
        self.assertIn("128K: Only a100-40 (gpu, 1 sequence) holds it.", text)
        self.assertIn("nothing fits", text)


class Validate(PlanCase):
    RESULTS = os.path.join(cli_case.DATA, "..", "..", "bench", "results")

    def test_published_and_measured(self):
        report = self.report("validate", "--results", self.RESULTS)
        checks = report["checks"]
        self.assertEqual(sum(c["series"].startswith("magicpig-k10l150") for c in checks), 12)
        self.assertGreater(sum("decode_step" in c["series"] for c in checks), 40)
        for check in checks:
            if not check["unexplained"]:
                self.assertLessEqual(abs(check["error"]), 0.25, check)

    def test_means_are_shown_without_and_with_what_is_unexplained(self):
        checks = [c for c in self.report("validate")["checks"] if not c["fit"]]
        explained = [c for c in checks if not c["unexplained"]]
        self.assertLess(len(explained), len(checks))

        def mean(some):
            return f"mean error {sum(100 * abs(c['error']) for c in some) / len(some):.1f} %"

        text = self.expect(OK, "plan", "validate").stdout
        self.assertIn(f"{len(explained)} checks that were not fitted: {mean(explained)}, worst", text)
        self.assertIn(f"With the {len(checks) - len(explained)} unexplained: {mean(checks)}\n", text)

    def test_fails_when_a_prediction_is_far_off(self):
        with open(os.path.join(cli_case.DATA, "published", "triforce-2x4090.json")) as file:
            series = json.load(file)
        series["points"][0]["value"] = 0.4
        os.makedirs(self.path("wrong", "published"), exist_ok=True)
        self.write("wrong/published/triforce-2x4090.json", json.dumps(series))
        self.expect(FAILED, "plan", "validate", "--data", self.path("wrong"), naming=["1 predictions are off by more than 25 %"])
        series["points"][0]["unexplained"] = "made up"
        self.write("wrong/published/triforce-2x4090.json", json.dumps(series))
        self.expect(OK, "plan", "validate", "--data", self.path("wrong"))


class Refusals(PlanCase):
    def refuse(self, *arguments, naming, code=BAD_USAGE):
        self.expect(code, "plan", *arguments, naming=naming)

    def test_names(self):
        model = ("--model", "llama-3.1-8b")
        self.refuse(*model, naming=["MACHINE is missing"])
        self.refuse("h100", naming=["--model is missing"])
        self.refuse("h10", *model, naming=["machine 'h10' is not known; nearest: h100"])
        self.refuse("foo", *model, naming=["machine 'foo' is not known; allowed: a100-40, ", "v100-32", "or a JSON file"])
        self.refuse("h100", "--model", "llama-8b", naming=["model 'llama-8b' is not known; nearest:", "llama-"])
        self.refuse("h100+h200", *model, naming=["two kinds of GPUs"])
        self.refuse("h100", *model, "--cpu", "t4", naming=["'t4', which is not a processor"])
        self.refuse("compare", "h100", *model, naming=["at least two machines"])
        self.refuse("./none.json", *model, naming=["cannot read ./none.json: No such file"], code=FAILED)

    def test_values(self):
        for option, value, allowed in (("--context", "0", "at least 1"), ("--context", "many", "96K"),
                                       ("--batch", "0", "auto"), ("--batch", "x", "auto"), ("--method", "cpu", "host-dense"),
                                       ("--window", "0", "from 1"), ("--budget", "0", "above 0"), ("--budget", "nan", "above 0"),
                                       ("--dense-layers", "33", "0 to 32"), ("--sketch-bits", "3", "1 or 2"),
                                       ("--hand-off", "call", "flag, callback"), ("--weights", "fp4", "int4"),
                                       ("--host-dtype", "f64", "k8v4"), ("--usd-per-hour", "-1", "from 0")):
            with self.subTest(option=option, value=value):
                self.refuse("h100", "--model", "llama-3.1-8b", option, value, naming=[value, allowed])
        self.refuse("h100", "--model", "llama-3.1-8b", "--context", "200K", naming=["204800", "1 to 131072, the limit of llama-3.1-8b"])
        self.refuse("h100", "--model", "llama-3.1-8b", "--ping-pong", "--batch", 1, naming=["from a batch of 2"])
        self.refuse("grace", "--model", "llama-3.1-8b", "--method", "gpu", naming=["needs a GPU", "host-dense"])

    def test_what_does_not_fit_says_what_would(self):
        self.refuse("h100", "--model", "llama-3.1-8b", "--context", "128K", "--batch", 4, "--method", "gpu", code=FAILED,
                    naming=["6.8 GB more than h100 has", "would fit: 3 sequences", "int8 weights", "tandem", "h200"])
        text = self.expect(OK, "plan", "h100", "--model", "llama-3.1-8b", "--context", "128K", "--batch", 4).stdout
        self.assertIn("Does not fit: llama-3.1-8b with 4 x 131072 tokens (gpu)", text)

    def test_profiles(self):
        with open(os.path.join(cli_case.DATA, "machines", "h100.json")) as file:
            good = json.load(file)
        figures = good["gpus"][0]["figures"]
        for change, naming in ((lambda: good.update(version=2), "version is 2"),
                               (lambda: figures["memory_gb"].update(value=-3), "memory_gb.value is -3"),
                               (lambda: figures.update(read_gb_per_s={"value": 9000, "kind": "measured"}), "at most peak"),
                               (lambda: figures["peak_gb_per_s"].update(low=9999), "must lie between"),
                               (lambda: figures.update(speed={"value": 1, "kind": "assumed"}), "speed is not a field")):
            saved = json.dumps(good)
            change()
            profile = self.write("profile.json", json.dumps(good))
            good = json.loads(saved)
            figures = good["gpus"][0]["figures"]
            with self.subTest(naming=naming):
                self.refuse(profile, "--model", "llama-3.1-8b", naming=["profile.json", naming])
        self.refuse(self.write("profile.json", "{"), "--model", "llama-3.1-8b", naming=["is not JSON"])


class Help(PlanCase):
    def test_every_command_has_help_with_an_example(self):
        for command in (["plan"], ["plan", "list"], ["plan", "compare"], ["plan", "validate"]):
            with self.subTest(command=command):
                self.assertIn("Example:\n  tandem plan", self.expect(OK, *command, "--help").stdout)


if __name__ == "__main__":
    cli_case.main()
