"""bench/engines/layer_stack.py: its parts by themselves, and its report on the CPU. Times are not judged, how they hang together is."""
import collections
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import torch

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench/engines"
sys.path.insert(0, str(BENCH))

import layer_stack
import tandem_attention
from stack import check, choice, lanes, shapes, stack as stack_parts, steps, timeline, weights
from stack.choice import Candidate, Sides
from standin_gpu import standin_gpu
from synthetic import CHUNK, ExactAttention, LayerRows

TINY = shapes.MODELS["tiny"]
CPU = torch.device("cpu")


def run(*options):
    return subprocess.run([sys.executable, BENCH / "layer_stack.py", *map(str, options)], capture_output=True, text=True, check=False,
                          timeout=300)


def run_here(*options):
    """As run(), without another interpreter that imports torch: exit status, output, errors."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = layer_stack.main([str(option) for option in options])
        except SystemExit as ended:
            status = ended.code
    return status, out.getvalue(), err.getvalue()


class Report(unittest.TestCase):
    """One run over several batches and budgets, and what must be so whatever the machine."""

    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            paths = [pathlib.Path(folder) / name for name in ("report.json", "timeline.json")]
            result = run("--model", "tiny", "--context", "6000", "--window", 256, "--steps", 2, "--batch", "3,5", "--sequences", 2,
                         "--budget", "0.1,0.05", "--threads", 2, "--json", paths[0], "--timeline", paths[1])
            assert result.returncode == 0, result.stderr
            cls.output = result.stdout
            cls.report, cls.timeline = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        cls.ways = {name: cls.report[name] for name in ("ping_pong_off", "ping_pong_on")}

    def test_the_choice_is_the_best_balanced_of_its_candidates(self):
        candidates = self.report["chosen"]["candidates"]
        self.assertEqual({(each["batch"], each["budget"]) for each in candidates}, {(b, s) for b in (3, 5) for s in (0.1, 0.05)})
        best = max(candidates, key=lambda each: min(each["cpu_ms"], each["gpu_ms"]) / max(each["cpu_ms"], each["gpu_ms"]))
        self.assertEqual((self.report["batch"], self.report["budget"]), (best["batch"], best["budget"]))
        self.assertIn(f"batch {best['batch']}, budget {best['budget']:g}", self.report["chosen"]["why"])

    def test_figures_hang_together(self):
        for way in self.ways.values():
            self.assertEqual(way["overlap_efficiency"], max(way["cpu_ms"], way["gpu_ms"]) / way["step_ms"])
            self.assertEqual(way["balance"], min(way["cpu_ms"], way["gpu_ms"]) / max(way["cpu_ms"], way["gpu_ms"]))
            self.assertEqual(way["cpu_over_gpu"], way["cpu_ms"] / way["gpu_ms"])
            self.assertEqual(way["tokens_per_s"], 1e3 * self.report["batch"] / way["step_ms"])
            self.assertEqual((way["cpu_ms"], way["gpu_ms"]), (way["attention_ms"], way["weights_ms"]))  # of the CPU
            self.assertGreater(way["overlap_efficiency"], 0)
            self.assertEqual(way["goal_met"], way["overlap_efficiency"] >= 0.9 and way["balance"] >= 0.5)
            self.assertEqual({len(times["all"]) for times in way["times_ms"].values()}, {2})
            self.assertTrue(all(ms > 0 for times in way["times_ms"].values() for ms in times["all"]))

    def test_ping_pong_reads_the_weights_twice(self):
        once = 2 * TINY.layers * (256 * 8 * 64 + 256 * 256 + 3 * 256 * 512)
        self.assertEqual([way["weight_bytes_read"] for way in self.ways.values()], [once, 2 * once])
        self.assertIn("every half batch reads all weights", self.output)

    def test_both_ways_do_the_same(self):
        off, on = self.ways.values()
        self.assertTrue(self.report["halves_have_the_bits_of_the_whole"])
        self.assertLess(self.report["difference_of_ping_pong"], 0.02)  # torch adds products of another batch in another order
        self.assertEqual((off["rows_host"], off["rows_window"]), (on["rows_host"], on["rows_window"]))
        self.assertLess(abs(off["rows_gathered"] - on["rows_gathered"]), 0.01 * off["rows_gathered"])

    def test_rows_and_errors(self):
        batch, budget = self.report["batch"], self.report["budget"]
        for way in self.ways.values():
            rows = batch * TINY.layers * TINY.kv_heads
            self.assertEqual(way["rows_host"] + way["rows_window"], rows * 6002)  # the steps' own tokens among them
            self.assertGreaterEqual(way["rows_window"], rows * 256)
            self.assertLess(way["rows_window"], rows * (256 + 64 + 5))
            self.assertLess(abs(way["share_of_host_rows"] - budget), 0.2 * budget)
            self.assertEqual(way["share_of_host_rows"], way["rows_gathered"] / way["rows_host"])
            self.assertGreater(way["error_estimate"], 0)
            self.assertGreater(way["worker_ms"]["select"], 0)
        error = self.report["error"]
        self.assertEqual((error["layers"], error["sequences"]), ([0, 2, 3], [0, batch - 1]))
        self.assertLess(error["mean"], 0.1)
        self.assertLessEqual(error["mean"], error["max"])

    def test_forks_are_not_kept_silent(self):
        self.assertEqual(self.report["sequences"], 2)
        self.assertTrue(any(f"2 of {self.report['batch']} sequences are distinct" in note for note in self.report["notes"]))

    def test_timeline_has_weights_beside_calls(self):
        tracks = {event["tid"]: event["args"]["name"] for event in self.timeline if event["name"] == "thread_name"}
        spans = collections.defaultdict(list)
        for event in self.timeline:
            if event["ph"] == "X":
                spans[tracks[event["tid"]]].append(event)
        whole, halves = sorted(spans["steps"], key=lambda each: each["ts"])
        self.assertEqual([whole["name"], halves["name"]], ["step, ping-pong off", "step, ping-pong on"])

        def within(step, names, name=""):
            return [span for track in names for span in spans[track] if name in span["name"] and
                    step["ts"] <= span["ts"] and span["ts"] + span["dur"] <= step["ts"] + step["dur"]]
        callers = [name for name in spans if name.startswith("caller")]
        self.assertEqual(len(callers), 2)  # this thread, and that of begun calls
        for step, groups in ((whole, ["whole batch"]), (halves, ["half batch 1", "half batch 2"])):
            self.assertEqual(len(within(step, callers, "td_attend")), TINY.layers * len(groups))
            for group in groups:
                of_group = within(step, [f"weights, {group}"])
                self.assertEqual([span["args"]["layer"] for span in of_group], list(range(TINY.layers + 1)))
        # What is drawn beside the calls lies where it belongs: a layer's attention of the whole batch between two segments.
        segments, calls = within(whole, ["weights, whole batch"]), within(whole, callers, "td_attend")
        for layer, call in enumerate(sorted(calls, key=lambda each: each["ts"])):
            self.assertEqual(call["args"]["layer"], layer)
            self.assertLessEqual(segments[layer]["ts"] + segments[layer]["dur"], call["ts"])
            self.assertLessEqual(call["ts"] + call["dur"], segments[layer + 1]["ts"])


class RuntimeOnHost(tandem_attention.Runtime):
    """In place of one on the GPU that torch only seems to have."""

    def __init__(self, **options):
        assert options["device"] == "cuda:0"
        super().__init__(**{**options, "device": "host"})


class OnAGpu(unittest.TestCase):
    """What runs on a GPU alone: streams, graphs, and which side windows count for, on a stand-in for one."""

    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.device = stack.enter_context(standin_gpu())
        stack.enter_context(mock.patch.object(tandem_attention, "Runtime", RuntimeOnHost))

    def report(self, *options):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "report.json"
            status, _, errors = run_here("--model", "tiny", "--device", "cuda:0", "--context", "5000", "--window", 256, "--steps", 2,
                                         "--batch", 3, "--budget", 0.05, *options, "--json", path)
            self.assertEqual(status, 0, errors)
            return json.loads(path.read_text(encoding="utf-8")), errors

    def test_report(self):
        report, _ = self.report()
        self.assertTrue(report["cuda_graphs"])
        self.assertIsNone(report["cuda_graphs_refused"])
        for way in (report["ping_pong_off"], report["ping_pong_on"]):
            self.assertEqual(way["cpu_ms"], way["host_tier_ms"])
            self.assertEqual(way["gpu_ms"], way["weights_ms"] + way["window_calls_ms"])  # the stand-in has no spans of windows
        self.assertTrue(report["halves_have_the_bits_of_the_whole"])
        self.assertLess(report["difference_of_ping_pong"], 0.02)
        self.assertLess(report["error"]["mean"], 0.1)

    def test_graphs_that_cannot_be_captured_are_said(self):
        def refuse(*_, **__):
            raise RuntimeError("CUDA error: operation not permitted\nmore")

        with mock.patch.object(torch.cuda, "graph", refuse):
            report, errors = self.report("--ping-pong", "off")
        self.assertEqual((report["cuda_graphs"], report["cuda_graphs_refused"]), (False, "CUDA error: operation not permitted"))
        self.assertIn("no CUDA graphs, Python launches each kernel", errors)

    def test_graphs_and_streams(self):
        """A step by graphs has the bits of one without, and no stream has anything left when it is over."""
        rows, made = LayerRows(TINY.kv_heads, TINY.q_heads, TINY.head_dim), []
        ours = weights.Weights(TINY, 2, self.device)
        for graphs in (False, True):
            lanes_ = stack_parts.Lanes(ours, 3, graphs)
            self.assertEqual(lanes_.graphs, graphs)
            caches = stack_parts.Stack(ours, stack_parts.Split(5000, 256, "all", None, None, 1, 0, 2, False), 3, rows)
            lanes_.attach(caches)
            whole, first, second = [lane.stream for lane in lanes_.all]
            self.assertIs(whole, first)
            self.assertIsNot(first, second)
            for work in (lambda: steps.step(lanes_.whole[0]), lambda: steps.ping_pong_step(lanes_.halves)):
                lanes_.reset(caches.length)
                steps.seconds_of(work, lanes_.all)
                caches.truncate()
                self.assertEqual((first.pending, second.pending), (0, 0))
                made.append(lanes_.tokens.x.clone())
            caches.close()
        self.assertTrue(torch.equal(made[0], made[2]))
        self.assertTrue(torch.equal(made[1], made[3]))
        self.assertGreater((made[0] - lanes_.tokens.start).norm().item(), 1)


class Options(unittest.TestCase):
    def test_exact_attention_is_exact(self):
        """Every row, as a selector and by dense layers: nothing is missed, and what is left is the error of bf16."""
        for options in (("--selector", "all"), ("--budget", "0.05", "--dense-layers", TINY.layers)):
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "report.json"
                status, _, errors = run_here("--model", "tiny", "--context", "5000", "--window", 256, "--steps", 1, "--batch", 1,
                                             "--ping-pong", "off", *options, "--json", path)
                self.assertEqual(status, 0, errors)
                report = json.loads(path.read_text(encoding="utf-8"))
            self.assertNotIn("ping_pong_on", report)
            self.assertNotIn("halves_have_the_bits_of_the_whole", report)
            way = report["ping_pong_off"]
            self.assertEqual((way["share_of_host_rows"], way["keys_attended"], way["error_estimate"]), (1, 1, 0))
            self.assertLess(report["error"]["max"], 0.01)
            self.assertIn("given: batch 1", report["chosen"]["why"])

    def test_bad_input_is_refused(self):
        for options, texts in (
                (("--batch", "0"), ("--batch", "'0'", "1 or more")), (("--batch", "2,x"), ("--batch", "'x'")),
                (("--batch", 1), ("--batch is 1", "2 or more, or --ping-pong off")), (("--model", "gpt"), ("'gpt'", "llama-3.1-8b")),
                (("--layers", 5), ("--layers is 5", "1 to 4")), (("--dense-layers", 5), ("--dense-layers is 5", "0 to 4")),
                (("--context", "many"), ("'many'", "e.g. 4096 or 4K")), (("--context", "4K"), ("--window is 4096", "4096")),
                (("--budget", "0.1,2"), ("--budget", "'2'", "up to 1")), (("--error", 1), ("--error", "'1'", "below 1")),
                (("--budget", 0.1, "--selector", "lsh"), ("--budget", "'lsh'", "sketch")),
                (("--budget", 0.1, "--error", 0.1), ("--error is 0.1", "without --budget")),
                (("--sequences", "few"), ("--sequences", "'few'", "1 or more")), (("--steps", 0), ("--steps", "'0'")),
                (("--device", "tpu"), ("--device is 'tpu'", "cpu")), (("--device", "cuda:99"), ("--device is 'cuda:99'", "cpu")),
                (("--json", "/nowhere/report.json"), ("--json is '/nowhere/report.json'", "writeable"))):
            with self.subTest(options):
                status, output, errors = run_here("--model", "tiny", *options)
                self.assertEqual((status, output), (2, ""))
                for text in texts:
                    self.assertIn(text, errors)

    def test_what_does_not_fit_is_refused_before_it_starts(self):
        status, output, errors = run_here("--context", "1000000K", "--batch", 2)
        self.assertEqual((status, output), (3, ""))
        self.assertRegex(errors, r"2 caches of [\d.]+ GiB and [\d.]+ GiB beside them need [\d.]+ GiB of host memory, of which")
        self.assertNotIn("weights", errors)

    def test_help_teaches(self):
        status, text, _ = run_here("--help")
        self.assertEqual(status, 0)
        for what in ("examples:", "--ping-pong", "reads all", "Overlap efficiency is"):
            self.assertIn(what, text)


class Choice(unittest.TestCase):
    def test_sides(self):
        for cpu, gpu in ((3, 4), (4, 3)):
            sides = Sides(cpu, gpu)
            self.assertEqual((sides.balance, sides.efficiency(5)), (0.75, 0.8))
            self.assertEqual(sides.times(2), Sides(2 * cpu, 2 * gpu))
        self.assertTrue(choice.judge(Sides(3, 5), 5.5)["goal_met"])
        self.assertFalse(choice.judge(Sides(3, 5), 6)["goal_met"])  # overlaps too little
        self.assertFalse(choice.judge(Sides(2, 5), 5.1)["goal_met"])  # one side is too short to be worth it

    def test_choose(self):
        near, far, equal = Candidate(4, 0.01, Sides(6, 5)), Candidate(8, 0.02, Sides(9, 5)), Candidate(4, 0.02, Sides(6, 5))
        self.assertIs(choice.choose([far, near])[0], near)
        self.assertIs(choice.choose([near, equal])[0], equal)  # more rows, for the same
        self.assertIn("a smaller --batch or --budget would come nearer", choice.choose([Candidate(2, 0.1, Sides(9, 1))] * 2)[1])
        self.assertIn("a larger --batch or --budget", choice.choose([Candidate(2, 0.1, Sides(1, 9))] * 2)[1])
        self.assertNotIn("none keeps", choice.choose([near, far])[1])


class Memory(unittest.TestCase):
    def of(self, **changes):
        return shapes.memory_of(shapes.MODELS["llama-3.1-8b"], **{**dict(layers=32, context=131072, window=4096, batch=8, sequences=4,
                                                                         selector="all", on_gpu=True), **changes})

    def test_figures(self):
        memory = self.of()
        self.assertEqual(memory.cache, 16 * shapes.GIB)  # 4 KiB a token and layer
        self.assertEqual(self.of(layers=1).cache * 32, memory.cache)
        self.assertEqual(self.of(selector="sketch").cache, 16 * shapes.GIB + 32 * 131072 * 8 * 38)
        self.assertEqual(self.of(on_gpu=False).other, memory.device)  # what lay on the GPU
        self.assertEqual(memory.host, 64 * shapes.GIB + memory.other)
        self.assertAlmostEqual(shapes.MODELS["llama-3.1-8b"].weight_bytes() / 2e6, 218.1, places=1)  # million parameters

    def test_refusals_offer_what_fits(self):
        memory = self.of()
        self.assertEqual(shapes.refusal(memory, 32, memory.host), "")
        free = 40 * shapes.GIB
        text = shapes.refusal(memory, 32, free)
        self.assertIn("--sequences 2", text)
        few = shapes.layers_that_fit(memory, 32, free)
        self.assertIn(f"--layers {few}", text)
        self.assertLessEqual(self.of(layers=few).host, free)
        self.assertGreater(self.of(layers=few + 1).host, free)
        self.assertLessEqual(self.of(sequences=shapes.sequences_that_fit(memory, free)).host, free)
        self.assertGreater(self.of(sequences=shapes.sequences_that_fit(memory, free) + 1).host, free)
        nothing = shapes.refusal(memory, 32, shapes.GIB // 2)
        self.assertNotIn("--sequences", nothing)
        self.assertIn("a shorter --context", nothing)


class Synthetic(unittest.TestCase):
    def test_rows_are_a_function_of_their_place(self):
        rows, again = LayerRows(2, 4, 64), LayerRows(2, 4, 64)
        first = rows.chunk(1, 0, CHUNK, 100)
        rows.chunk(0, 0, 0, CHUNK)
        for a, b in zip(first, again.chunk(1, 0, CHUNK, 100)):
            self.assertTrue(torch.equal(a, b))
        for other in ((0, 0, CHUNK), (1, 1, CHUNK), (1, 0, 0), (1, 0, 2 * CHUNK)):
            for a, b in zip(first, rows.chunk(*other, 100)):
                self.assertFalse(torch.equal(a, b))

    def test_rows_are_normal_about_a_mean_that_chunks_share(self):
        keys, values = [torch.cat(parts).float() for parts in zip(*(LayerRows(2, 4, 64).chunk(0, 0, i * CHUNK, CHUNK) for i in range(4)))]
        for part, scales in ((keys, (1, 3)), (values, (1, 1))):
            spread = (part - part.mean(0)).std((0, 2))
            for measured, scale in zip(spread.tolist(), scales):
                self.assertAlmostEqual(measured / scale, 1, delta=0.02)
        # Rows of different chunks at the same place have the mean in common and nothing else.
        centred = keys - keys.mean(0)
        products = (centred[:CHUNK] * centred[CHUNK:2 * CHUNK]).sum(-1).flatten() / centred[:CHUNK].square().sum(-1).flatten()
        self.assertLess(abs(products.mean().item()), 0.2)

    def test_exact_attention_by_pieces(self):
        rows = LayerRows(2, 4, 64)
        queries, (keys, values) = rows.queries[7], rows.chunk(0, 0, 0, 300)
        exact = ExactAttention(queries, 2)
        for first in (0, 100, 101):
            last = {0: 100, 100: 101, 101: 300}[first]
            exact.add(keys[first:last], values[first:last])
        q, k, v = [each.double().transpose(0, 1) for each in (queries[None], keys, values)]
        expected = torch.nn.functional.scaled_dot_product_attention(q[None], k[None], v[None], enable_gqa=True)[0, :, 0]
        self.assertLess((exact.out() - expected).abs().max().item(), 1e-5)


class Layers(unittest.TestCase):
    def test_they_are_a_llama_of_transformers(self):
        """One token that sees itself alone, so that attention's result is its value; and RoPE by itself."""
        try:
            import transformers
            from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding, apply_rotary_pos_emb
        except ImportError as missing:
            self.skipTest(str(missing))
        shape, ours = TINY, weights.Weights(TINY, 2, CPU)
        config = transformers.LlamaConfig(hidden_size=shape.hidden, intermediate_size=shape.intermediate, head_dim=shape.head_dim,
                                          num_attention_heads=shape.q_heads, num_key_value_heads=shape.kv_heads, rms_norm_eps=1e-5,
                                          rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta})
        config._attn_implementation = "eager"
        rotary = LlamaRotaryEmbedding(config)
        tokens = weights.Tokens(shape, 3, CPU)
        x = tokens.start.clone()[:, None].float()
        with torch.no_grad():
            for index, layer in enumerate(ours._layers):
                theirs = LlamaDecoderLayer(config, 0)
                q, k, v = layer["qkv"].split([shape.q_heads * 64, shape.kv_heads * 64, shape.kv_heads * 64])
                gate, up = layer["gate_up"].chunk(2)
                for module, weight in ((theirs.self_attn.q_proj, q), (theirs.self_attn.k_proj, k), (theirs.self_attn.v_proj, v),
                                       (theirs.self_attn.o_proj, layer["o"]), (theirs.mlp.gate_proj, gate), (theirs.mlp.up_proj, up),
                                       (theirs.mlp.down_proj, layer["down"])):
                    module.weight.copy_(weight)
                x = theirs(x, position_embeddings=rotary(x, torch.tensor([[5]])))
                ours.rotation.set(5)
                ours.segment(index, tokens, slice(0, 3))
                tokens.out.copy_(tokens.v.repeat_interleave(shape.q_heads // shape.kv_heads, 1))
            ours.segment(2, tokens, slice(0, 3))
            self.assertLess(((tokens.x - x[:, 0]).norm() / x.norm()).item(), 0.01)
            self.assertGreater(((tokens.x - tokens.start).norm() / x.norm()).item(), 0.1)
            heads = torch.randn(1, 4, 1, 64)
            cos, sin = rotary(heads, torch.tensor([[6001]]))
            ours.rotation.set(6001)
            expected = apply_rotary_pos_emb(heads, heads, cos, sin)[0]
            self.assertLess(((ours.rotation(heads) - expected).norm() / expected.norm()).item(), 0.01)

    def test_halves(self):
        self.assertEqual([lanes.halves(batch) for batch in (2, 5)], [[slice(0, 1), slice(1, 2)], [slice(0, 3), slice(3, 5)]])


class Recorded:
    """A lane that notes what it is told to do."""

    num_segments = 4

    def __init__(self, name, log):
        self.name, self._log = name, log

    def __getattr__(self, what):
        return lambda index=None: self._log.append((self.name, what, index))


class Steps(unittest.TestCase):
    def test_ping_pong(self):
        log = []
        steps.ping_pong_step([Recorded("a", log), Recorded("b", log)])
        for name in "ab":
            mine = [(what, index) for lane, what, index in log if lane == name]
            expected = [("segment", 0)]
            for layer in range(3):
                expected += [("begin", layer), ("wait", layer), ("segment", layer + 1)]
            self.assertEqual(mine, expected)
        # While one half's attention is under way, the other half is given weight products, which is what overlaps.
        for layer in range(3):
            for name, other in ("ab", "ba"):
                begun, waited = log.index((name, "begin", layer)), log.index((name, "wait", layer))
                between = {(lane, what) for lane, what, _ in log[begun:waited]}
                self.assertIn((other, "segment"), between)
        # And nobody is waited for while nothing else is under way, but at the end.
        under_way = 0
        for _, what, index in log:
            under_way += {"begin": 1, "wait": -1}.get(what, 0)
            if what == "wait" and index < 2:
                self.assertEqual(under_way, 1)

    def test_weights_of_halves_are_not_read_at_the_same_time(self):
        log = []
        pair = [Recorded("a", log), Recorded("b", log)]
        steps.weights_alone(pair)
        self.assertEqual([entry[:2] for entry in log[:6]], [("a", "follow"), ("a", "segment"), ("b", "follow"), ("b", "segment")] +
                         [("a", "follow"), ("a", "segment")])
        self.assertEqual([entry[2] for entry in log if entry[1] == "follow"][1:3], pair)

    def test_sample(self):
        for count in (1, 2, 3, 5, 32):
            found = check.sample(count, 3)
            self.assertEqual((found[0], found[-1], len(found)), (0, count - 1, min(3, count)))


class Timelines(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = str(pathlib.Path(folder.name) / "t.json")

    def write(self, *spans):
        events = [{"ph": "M", "pid": 9, "tid": 0, "name": "process_name", "args": {"name": "tandem"}},
                  {"ph": "M", "pid": 9, "tid": 0, "name": "tandem_timeline", "args": {"dropped_spans": 0, "start_ns": 5_000_000}},
                  {"ph": "M", "pid": 9, "tid": 3, "name": "thread_name", "args": {"name": "GPU"}}]
        events += [{"ph": "X", "pid": 9, "tid": tid, "name": "x", "ts": ts, "dur": dur, "args": {}} for tid, ts, dur in spans]
        pathlib.Path(self.path).write_text(json.dumps(events), encoding="utf-8")

    def test_spans_are_put_where_the_clock_says(self):
        self.write((3, 10, 20))
        timeline.add_spans(self.path, [timeline.Span("half batch 1", 2, 6_000_000, 6_500_000)], [("step", 5_500_000, 8_000_000)])
        events = json.loads(pathlib.Path(self.path).read_text(encoding="utf-8"))
        added = {event["name"]: event for event in events if event["ph"] == "X" and event["tid"] > 3}
        self.assertEqual((added["segment 2"]["ts"], added["segment 2"]["dur"]), (1000, 500))
        self.assertEqual((added["step"]["ts"], added["step"]["dur"]), (500, 2500))
        names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
        self.assertEqual(names, {3: "GPU", 4: "steps", 5: "weights, half batch 1"})

    def test_the_devices_time_is_summed_by_step(self):
        self.write((3, 100, 2000), (3, 4000, 500), (2, 4000, 9999), (3, 9000, 100))
        marks = [("off", 5_000_000, 8_000_000), ("on", 8_000_000, 10_000_000)]
        self.assertEqual(timeline.device_ms(self.path, "GPU", marks), {"off": 2.0, "on": 0.5})
        self.assertEqual(timeline.device_ms(self.path, "another", marks), {"off": None, "on": None})

    def test_events_of_a_gpu_are_brought_to_the_steady_clock(self):
        class Clock:
            def ns(self, event):
                return 1000 * event

        spans = [timeline.Span("a", 0, 1, 2)]
        self.assertEqual(timeline.on_steady_clock(spans, Clock()), [("a", 0, 1000, 2000)])
        self.assertEqual(timeline.on_steady_clock(spans, None), spans)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    unittest.main()
