#!/usr/bin/env python3
"""What the command line refuses: exit codes, and messages that name what is wrong and what is allowed.

usage: cli_refusals_test.py TANDEM_BINARY DATA_FOLDER [unittest options]
"""
import json
import os
import resource
import shutil
import subprocess

import cli_case
from cli_case import BAD_USAGE, BINARY, FAILED, OK, CommandLine


class BadUsage(CommandLine):
    """Exit code 2, before any work is done; the message names option, value and what is allowed."""

    def run_with(self, *arguments):
        return ["run", "--trace", self.trace, *arguments]

    def test_commands(self):
        self.expect(BAD_USAGE, naming=["command is missing", "info"])
        self.expect(BAD_USAGE, "frobnicate", naming=["frobnicate", "info"])
        self.expect(BAD_USAGE, "eval", "haystack", naming=["haystack", "needles"])
        self.expect(BAD_USAGE, "run", naming=["--trace"])
        self.expect(BAD_USAGE, *self.run_with("--no-such-option"),
                    naming=["tandem run: '--no-such-option' is not known; 'tandem run --help'"])
        for wrong, meant in (("--sketch-error", "--error"), ("--budgte", "--budget"), ("--trheads", "--threads")):
            self.expect(BAD_USAGE, *self.run_with(wrong, "0.05"), naming=[f"'{wrong}' is not known, did you mean {meant}?"])
        self.expect(BAD_USAGE, "eval", "needles", "--model", "m", "--prompts", "p", "--limits=3",
                    naming=["tandem eval needles: '--limits=3' is not known, did you mean --limit?"])

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
            ("--isa", "sse9", "scalar, avx2, avx512, avx512vbmi"),
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
                           ["--lsh-planes", "gaussian"], ["--budget", 0.1], ["--always-select"], ["--auto-split"]):
                self.expect(BAD_USAGE, *model, "--prompt", "a", "--attention", attention, *option,
                            naming=[option[0], attention, "tandem"])

    def test_what_always_selects_is_not_split(self):
        for command in (["run", "--trace", self.path("none")], ["generate", "--model", self.model, "--prompt", "a"]):
            self.expect(BAD_USAGE, *command, "--auto-split", "--always-select", naming=["--auto-split", "--always-select"])

    def test_models_that_merge_tokens(self):
        model = ["--model", os.path.join(cli_case.DATA, "tiny-llama-dmc")]
        prompts = ["--prompts", self.prompts]
        for command in (["generate", *model, "--prompt", "a"], ["eval", "needles", *model, *prompts],
                        ["eval", "window", *model, *prompts],
                        ["calibrate", *model, *prompts, "--out", self.path("merging.json")]):
            self.expect(BAD_USAGE, *command, naming=["--model", "tiny-llama-dmc", "merges tokens", "--dmc-model"])

    def test_empty_prompts(self):
        model = ["generate", "--model", self.model]
        self.expect(BAD_USAGE, *model, "--prompt", "", naming=["--prompt: the prompt is empty"])
        self.expect(FAILED, *model, "--prompt-file", self.write("nothing.txt", ""), naming=["--prompt-file", "nothing.txt", "is empty"])

    def test_options_without_effect(self):
        cases = [
            (["--selector", "lsh"], ["--error", "0.05"], "sketch"),
            (["--selector", "lsh"], ["--sketch-bits", "2"], "sketch, sketch-topk"),
            (["--selector", "sketch"], ["--lsh", "8,75"], "lsh"),
            (["--selector", "sketch"], ["--min-collisions", "1"], "lsh"),
            (["--selector", "all"], ["--budget", "0.1"], "topk, sketch, sketch-topk"),
            (["--selector", "topk"], ["--unbiased"], "sketch"),
            (["--error", "0.05"], ["--budget", "0.1"], "one of them"),
            (["--selector", "sketch:0.1"], ["--error", "0.05"], "one of them"),
            (["--selector", "sketch:budget=0.1,error=0.05"], [], "one of them"),
            (["--warm"], ["--max-copies", "4"], ""),
        ]
        for chosen, ignored, allowed in cases:
            with self.subTest(chosen=chosen, ignored=ignored):
                self.expect(BAD_USAGE, *self.run_with(*chosen, *ignored), naming=[chosen[0], *ignored[:1], allowed])
        needles = ["eval", "needles", "--model", self.model, "--prompts", self.prompts, "--methods"]
        self.expect(BAD_USAGE, *needles, "dense,topk:0.05", "--lsh", "8,75", naming=["--lsh", "--methods", "lsh"])
        self.expect(BAD_USAGE, "generate", "--model", self.model, "--prompt", "a", "--selector", "topk", "--error", "0.1",
                    naming=["--error", "--selector topk"])

    def test_eval(self):
        needles = ["eval", "needles", "--model", self.model, "--prompts", self.prompts, "--methods"]
        for methods, naming in [("dense,best", "best"), ("topk:2", "above 0"), ("sketch:0", "above 0"), ("sketch3:0.1", "sketch3:0.1"), ("lsh:10", "K,L"), ("lsh:40,7", "1 to 12"),
                                ("", "dense")]:
            with self.subTest(methods=methods):
                self.expect(BAD_USAGE, *needles, methods, naming=["--methods", naming])
        self.expect(BAD_USAGE, *needles, "lsh:8,75", "--seeds", 2, "--seed", 2**64 - 1,
                    naming=["--seed", str(2**64 - 1), str(2**64 - 2)])

    def test_calibrate(self):
        out = ["--out", self.path("never")]
        model = ["--model", self.model, *out]
        trace = ["--trace", self.trace, *out]
        for arguments, naming in (
                (out, ["--model", "--trace"]),
                ([*model, "--trace", self.trace], ["--model", "--trace"]),
                (model, ["--prompts", "--text"]),
                ([*model, "--prompts", self.prompts, "--text", self.prompts], ["--prompts", "--text"]),
                ([*model, "--prompts", self.prompts, "--rope-theta", 1e4], ["--rope-theta", "--model"]),
                (trace, ["--rope-theta", "missing"]),
                ([*trace, "--rope-theta", 0, "--text", self.prompts], ["--text", "--trace"]),
                ([*trace, "--rope-theta", 0.5], ["rope_theta", "0.5", "1 to 1e12"]),
                ([*trace, "--rope-theta", 1e4, "--rope-dims", 66], ["rope_dims", "66", "64"]),
                ([*trace, "--rope-theta", 0, "--bits", "2,5"], ["--bits", "2,5"]),
                ([*trace, "--rope-theta", 0, "--bits", "2,2"], ["--bits", "2,2"]),
                ([*trace, "--rope-theta", 0, "--outliers", 0.2], ["--outliers", "0.2", "0.1"]),
                ([*trace, "--rope-theta", 0, "--tokens", 0], ["--tokens", "0"])):
            with self.subTest(arguments=arguments):
                self.expect(BAD_USAGE, "calibrate", *arguments, naming=naming)

    def test_window_options(self):
        generate = ["generate", "--model", self.model, "--prompt", "a"]
        for arguments, naming in (
            (["--window-codec", "kivi3"], ["--window-codec", "kivi3", "kivi4:GROUP"]),
            (["--window-codec", "kivi4:48"], ["group", "48", "32, 64"]),
            (["--window-codec", "qjl:100,8"], ["100", "multiples of 64"]),
            (["--window-codec", "kivi4", "--residual", 256], ["residual_tokens is 256", "local_tokens"]),
            (["--window-codec", "kivi4", "--residual", 40], ["residual_tokens is 40", "multiple of 32"]),
            (["--window-codec", "kivi4", "--residual", -1], ["--residual", "from 0"]),
            (["--residual", 64], ["--residual", "--window-codec none"]),
            (["--window-codec", "nuq4"], ["nuq4", "--nuq-calibration"]),
            (["--window-codec", "int8", "--nuq-calibration", "f"], ["--nuq-calibration", "--window-codec int8", "nuq4"]),
            (["--window-policy", "lru"], ["--window-policy", "lru", "h2o:K"]),
            (["--window-policy", "dmc"], ["--window-policy", "dmc", "RoPE"]),
            (["--window-policy", "streaming", "--host-tier", "on"], ["--host-tier on", "streaming", "latest"]),
            (["--host-tier", "maybe"], ["--host-tier", "maybe", "on, off"]),
            (["--host-tier", "off", "--host-dtype", "f16"], ["--host-dtype", "host tier"]),
            (["--host-tier", "off", "--budget", "0.1"], ["--budget", "host tier"]),
            (["--host-tier", "off", "--attention", "dense"], ["--attention", "dense", "host tier"]),
            (["--attention", "dense", "--record", self.path("r"), "--window-codec", "int8"], ["--record", "--window-codec int8"]),
        ):
            with self.subTest(arguments=arguments):
                self.expect(BAD_USAGE, *generate, *arguments, naming=naming)
        self.expect(BAD_USAGE, *self.run_with("--window-policy", "h2o:16"), naming=["--window-policy", "h2o:16", "latest"])
        self.expect(BAD_USAGE, *self.run_with("--window-policy", "streaming"), naming=["compact_sinks", "rope_theta"])

    def test_eval_window(self):
        window = ["eval", "window", "--model", self.model, "--prompts", self.prompts]
        for arguments, naming in (
            (["--codecs", "bf16,zip"], ["--codecs", "zip", "none, int8"]),
            (["--codecs", "bf16,,int8"], ["--codecs", "''"]),
            (["--codecs", "bf16,kivi4:48"], ["--policies full with --codecs kivi4:48", "group", "48"]),
            (["--codecs", "kivi4", "--residual", 512], ["--codecs kivi4", "residual_tokens is 512", "local_tokens"]),
            (["--codecs", "nuq3"], ["--codecs", "nuq3", "--nuq-calibration"]),
            (["--codecs", "int8", "--nuq-calibration", "f"], ["--nuq-calibration", "--codecs int8"]),
            (["--policies", "full,lru"], ["--policies", "lru", "latest, streaming", "also allowed: full"]),
            (["--policies", "h2o:512"], ["--policies", "h2o:512", "--local 512"]),
            (["--policies", "dmc"], ["--policies", "dmc", "trained"]),
            (["--host", "both"], ["--host", "both", "on,off"]),
            (["--selector", "best"], ["--selector", "best", "topk"]),
            (["--policies", "full,streaming", "--host", "on"], ["--host", "--policies full,streaming"]),
            (["--policies", "full", "--selector", "all"], ["--selector", "--policies full"]),
            (["--host", "off", "--host-dtype", "f16"], ["--host-dtype", "--host off"]),
            (["--codecs", "bf16,f32", "--residual", 64], ["--residual", "--codecs"]),
            (["--local", 0], ["--local", "from 1"]),
            (["--sinks", -1], ["--sinks", "from 0"]),
            (["--text-tokens", 1], ["--text-tokens", "from 2"]),
            (["--text-steps", 0], ["--text-steps", "from 1"]),
            (["--text-tokens", 16000, "--text-steps", 400], ["--text-tokens", "16000", "16383"]),
            (["--limit", -1], ["--limit", "from 0"]),
            (["--host-dtype", "f64"], ["--host-dtype", "f64"]),
        ):
            with self.subTest(arguments=arguments):
                self.expect(BAD_USAGE, *window, *arguments, naming=naming)
        self.expect(FAILED, *window, "--codecs", "nuq3", "--nuq-calibration", self.path("missing.json"), naming=["missing.json"])
        self.expect(FAILED, *window, "--codecs", "nuq3", "--nuq-calibration", self.write("bad.json", "{}"), naming=["bad.json"])
        self.expect(FAILED, *window, "--text", self.path("missing.txt"), naming=["--text", "missing.txt"])
        self.expect(FAILED, *window, "--text", self.write("short.txt", "short"), naming=["short.txt", "5 bytes", "4608"])

    def test_eval_codecs(self):
        codecs = ["eval", "codecs", "--trace", self.trace]
        for arguments, naming in (
            (["--codecs", "zip"], ["--codecs", "zip"]),
            (["--codecs", "kivi4:48"], ["--codecs kivi4:48", "group", "48"]),
            (["--codecs", "int8", "--residual", 1000], ["--codecs int8", "residual_tokens is 1000"]),
            (["--codecs", "nuq4"], ["nuq4", "--nuq-calibration"]),
            (["--steps", 7], ["--steps", "7", "at most the trace's 6"]),
            (["--rope-theta", -1], ["--rope-theta", "from 0"]),
        ):
            with self.subTest(arguments=arguments):
                self.expect(BAD_USAGE, *codecs, *arguments, naming=naming)
        self.expect(FAILED, "eval", "codecs", "--trace", self.path("missing"), naming=["missing", "meta.json"])

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
        with open(os.path.join(self.model, "config.json")) as file:
            config = json.load(file)
        self.write("model/config.json", json.dumps({**config, "architectures": ["MistralForCausalLM"]}))
        self.expect(FAILED, "generate", "--model", truncated, *prompt, naming=["architectures", "MistralForCausalLM", "'LlamaForCausalLM'"])
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

    def test_calibrate(self):
        model = ["calibrate", "--model", self.model, "--out", self.path("never")]
        empty = self.write("empty.txt", "")
        self.expect(FAILED, *model, "--text", self.path("none.txt"), naming=["--text", "none.txt"])
        self.expect(FAILED, *model, "--text", empty, naming=["--text", "empty.txt", "empty"])
        self.expect(FAILED, *model, "--prompts", empty, naming=["empty.txt", "holds no prompts"])
        self.expect(FAILED, "calibrate", "--trace", self.model, "--rope-theta", 0, "--out", self.path("never"),
                    naming=["meta.json"])
        self.expect(FAILED, "calibrate", "--trace", self.trace, "--rope-theta", 0, "--out", "/proc/nuq.json",
                    naming=["--out", "/proc/nuq.json"])

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


if __name__ == "__main__":
    cli_case.main()
