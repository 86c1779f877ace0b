#!/usr/bin/env python3
"""The steps of tools/ggml/check, which builds what they need and knows the arguments: llama.cpp with the plugin must
compute what llama.cpp without it does. Prints a line for each comparison; the exit code is 1 when one failed."""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np

import ask_server

VOCABULARY = 264
TOKENS = 200  # compared in the step tokens
EXACT = {"TANDEM_SELECTOR": "all"}
# The sketch selects always, also where this small model's context would be attended to faster as a whole.
SKETCH = {"TANDEM_SELECTOR": "sketch", "TANDEM_BUDGET": "0.02", "TANDEM_NEVER_SLOWER": "0", "TANDEM_LOCAL": "64"}
# Two rows of each query, for comparisons that must not succeed.
FEW = {"TANDEM_SELECTOR": "topk", "TANDEM_BUDGET": "1e-4", "TANDEM_SINKS": "0", "TANDEM_LOCAL": "1"}
TIMEOUT_S = 3600
SCENARIOS = ("plain", "rewrite", "clear", "streams", "unified", "shift", "copy_streams", "copy_unified", "state")


class Check:
    def __init__(self, arguments):
        self.bin = pathlib.Path(arguments.bin)
        self.plugin = pathlib.Path(arguments.plugin)
        self.work = pathlib.Path(arguments.work)
        self.depth = arguments.depth
        self.threads = min(2, os.cpu_count())
        self.results = []
        self.reported = time.monotonic()
        lines = (pathlib.Path(arguments.data) / "needle_prompts.jsonl").read_text().splitlines()
        self.prompts = [json.loads(line) for line in lines]
        for prompt in self.prompts:
            self.text(prompt).write_bytes((prompt["context"] + prompt["question"]).encode("latin-1"))

    def text(self, prompt):
        return self.work / f"{prompt['id']}.txt"

    def report(self, step, name, ok, detail=""):
        seconds = time.monotonic() - self.reported
        self.reported += seconds
        result = "ok" if ok else "FAILED"
        self.results.append({"step": step, "name": name, "result": result, "seconds": round(seconds, 1),
                             "detail": detail})
        print(f"{step:9} {name:32} {result:7} {seconds:5.0f} s  {detail}", flush=True)

    # ---- running the host ----
    def environment(self, settings):
        """settings: TANDEM_* for the plugin; None: without it."""
        if settings is None:
            return {"GGML_BACKEND_PATH": ""}
        return {"GGML_BACKEND_PATH": str(self.plugin), "TANDEM_STATS": "1", **settings}

    def run(self, name, settings, *command):
        """Runs a program of the host; returns its output and what it said on stderr, which logs/NAME.log has, too."""
        environment = {**os.environ, **self.environment(settings)}
        if settings is None:
            del environment["GGML_BACKEND_PATH"]
        done = subprocess.run([str(self.bin / command[0]), *map(str, command[1:])], stdin=subprocess.DEVNULL,
                              capture_output=True, env=environment, timeout=TIMEOUT_S)
        log = done.stderr.decode("utf-8", "replace")
        (self.work / "logs" / f"{name}.log").write_text(log)
        if done.returncode != 0:
            log += f"\nexit code {done.returncode}"
        return done, log

    def complete(self, name, settings, prompt, tokens, *arguments):
        """What llama-completion greedily adds to a prompt: one byte is one token. More are asked for, since the thread
        that prints them drops the last ones at times."""
        done, log = self.run(name, settings, "llama-completion", "-m", self.work / "tiny.gguf", "-bf",
                             self.text(prompt), "-n", tokens + 40, "-no-cnv", "--temp", 0, "--ignore-eos", "-fa", "on",
                             "-c", 9000, "-t", self.threads, "--no-display-prompt", *arguments)
        return done.stdout[:tokens], log

    def drive(self, name, settings, model, scenario, prompt, *fields):
        """Runs ggml_driver; returns its output, its logits (steps, vocabulary) and the log."""
        out = self.work / "logits"
        done, log = self.run(name, settings, "tandem_ggml_driver", self.work / model, scenario, self.text(prompt), out,
                             *fields)
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {log[-2000:]}")
        return done.stdout, np.fromfile(out, np.float32).reshape(-1, VOCABULARY), log

    # ---- steps ----
    def loading(self):
        """By the preloaded library as well as by the host; not into hosts that the plugin does not know, and not with
        settings that make no sense."""
        prompt = self.prompts[2]
        expected, _ = self.complete("loading_cpu", None, prompt, 8)
        preload = {"GGML_BACKEND_PATH": "", "TANDEM_GGML_PLUGIN": str(self.plugin),
                   "LD_PRELOAD": str(self.plugin.parent / "libggml-tandem-preload.so")}
        for name, settings in (("GGML_BACKEND_PATH", EXACT), ("libggml-tandem-preload.so", {**EXACT, **preload})):
            text, log = self.complete("loading", settings, prompt, 8)
            self.report("loading", name, text == expected and calls(log) > 0, f"{calls(log)} operations of Tandem")

        def stays_out(name, settings, said):
            text, log = self.complete("loading", settings, prompt, 8)
            ok = text == expected and calls(log) == 0 and said in log
            self.report("loading", f"not with {name}", ok, said)

        stays_out("another ggml", {"LD_PRELOAD": str(self.work / "libother-version.so")},
                  "this host has ggml 0.0.1; not loaded")
        stays_out("a bad setting", {"TANDEM_BUDGET": "2"}, "TANDEM_BUDGET is '2'; allowed: a number above 0, up to 1")
        stays_out("a budget and an error", {"TANDEM_BUDGET": "0.1", "TANDEM_ERROR": "0.1"},
                  "TANDEM_BUDGET is '0.1'; allowed: none with TANDEM_ERROR")
        stays_out("TANDEM_DISABLE=1", {"TANDEM_DISABLE": "1", "TANDEM_LOG": "info"}, "TANDEM_DISABLE is 1; not loaded")

    def ops(self):
        """ggml's own test of the operation against its CPU backend: every case that Tandem can read."""
        done, log = self.run("ops", {**EXACT, "TANDEM_MAX_QUERIES": "1024"}, "test-backend-ops", "-b", "TANDEM", "-o",
                             "FLASH_ATTN_EXT")
        output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.decode())
        (self.work / "logs" / "ops.txt").write_text(output)
        passed, failed, left = (len(re.findall(rf"^ *FLASH_ATTN_EXT\(.*{end}", output, re.M))
                                for end in ("OK", "FAIL", "not supported"))
        self.report("ops", "test-backend-ops FLASH_ATTN_EXT", done.returncode == 0 and failed == 0 and passed > 0,
                    f"{passed} passed, {failed} failed, {left} left to the CPU")

    def tokens(self):
        prompt = self.prompts[4]
        for kv in ("f16", "bf16", "q8_0", "q4_0"):
            cache = ("-ctk", kv, "-ctv", kv)
            expected, _ = self.complete(f"tokens_{kv}_cpu", None, prompt, TOKENS, *cache)
            text, log = self.complete(f"tokens_{kv}", EXACT, prompt, TOKENS, *cache)
            same = common(expected, text)
            self.report("tokens", kv, same == TOKENS and calls(log) > TOKENS,
                        f"{same} of {TOKENS} greedy tokens equal, {calls(log)} operations of Tandem")
        # Were the comparison blind, it would not see this either.
        expected, _ = self.complete("tokens_f16_cpu", None, prompt, TOKENS)
        text, log = self.complete("tokens_few", FEW, prompt, TOKENS)
        self.report("tokens", "two rows of each query: differs", text != expected and calls(log) > TOKENS,
                    f"{common(expected, text)} of {TOKENS} tokens equal")

    def server(self):
        """Two slots: concurrent requests, prompts that begin alike, prompts put aside and taken back."""
        for name, arguments in (("slots in two streams", []), ("without --cache-ram", ["--cache-ram", "0"]),
                                ("slots in one cache", ["-kvu"]), ("bf16", ["-ctk", "bf16", "-ctv", "bf16"]),
                                ("q8_0", ["-ctk", "q8_0", "-ctv", "q8_0"])):
            expected, _ = self.answers("server_cpu", None, *arguments)
            answers, log = self.answers("server_tandem", EXACT, *arguments)
            differences = [ask_server.first_difference(*pair) for pair in zip(expected, answers)]
            same = sum(at is None for at, _ in differences)
            ties = [at for at, is_tie in differences if is_tie]
            detail = f"{same} of {len(expected)} answers equal"
            if ties:
                detail += f", {len(ties)} up to a tie (after {min(ties)} of {ask_server.ANSWER_TOKENS} tokens)"
            self.report("server", name, same + len(ties) == len(expected) and calls(log) > 0,
                        f"{detail}, {calls(log)} operations of Tandem")
        # Were the comparison blind, it would not see this either.
        expected, _ = self.answers("server_cpu", None)
        answers, log = self.answers("server_few", FEW)
        wrong = sum(at is not None and not is_tie for at, is_tie in map(ask_server.first_difference, expected, answers))
        self.report("server", "two rows of each query: differs", wrong > 0 and calls(log) > 0,
                    f"{wrong} of {len(expected)} answers differ")

    def answers(self, name, settings, *arguments):
        """Those of a llama-server with two slots, and its log."""
        command = [self.bin / "llama-server", "-m", self.work / "tiny.gguf", "-np", "2", "-c", "16384", "-fa", "on", "-t",
                   str(self.threads), *arguments]
        log = self.work / "logs" / f"{name}.log"
        with ask_server.serving(command, log, self.environment(settings)) as url:
            answers = ask_server.ask_all(url, self.prompts[:6])
        return answers, log.read_text(errors="replace")

    def caches(self):
        """Every way in which rows of a cache change hands. All logits, not only the highest, are those of the CPU."""
        for scenario in SCENARIOS:
            for kv in ("f16", "q8_0"):
                name = f"caches_{scenario}_{kv}"
                drive = ("tiny.gguf", scenario, self.prompts[16], f"kv={kv}", f"threads={self.threads}")
                _, expected, _ = self.drive(name, None, *drive)
                _, logits, log = self.drive(name, EXACT, *drive)
                same = int((expected.argmax(1) == logits.argmax(1)).sum())
                error = relative_error(expected, logits)
                self.report("caches", f"{scenario}, {kv}", same == len(expected) and error < 0.01 and calls(log) > 0,
                            f"same token in {same} of {len(expected)} steps, logits differ by {error:.1e}")

    def models(self):
        """Architectures whose attention is more than a causal mask, in caches whose cells are used again. Their logits are
        no farther from those of a cache and attention in f32 than the CPU backend's are, of the same format of cache."""
        for model in ("gemma2", "gpt-oss", "refact"):
            def logits(name, settings, scenario, *fields, model=model):
                return self.drive(f"models_{model}_{name}", settings, f"{model}.gguf", scenario, self.prompts[16],
                                  f"threads={self.threads}", "prompt=1500", *fields)[1:]

            def compare(name, reference, engine, found, log, alike=True, model=model):
                limit = relative_error(reference, engine)
                error = relative_error(reference, found)
                self.report("models", f"{model}, {name}", (error <= 1.1 * limit) == alike and calls(log) > 0,
                            f"logits differ by {error:.1e} from f32, the CPU backend's by {limit:.1e}, from each other by "
                            f"{relative_error(engine, found):.1e}")

            for scenario in ("plain", "streams", "unified"):
                engines = {}
                reference, _ = logits(f"{scenario}_f32", None, scenario, "kv=f32", "flash=off")
                for kv in ("f16", "q8_0"):
                    engine, _ = logits(f"{scenario}_{kv}_cpu", None, scenario, f"kv={kv}")
                    found, log = logits(f"{scenario}_{kv}", EXACT, scenario, f"kv={kv}")
                    compare(f"{scenario}, {kv}", reference, engine, found, log)
                    engines[kv] = engine
                if scenario == "plain":  # were the comparison blind, it would not see the rounding of q8_0 either
                    compare("plain, q8_0 as f16: differs", reference, engines["f16"], found, log, alike=False)

    def needles(self):
        """Retrieval with a sketch of 2 %: by the host's own program, and after the sketch has seen enough queries to
        select, also where the cells held another prompt before."""
        prompts = [p for p in self.prompts if p["tokens"] > 2000]
        right = visible = attended = 0
        for prompt in prompts[::4]:  # in batches that the plugin takes over: the sketch has seen queries by the question
            text, log = self.complete("needles", SKETCH, prompt, len(prompt["answer"]), "-b", 8, "-ub", 8)
            right += text.decode("latin-1") == prompt["answer"]
            visible += statistic(log, "rows visible")
            attended += statistic(log, "rows attended")
        asked = len(prompts[::4])
        share = attended / max(visible, 1)
        self.report("needles", "llama-completion", right == asked and share < 0.5,
                    f"{right} of {asked} answers, attending to {100 * share:.0f} % of the rows")
        for scenario in ("answer", "restored_answer"):
            right = visible = attended = found = 0
            for prompt in prompts:
                text, _, log = self.drive("needles", SKETCH, "tiny.gguf", scenario, prompt, f"threads={self.threads}",
                                          f"steps={len(prompt['answer'])}")
                right += text.decode("latin-1").startswith(prompt["answer"])
                visible += statistic(log, "rows visible")
                attended += statistic(log, "rows attended")
                found += re.search(r" 0 of them found", log) is None
            share = attended / max(visible, 1)
            # A restored state is no write that anybody reports.
            ok = right >= len(prompts) - 1 and 0 < share < 0.5 and (found > 0) == (scenario == "restored_answer")
            self.report("needles", scenario, ok, f"{right} of {len(prompts)} answers, attending to {100 * share:.0f} % "
                        f"of the rows; stale rows found in {found} runs")

    def speed(self):
        """Decode over a long context, in a model that is little else than attention (32 heads on 8, head_dim 128)."""
        state = self.work / "wide.state"
        state.unlink(missing_ok=True)
        for threads in range(self.threads, 0, -1):  # the first run reads the context
            for name, settings in (("CPU backend", None), ("all", EXACT), ("sketch", {"TANDEM_SELECTOR": "sketch"})):
                text, _, log = self.drive("speed", settings, "wide.gguf", "speed", self.prompts[16],
                                          f"threads={threads}", f"prompt={self.depth}", "steps=64", f"state={state}")
                detail = f"{float(text):.2f} tokens/s after {self.depth} tokens"
                if settings is not None:
                    rows = re.search(r"rows attended +\d+ +([\d.]+ %)", log)
                    detail += f", {rows[1] if rows else 'no'} of the rows attended"
                self.report("speed", f"{name}, {threads} thread(s)", settings is None or calls(log) > 0, detail)
        state.unlink()


def statistic(log, label):
    """A number of TANDEM_STATS=1; 0 when there are none."""
    found = re.search(rf"^  {re.escape(label)} +(\d+)", log, re.M)
    return int(found[1]) if found else 0


def calls(log):
    return statistic(log, "calls (layers x steps)")


def common(a, b):
    """How many bytes are the same from the start on."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def relative_error(expected, logits):
    """Root mean square of the differences over that of the logits about their mean; NaN counts as infinite."""
    centred = expected - expected.mean(1, keepdims=True)
    error = float(np.sqrt(np.square(expected - logits).mean() / np.square(centred).mean()))
    return error if np.isfinite(error) else np.inf


STEPS = ("loading", "ops", "tokens", "server", "caches", "models", "needles", "speed")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bin", "plugin", "work", "data"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("steps", "json"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--depth", type=int, default=32768)
    arguments = parser.parse_args()
    steps = arguments.steps.split(",") if arguments.steps else STEPS
    unknown = [step for step in steps if step not in STEPS]
    if unknown:
        parser.error(f"--steps: '{unknown[0]}' is not allowed; allowed: {', '.join(STEPS)}")
    check = Check(arguments)
    for step in steps:
        try:
            getattr(check, step)()
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
            check.report(step, "could not be run", False, str(error))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(check.results, indent=2) + "\n")
    return int(any(result["result"] != "ok" for result in check.results))


if __name__ == "__main__":
    sys.exit(main())
