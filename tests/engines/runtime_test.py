"""Runtime and Sequence over numpy, torch and DLPack."""
import gc
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest

import numpy

import tandem_attention
from tandem_attention import Runtime, TandemError
from tandem_attention.runtime import _empty

try:
    import torch
except ImportError:
    torch = None

FOREIGN = ">" if sys.byteorder == "little" else "<"  # bytes in the other order
SHAPE = dict(num_layers=2, num_q_heads=4, num_kv_heads=2, head_dim_k=16, local_tokens=64, num_threads=2)


def inputs(tokens, seed=0, dim_v=16):
    generator = numpy.random.default_rng(seed)
    return [generator.normal(size=(tokens, heads, dim)).astype("f4") for heads, dim in ((4, 16), (2, 16), (2, dim_v))]


def reference(q, k, v, sinks=None):
    """Attention of the last query over all keys, in double precision: out and lse."""
    logits = numpy.einsum("hd,thd->ht", q[-1].astype("f8"), k.astype("f8").repeat(2, 1)) / 4
    lse = numpy.logaddexp.reduce(logits, 1)
    if sinks is not None:
        lse = numpy.logaddexp(lse, sinks)
    return numpy.einsum("ht,thd->hd", numpy.exp(logits - lse[:, None]), v.astype("f8").repeat(2, 1)), lse


class Codecs(unittest.TestCase):
    def test_have_the_names_of_the_command_line(self):
        for codec, fields in (("none", dict(kind="none")), ("int8", dict(kind="int8")), ("fp8", dict(kind="fp8")),
                              ("kivi4", dict(kind="kivi", bits=4, group=32)), ("kivi2:64", dict(kind="kivi", bits=2, group=64)),
                              ("qjl", dict(kind="qjl", sketch_bits=256, outliers=8)),
                              ("qjl:128,0", dict(kind="qjl", sketch_bits=128, outliers=-1)),
                              ({"kind": "kivi", "bits": 2}, dict(kind="kivi", bits=2, group=32))):
            with self.subTest(codec), Runtime(**{**SHAPE, "head_dim_k": 64, "local_tokens": 192}, window_codec=codec) as runtime:
                described = runtime.describe()["config"]["window_codec"]
                self.assertEqual({name: described.get(name) for name in fields}, fields)


class Splits(unittest.TestCase):
    def test_are_described(self):
        for options, auto in ((dict(), False), (dict(auto_split=True, selector="sketch"), True)):
            with Runtime(**SHAPE, **options) as runtime:
                split = runtime.describe()["split"]
            self.assertEqual((split["auto"], split["selecting_over_dense"]), (auto, 1))
            self.assertEqual(split["measured_steps"], {"dense": 0, "selected": 0})


class OnlyDlpack:
    """What another library's array looks like: nothing but DLPack."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class Arrays(unittest.TestCase):
    def setUp(self):
        self.runtime = Runtime(**SHAPE, host_dtype="f32")
        self.addCleanup(self.runtime.close)

    def test_numpy(self):
        q, k, v = inputs(500)
        with self.runtime.sequence() as sequence:
            stats = sequence.append(0, k, v, q)
            result = sequence.attend(0, q[-1:], with_lse=True, with_error=True)
            info = sequence.info(0)
        out, lse = reference(q, k, v)
        numpy.testing.assert_allclose(result.out[0], out, atol=1e-5)
        numpy.testing.assert_allclose(result.lse[0], lse, atol=1e-5)
        self.assertEqual((result.out.dtype, result.lse.shape, result.error.tolist()), (numpy.float32, (1, 4), [[0, 0, 0, 0]]))
        self.assertEqual(result.certified.tolist(), [[1, 1, 1, 1]])
        self.assertEqual((stats.calls, stats.bytes["append"]), (1, 500 * 2 * 32 * 4))
        self.assertEqual((info["length"], info["window_rows"] + info["host_rows"]), (500, 500))
        self.assertEqual(result.stats.keys_attended, 2000)

    def test_strides_are_read_in_place(self):
        q, k, v = inputs(100)
        turned = [numpy.ascontiguousarray(array.transpose(1, 0, 2)).transpose(1, 0, 2) for array in (q, k, v)]
        backwards = [array[::-1].copy()[::-1] for array in (q, k, v)]
        for q_, k_, v_ in (turned, backwards):
            self.assertFalse(k_.flags["C_CONTIGUOUS"])
            with self.runtime.sequence() as sequence:
                sequence.append(0, k_, v_)
                out = numpy.full((1, 4, 32), 7, "f4")
                sequence.attend(0, q_[-1:], out=out[:, :, :16])
            numpy.testing.assert_allclose(out[0, :, :16], reference(q, k, v)[0], atol=1e-5)
            self.assertTrue((out[:, :, 16:] == 7).all())

    @unittest.skipIf(torch is None, "torch is missing")
    def test_torch(self):
        q, k, v = inputs(300)
        for dtype, bound in ((torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
            tensors = [torch.from_numpy(array).to(dtype) for array in (q, k, v)]
            with self.runtime.sequence() as sequence:
                sequence.append(1, tensors[1], tensors[2], tensors[0])
                result = sequence.attend(1, tensors[0][-1:], with_lse=True)
            self.assertEqual((result.out.dtype, result.lse.dtype), (dtype, torch.float32))
            expected = reference(*[tensor.float().numpy() for tensor in tensors])[0]
            self.assertLess(abs(result.out[0].float().numpy() - expected).max(), bound)

    def test_dlpack(self):
        q, k, v = inputs(90)
        out = numpy.zeros((1, 4, 16), "f4")
        turned = numpy.ascontiguousarray(k.transpose(1, 0, 2)).transpose(1, 0, 2)
        with self.runtime.sequence() as sequence:
            sequence.append(0, OnlyDlpack(turned), OnlyDlpack(v))
            sequence.attend(0, OnlyDlpack(q[-1:]), out=OnlyDlpack(out))
        numpy.testing.assert_allclose(out[0], reference(q, k, v)[0], atol=1e-5)

    @unittest.skipIf(torch is None, "torch is missing")
    def test_dlpack_of_bfloat16(self):
        q, k, v = [torch.from_numpy(array).bfloat16() for array in inputs(90)]
        out = torch.zeros(1, 4, 16)
        with self.runtime.sequence() as sequence:
            sequence.append(0, OnlyDlpack(k), OnlyDlpack(v))
            sequence.attend(0, OnlyDlpack(q[-1:]), out=OnlyDlpack(out))
        numpy.testing.assert_allclose(out[0].numpy(), reference(*[t.float().numpy() for t in (q, k, v)])[0], atol=1e-5)

    def test_batch_sinks_parts_and_sliding_windows(self):
        lengths, sinks = (200, 90), numpy.array([0.5, -1, 2, 0], "f4")
        arrays = [inputs(length, seed) for seed, length in enumerate(lengths)]
        sequences = [self.runtime.sequence() for _ in lengths]
        joined = [numpy.concatenate(parts) for parts in zip(*arrays)]
        self.runtime.append(0, joined[1], joined[2], sequences=sequences, num_tokens=lengths)
        queries = numpy.stack([arrays[0][0][-1], arrays[1][0][-1]])
        result = self.runtime.attend(0, queries, sequences=sequences, num_queries=[1, 1], sinks=sinks)
        for row, (q, k, v) in enumerate(arrays):
            numpy.testing.assert_allclose(result.out[row], reference(q, k, v, sinks)[0], atol=1e-5)
        q, k, v = arrays[0]
        seen = self.runtime.attend(0, q[-1:], sequences=sequences[:1], sliding_window=30)
        numpy.testing.assert_allclose(seen.out[0], reference(q, k[-30:], v[-30:])[0], atol=1e-5)
        parts = [self.runtime.attend(0, q[-1:], sequences=sequences[:1], parts=part, with_lse=True) for part in ("window", "host")]
        weights = [numpy.exp(part.lse[0] - reference(q, k, v)[1])[:, None] for part in parts]
        numpy.testing.assert_allclose(sum(w * part.out[0] for w, part in zip(weights, parts)), reference(q, k, v)[0], atol=1e-5)

    def test_calls_are_prepared_once_and_run_in_halves(self):
        """The bits of append() and attend(), from arrays that stay where they are, with both calls of a step under way."""
        q, k, v = inputs(202)
        token = [array[:1].copy() for array in (q, k, v)]
        with self.runtime.sequence() as one, self.runtime.sequence() as other:
            for sequence in (one, other):
                sequence.append(0, k[:200], v[:200])
            append = self.runtime.prepare_append(0, token[1], token[2], token[0], sequences=[one])
            attend = self.runtime.prepare_attend(0, token[0], sequences=[one], with_lse=True)
            for i in (200, 201):
                for array, new in zip(token, (q, k, v)):
                    array[:] = new[i:i + 1]
                append.begin()
                attend.begin()
                attend.wait()
                append.wait()
                other.append(0, k[i:i + 1], v[i:i + 1], q[i:i + 1])
                expected = other.attend(0, q[i:i + 1], with_lse=True)
                result = attend.result()
                numpy.testing.assert_array_equal(result.out, expected.out)
                numpy.testing.assert_array_equal(result.lse, expected.lse)
                self.assertEqual((result.stats.calls, result.stats.keys_attended), (1, 4 * (i + 1)))
            self.assertEqual(append.result().bytes["append"], 2 * 32 * 4)
            attend.run()
            numpy.testing.assert_array_equal(attend.result().out, expected.out)

    def test_a_begun_call_ends_before_its_memory_goes(self):
        _, k, v = inputs(5000)
        sequence = self.runtime.sequence()
        call = self.runtime.prepare_append(0, k, v, sequences=[sequence])
        call.begin()
        del call, k, v
        gc.collect()
        self.assertEqual(sequence.length(), 5000)

    def test_forks_and_truncation(self):
        q, k, v = inputs(150)
        with self.runtime.sequence() as sequence:
            for layer in range(2):
                sequence.append(layer, k, v)
            with sequence.fork(100) as fork:
                self.assertEqual((fork.length(0), fork.length(1)), (100, 100))
                sequence.truncate(120)
                self.assertEqual(sequence.length(), 120)
                numpy.testing.assert_allclose(fork.attend(1, q[99:100]).out[0], reference(q[:100], k[:100], v[:100])[0], atol=1e-5)

    def test_values_of_another_width(self):
        q, k, v = inputs(90, dim_v=24)
        with Runtime(**SHAPE, head_dim_v=24, host_dtype="f32") as runtime, runtime.sequence() as sequence:
            sequence.append(0, k, v)
            numpy.testing.assert_allclose(sequence.attend(0, q[-1:]).out[0], reference(q, k, v)[0], atol=1e-5)

    def test_threads_work_beside_each_other(self):
        arrays, outs = [inputs(400, seed) for seed in range(4)], [None] * 4

        def work(index):
            q, k, v = arrays[index]
            with self.runtime.sequence() as sequence:
                for start in range(0, 400, 50):
                    sequence.append(0, k[start:start + 50], v[start:start + 50])
                    outs[index] = sequence.attend(0, q[start + 49:start + 50]).out[0]

        threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for (q, k, v), out in zip(arrays, outs):
            numpy.testing.assert_allclose(out, reference(q, k, v)[0], atol=1e-5)

    def test_sequences_end_with_their_last_reference(self):
        def used():
            return self.runtime.describe()["memory"]["used_bytes"]

        _, k, v = inputs(2000)
        after = []
        for _ in range(3):
            sequence = self.runtime.sequence()
            sequence.append(0, k, v)
            held = used()
            del sequence
            gc.collect()
            after.append(used())
            self.assertLess(after[-1], held)
        self.assertEqual(after[1:], after[:-1])  # what calls work in stays, sequences do not

    def test_timeline(self):
        q, k, v = inputs(70)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "timeline.json"
            self.runtime.timeline_start(str(path))
            with self.runtime.sequence() as sequence:
                sequence.append(0, k, v)
                sequence.attend(0, q[-1:])
            self.runtime.timeline_stop()
            names = {event["name"] for event in json.loads(path.read_text())}
        self.assertLessEqual({"td_append", "td_attend"}, names)


class Errors(unittest.TestCase):
    def setUp(self):
        self.runtime = Runtime(**SHAPE)
        self.addCleanup(self.runtime.close)
        self.sequence = self.runtime.sequence()
        self.q, self.k, self.v = inputs(10)

    def refused(self, text, call, *args, status=-1, **options):
        with self.assertRaises(TandemError) as caught:
            call(*args, **options)
        self.assertIn(text, str(caught.exception))
        self.assertEqual(caught.exception.status, status)

    def test_configurations(self):
        for text, options in (
                ("num_q_heads is 3", dict(num_q_heads=3)), ("config.num_head is not a field", dict(num_head=3)),
                ("selector.kind is 'best'", dict(selector="best")), ("budget is 2", dict(selector="topk", budget=2)),
                ("lsh_bits (K) is 40", dict(selector="lsh", lsh_bits=40)), ("host_dtype", dict(host_dtype="f64")),
                ("budget needs a selector by name", dict(selector={"kind": "topk"}, budget=0.1)),
                ("budget needs a selector by name", dict(budget=0.1)), ("device", dict(device="tpu")),
                ("auto_split is on and never_slower is off", dict(auto_split=True, never_slower=False)),
                ("selector.budget is 0.1 and selector.error 0.2; allowed: one", dict(selector="sketch", budget=0.1, error=0.2)),
                ("window_codec is 'kivi3'; allowed: none, int8, fp8, kivi4, kivi4:GROUP", dict(window_codec="kivi3")),
                ("window_codec is 'kivi4:'; allowed: none", dict(window_codec="kivi4:")),
                ("window_codec is 'int8:32'; allowed: none", dict(window_codec="int8:32")),
                ("window_codec is 4; allowed: none", dict(window_codec=4)),
                ("window_codec.kind is 'best'; allowed: none", dict(window_codec={"kind": "best"})),
                ("calibration", dict(window_codec="nuq4")),
                ("is not JSON", dict(topology=object()))):
            with self.subTest(text):
                self.refused(text, Runtime, **{**SHAPE, **options})

    def test_arrays(self):
        append, k, v = self.sequence.append, self.k, self.v
        for text, arrays in (
                ("k has shape (10, 32)", (k.reshape(10, 32), v)), ("k has dtype float64", (k.astype("f8"), v)),
                ("v has dtype int32", (k, v.astype("i4"))), ("k is a list", (k.tolist(), v)),
                ("k has a last dimension with a stride of 8 bytes", (numpy.zeros((10, 2, 32), "f4")[:, :, ::2], v)),
                (f"k has dtype {FOREIGN}f4; its bytes must be in this machine's order", (k.astype(FOREIGN + "f4"), v)),
                (f"v has dtype {FOREIGN}f2; its bytes", (k, v.astype(FOREIGN + "f2"))),
                ("k has 3 heads; expected 2", (numpy.zeros((10, 3, 16), "f4"), v)),
                ("v has 9 tokens; expected 10", (k, v[:9])), ("q has 8 elements", (k, v, self.q[:, :, :8])),
                ("k holds NaN", (k * numpy.nan, v))):
            with self.subTest(text):
                self.refused(text, append, 0, *arrays)
        self.assertEqual(self.sequence.length(), 0)  # nothing has changed

    def test_calls(self):
        sequence, other = self.sequence, self.runtime.sequence()
        sequence.append(0, self.k, self.v)
        self.refused("layer", sequence.append, 5, self.k, self.v)
        self.refused("num_tokens is needed for 2 sequences", self.runtime.append, 0, self.k, self.v, sequences=[sequence, other])
        self.refused("num_tokens has 1 entries for 2", self.runtime.append, 0, self.k, self.v, sequences=[sequence, other],
                     num_tokens=[10])
        self.refused("parts is 'some'", sequence.attend, 0, self.q, parts="some")
        self.refused("sinks has", sequence.attend, 0, self.q, sinks=numpy.zeros(3, "f4"))
        self.refused("sinks has dtype", sequence.attend, 0, self.q, sinks=numpy.zeros(4, FOREIGN + "f4"))
        out = numpy.zeros((1, 4, 16), "f4")
        out.flags.writeable = False
        self.refused("out is read-only", sequence.attend, 0, self.q[-1:], out=out)
        self.assertFalse(out.any())
        self.k.flags.writeable = self.v.flags.writeable = False
        sequence.append(1, self.k, self.v)  # inputs may be
        self.refused("k cannot be read by DLPack: ", sequence.append, 1, OnlyDlpack(self.k), self.v)
        self.refused("out must be given", sequence.attend, 0, OnlyDlpack(self.q))
        self.refused("num_queries", sequence.attend, 0, numpy.zeros((11, 4, 16), "f4"))
        sequence.close()
        self.refused("", sequence.append, 0, self.k, self.v, status=-5)
        self.runtime.close()
        self.runtime.close()
        self.refused("closed", self.runtime.sequence)
        self.refused("closed", other.length)

    def test_calls_in_halves(self):
        self.sequence.append(0, self.k, self.v)
        call = self.runtime.prepare_attend(0, numpy.zeros((11, 4, 16), "f4"), sequences=[self.sequence])
        for early in (call.wait, call.has_ended):
            self.refused("", early, status=-5)
        call.begin()
        for late in (call.begin, call.run, call.result):
            self.refused("has been begun; wait() for it first", late, status=-5)
        while not call.has_ended():
            pass
        self.refused("num_queries[0] is 11", call.wait)
        self.refused("has not been begun, or has been waited for", call.wait, status=-5)
        self.refused("num_queries[0] is 11", call.run)
        self.runtime.close()
        self.refused("closed", call.begin)

    @unittest.skipIf(torch is None, "torch is missing")
    def test_errors_are_written_to_host_memory(self):
        """Beside tensors of a device, of which torch has `meta` everywhere: out and lse lie there, the others do not."""
        on_device = torch.zeros(1, 4, 16, device="meta")
        made = [_empty(on_device, (1, 4), "float32", on_host=on_host) for on_host in (False, True)]
        self.assertEqual([tensor.device.type for tensor in made], ["meta", "cpu"])
        self.assertEqual(_empty(on_device, (1, 4, 16)).device.type, "meta")

    @unittest.skipIf(torch is None, "torch is missing")
    def test_devices(self):
        meta = torch.zeros(10, 2, 16, device="meta")
        self.refused("k is on meta; allowed: cpu, cuda", self.sequence.append, 0, meta, self.v)

    def test_memory_limit(self):
        with Runtime(**{**SHAPE, "host_memory_bytes": 1 << 22}) as runtime, runtime.sequence() as sequence:
            _, k, v = inputs(40000)
            self.refused("", sequence.append, 0, k, v, status=-2)
            self.assertEqual(sequence.length(), 0)


class Library(unittest.TestCase):
    def test_has_the_version_of_the_package(self):
        project = pathlib.Path(__file__).resolve().parents[2] / "tools/python/pyproject.toml"
        self.assertIn(f'\nversion = "{tandem_attention.version()}"', project.read_text())

    def python(self, code, **environment):
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                              env={**os.environ, **environment})

    def test_nothing_else_is_imported(self):
        result = self.python("import sys, tandem_attention; tandem_attention.version(); "
                             "print([name for name in ('torch', 'numpy', 'transformers') if name in sys.modules])")
        self.assertEqual(result.stdout.strip(), "[]", result.stderr)

    @unittest.skipIf((pathlib.Path(tandem_attention.__file__).parent / "libtandem.so").exists(), "the package has a library")
    def test_without_a_library(self):
        for named, text in (("", "TANDEM_LIBRARY is not set"), ("/nowhere/libtandem.so", "which is no file"),
                            (__file__, "cannot be loaded")):
            result = self.python("import tandem_attention\ntry: tandem_attention.version()\n"
                                 "except tandem_attention.TandemError as error: print(error.name, error)", TANDEM_LIBRARY=named)
            self.assertIn(text, result.stdout)
            self.assertIn("TD_EUNSUPPORTED", result.stdout)


if __name__ == "__main__":
    unittest.main()
