"""TandemCache and attach() beyond whole generations: memory, changes of the batch, steps that fail, and what is refused."""
import copy
import gc
import pickle
import subprocess
import sys
import unittest
import unittest.mock
import warnings

import torch
import transformers

import models
import tandem_attention
from tandem_attention import TandemCache, TandemError
from tandem_attention.transformers import attention, cache_argument, support
from tandem_attention.transformers.calls import LayerCalls

torch.set_grad_enabled(False)
GREEDY = dict(do_sample=False, max_new_tokens=10)


def exact_cache(model, **options):
    return TandemCache(model, **{"selector": "all", **models.WINDOW, **options})


def forward(model, cache, ids, mask=None, **options):
    """Logits of one call of the model."""
    return model(ids, attention_mask=mask, **{cache_argument(model): cache}, **options).logits


class WithModel(unittest.TestCase):
    def setUp(self):
        self.model = models.model("llama")
        self.model.set_attn_implementation("eager")
        self.ids, self.mask = models.prompts()
        attention._announced.clear()
        warnings.simplefilter("error")
        self.addCleanup(warnings.resetwarnings)

    def expected(self, ids, mask=None):
        self.model.set_attn_implementation("eager")
        logits = self.model(ids, attention_mask=mask, use_cache=False).logits
        self.model.set_attn_implementation("tandem")
        return logits

    def near(self, logits, expected, bound=1e-3):
        self.assertLess((logits - expected).abs().max().item(), bound)

    def refused(self, text, call, *args, **options):
        with self.assertRaises(TandemError) as caught:
            call(*args, **options)
        self.assertIn(text, str(caught.exception))


class Batches(WithModel):
    def test_rows_can_be_chosen_repeated_and_reordered(self):
        expected = self.expected(self.ids, self.mask)
        for change, rows in ((lambda cache: cache.reorder_cache(torch.tensor([2, 0, 0])), [2, 0, 0]),
                             (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2]),
                             (lambda cache: cache.batch_select_indices(torch.tensor([2, 1])), [2, 1]),
                             (lambda cache: cache.batch_select_indices(torch.tensor([False, True, False])), [1])):
            with self.subTest(rows=rows):
                cache = exact_cache(self.model)
                forward(self.model, cache, self.ids[:, :115], self.mask[:, :115])
                change(cache)
                self.assertEqual(cache.batch_size, len(rows))
                logits = forward(self.model, cache, self.ids[rows, 115:], self.mask[rows])
                self.near(logits, expected[rows, 115:])

    def test_a_beam_step_forks_once_for_all_layers(self):
        self.model.set_attn_implementation("tandem")
        cache = exact_cache(self.model)
        forward(self.model, cache, self.ids[:, :115], self.mask[:, :115])
        before = [sequence.id for sequence in cache.batch.sequences]
        cache.reorder_cache(torch.tensor([1, 1, 0]))
        after = [sequence.id for sequence in cache.batch.sequences]
        self.assertEqual((after[0], after[2]), (before[1], before[0]))  # kept as they are
        self.assertNotIn(after[1], before)                             # the one fork
        self.assertEqual([cache.batch.sequences[1].length(layer) for layer in range(3)], [95] * 3)

    def test_crop(self):
        expected = self.expected(self.ids, self.mask)
        cache = exact_cache(self.model)
        for _ in range(3):
            forward(self.model, cache, self.ids[:, :115], self.mask[:, :115])
            forward(self.model, cache, self.ids[:, 115:116], self.mask[:, :116])
            cache.crop(-4)
            self.assertEqual(cache.get_seq_length(), 112)
            self.near(forward(self.model, cache, self.ids[:, 112:], self.mask), expected[:, 112:])
            cache.crop(-115)  # into the padding of two rows
            self.assertEqual(([s.length() for s in cache.batch.sequences], cache.get_seq_length()), ([5, 0, 0], 5))
            cache.reset()
        self.refused("the cache is to keep -1 tokens; it has 0", cache.crop, -1)

    def test_reset_and_another_batch(self):
        expected = self.expected(self.ids, self.mask)
        cache = exact_cache(self.model)
        forward(self.model, cache, self.ids, self.mask)
        self.refused("the batch has 1 rows; this cache holds 3 sequences", forward, self.model, cache, self.ids[:1, :1])
        cache.reset()
        self.assertEqual((cache.get_seq_length(), cache.is_initialized, cache.batch_size), (0, False, -1))
        self.near(forward(self.model, cache, self.ids[:1], self.mask[:1]), expected[:1])

    def test_copies_share_a_prefix(self):
        expected = self.expected(self.ids, self.mask)
        prefix = exact_cache(self.model)
        forward(self.model, prefix, self.ids[:, :100], self.mask[:, :100])
        for _ in range(2):
            other = copy.deepcopy(prefix)
            self.near(forward(self.model, other, self.ids[:, 100:], self.mask), expected[:, 100:])
            self.assertEqual((other.get_seq_length(), prefix.get_seq_length()), (120, 100))
        self.refused("cannot be pickled", pickle.dumps, prefix)

    def test_a_token_alone_and_nothing_before_it(self):
        one = self.ids[:, -1:]
        expected = self.expected(one)
        self.near(forward(self.model, exact_cache(self.model), one), expected)

    def test_layers_do_not_answer_for_the_cache(self):
        cache = exact_cache(self.model)
        self.refused("a sequence spans all layers", cache.layers[0].crop, -1)
        self.assertFalse(cache.is_compileable)
        self.assertTrue(cache.is_croppable)
        self.assertEqual(len(cache), 3)


class Memory(WithModel):
    def test_nothing_is_concatenated(self):
        """What torch allocates in a decode step is as much after 1,000 tokens as after 100."""
        self.model.set_attn_implementation("tandem")
        cache = exact_cache(self.model)
        forward(self.model, cache, models.prompts(1, 100)[0])

        def allocated():
            with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                forward(self.model, cache, self.ids[:1, -1:])
            return sum(event.cpu_memory_usage for event in profile.events() if event.cpu_memory_usage > 0)

        short = allocated()
        forward(self.model, cache, models.prompts(1, 900)[0])
        long = allocated()
        self.assertEqual(cache.get_seq_length(), 1002)
        self.assertGreater(short, 0)
        self.assertLess(long, short * 1.01)
        row_bytes = 2 * 16 * 4 * 2 * 1002  # K and V of one layer: what a concatenation would have made
        self.assertLess(long - short, row_bytes / 10)

    def test_rows_leave_with_the_cache(self):
        with tandem_attention.attach(self.model, selector="all", **models.WINDOW) as handle:
            held = []
            for _ in range(3):
                self.model.generate(self.ids, attention_mask=self.mask, **GREEDY)
                held.append(handle.describe()["memory"]["used_bytes"])
            cache = handle.new_cache()
            forward(self.model, cache, torch.cat([self.ids] * 8, 1))
            more = handle.describe()["memory"]["used_bytes"]
            del cache  # without the help of gc.collect(): there is no cycle
            self.assertLess(handle.describe()["memory"]["used_bytes"], more)
        self.assertEqual(held[1], held[2])

    def test_stats(self):
        self.model.set_attn_implementation("tandem")
        cache = exact_cache(self.model)
        forward(self.model, cache, self.ids, self.mask)
        forward(self.model, cache, self.ids[:, -1:], torch.cat([self.mask, torch.ones(3, 1, dtype=int)], 1))
        stats = cache.stats()
        self.assertEqual((stats.num_sequences, len(stats.layers), stats.append.calls, stats.attend.calls), (3, 3, 6, 3))
        self.assertEqual(stats.window_rows + stats.host_rows, 3 * (121 + 101 + 44))
        self.assertEqual(stats.attend.keys_visible, 3 * 4 * (121 + 101 + 44))
        self.assertEqual(sum(layer.host_rows for layer in stats.layers), stats.host_rows)
        self.assertEqual(stats.kv_bytes, stats.host_rows * 2 * 2 * 16 * 4)  # 2 heads, K and V, f32
        self.assertGreater(stats.attend.total_us, 0)
        self.assertAlmostEqual(sum(layer.attend.total_us for layer in stats.layers), stats.attend.total_us, places=3)


class Interrupted(WithModel):
    def test_a_step_that_fails_half_way_is_undone(self):
        expected = self.expected(self.ids, self.mask)
        failing = self.model.model.layers[1].mlp
        cache = exact_cache(self.model)
        for start, end in ((0, 100), (100, 119), (119, 120)):  # a prompt, a chunk, a token
            hook = failing.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
            with self.assertRaises(KeyboardInterrupt):
                forward(self.model, cache, self.ids[:, start:end], self.mask[:, :end])
            hook.remove()
            self.assertEqual(cache.get_seq_length(), start)
            logits = forward(self.model, cache, self.ids[:, start:end], self.mask[:, :end])
            self.near(logits[self.mask[:, start:end].bool()], expected[:, start:end][self.mask[:, start:end].bool()])

    def test_a_step_that_fails_between_cache_and_attention_is_undone(self):
        expected = self.expected(self.ids[:1])
        cache = exact_cache(self.model)
        forward(self.model, cache, self.ids[:1, :119])
        key = torch.randn(1, 2, 1, 16)
        cache.update(key, key, 0)  # and the attention function is never called
        self.near(forward(self.model, cache, self.ids[:1, 119:]), expected[:, 119:])

    def test_generate_after_an_interrupted_generate(self):
        self.model.set_attn_implementation("eager")
        expected = self.model.generate(self.ids, attention_mask=self.mask, **GREEDY)
        with tandem_attention.attach(self.model, selector="all", **models.WINDOW):
            calls = []

            def hook(*_):
                calls.append(1)
                if len(calls) == 4:
                    raise KeyboardInterrupt

            registered = self.model.model.layers[2].mlp.register_forward_pre_hook(hook)
            with self.assertRaises(KeyboardInterrupt):
                self.model.generate(self.ids, attention_mask=self.mask, **GREEDY)
            registered.remove()
            mine = self.model.generate(self.ids, attention_mask=self.mask, **GREEDY)
        self.assertEqual(mine.tolist(), expected.tolist())

    def test_a_refused_step_leaves_the_cache(self):
        expected = self.expected(self.ids[:1])
        cache = exact_cache(self.model)
        forward(self.model, cache, self.ids[:1, :100])
        embeddings = self.model.get_input_embeddings()
        weights = embeddings.weight.clone()
        embeddings.weight[5] = float("nan")
        self.refused("NaN", forward, self.model, cache, torch.full((1, 1), 5))
        embeddings.weight[:] = weights
        self.near(forward(self.model, cache, self.ids[:1, 100:]), expected[:, 100:])

    def interrupted(self, layer, cache, ids, mask=None):
        """A step that an exception ends after the attention of `layer`."""
        hook = self.model.model.layers[layer].mlp.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with self.assertRaises(KeyboardInterrupt):
            forward(self.model, cache, ids, mask)
        hook.remove()

    def test_a_step_that_fails_after_the_last_attention_counts(self):
        expected = self.expected(self.ids, self.mask)
        cache = exact_cache(self.model)
        forward(self.model, cache, self.ids[:, :100], self.mask[:, :100])
        self.interrupted(2, cache, self.ids[:, 100:], self.mask)
        self.assertEqual(cache.get_seq_length(), 120)
        cache.crop(-20)
        self.near(forward(self.model, cache, self.ids[:, 100:], self.mask), expected[:, 100:])

    def test_steps_that_fail_at_the_same_layer(self):
        """Which is how a model of too few layers looks, too: refused once, the cache stays as it was."""
        expected = self.expected(self.ids, self.mask)
        cache = exact_cache(self.model)
        forward(self.model, cache, self.ids[:, :100], self.mask[:, :100])
        self.interrupted(0, cache, self.ids[:, 100:], self.mask)
        self.interrupted(1, cache, self.ids[:, 100:], self.mask)
        self.interrupted(1, cache, self.ids[:, 100:101], self.mask[:, :101])
        self.refused("the next one may be tried again", forward, self.model, cache, self.ids[:, 100:], self.mask)
        self.assertEqual(cache.get_seq_length(), 100)
        self.near(forward(self.model, cache, self.ids[:, 100:], self.mask), expected[:, 100:])

    def test_a_step_that_cannot_be_undone(self):
        """Without a host tier, rows that left the window are gone: the cache says so until it is reset."""
        ids = models.prompts(1, 400)[0]
        expected = self.expected(ids[:, :15])
        cache = exact_cache(self.model, host_tier=False)
        forward(self.model, cache, ids[:, :150])
        self.interrupted(1, cache, ids[:, 150:390])
        for _ in range(3):
            self.refused("only reset() helps this cache", forward, self.model, cache, ids[:, 150:151])
        self.refused("only reset() helps this cache", cache.crop, -1)
        self.refused("only reset() helps this cache", copy.deepcopy, cache)
        self.refused("only reset() helps this cache", cache.batch_repeat_interleave, 2)
        cache.reset()
        self.near(forward(self.model, cache, ids[:, :15]), expected)

    def test_a_refused_crop_changes_no_row(self):
        ids, mask = models.prompts(2, 400, (385, 0))
        cache = exact_cache(self.model, host_tier=False)
        self.model.set_attn_implementation("tandem")
        forward(self.model, cache, ids, mask)
        self.refused("without a host tier", cache.crop, -200)  # row 0 has 15 tokens and could forget them, row 1 cannot
        self.assertEqual(([s.length() for s in cache.batch.sequences], cache.get_seq_length()), ([15, 400], 400))
        self.assertEqual(cache.batch.lengths, [15, 400])
        cache.crop(-1)
        self.assertEqual(([s.length() for s in cache.batch.sequences], cache.get_seq_length()), ([14, 399], 399))


class Refused(WithModel):
    def test_models(self):
        encoder = transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16,
                                                                                num_layers=1, num_heads=2))
        latent = transformers.DeepseekV3Config()
        mamba = transformers.MambaForCausalLM(transformers.MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1))
        for model, text in ((encoder, "encoder-decoder"), (mamba, "cannot use Tandem"),
                            (transformers.AutoModelForCausalLM.from_config(transformers.BloomConfig(
                                vocab_size=64, hidden_size=16, n_layer=1, n_head=2)), "AttentionInterface"),
                            (object(), "allowed: a transformers model")):
            with self.subTest(text):
                self.refused(text, tandem_attention.attach, model)
        self.refused("multi-head latent attention", TandemCache, latent)
        hybrid = transformers.LlamaConfig(num_hidden_layers=2)
        hybrid.layer_types = ["linear_attention", "full_attention"]
        self.refused("layers of type linear_attention; allowed: full_attention, sliding_attention", TandemCache, hybrid)

    def test_options(self):
        for text, options in (("budget is 3", dict(budget=3)), ("'best'; allowed: all", dict(selector="best")),
                              ("num_layers is 3; it comes from the model", dict(num_layers=3)),
                              ("scale is 1.0; it comes from the model", dict(scale=1.0)), ("config.windows", dict(windows=3)),
                              ("local_tokens is -1", dict(local_tokens=-1)), ("select_up_to is 0", dict(select_up_to=0)),
                              ("window_policy.kind is 'dmc'", dict(window_policy={"kind": "dmc"}))):
            with self.subTest(text):
                self.refused(text, tandem_attention.attach, self.model, **options)
                self.assertEqual(self.model.config._attn_implementation, "eager")  # nothing has changed
        handle = tandem_attention.attach(self.model)
        self.refused("attached already", tandem_attention.attach, self.model)
        handle.detach()
        handle.detach()
        self.assertEqual(self.model.config._attn_implementation, "eager")
        self.assertNotIn("generate", vars(self.model))

    def test_versions_of_transformers(self):
        for version, fits in (("4.57.1", False), ("5.8.0", False), ("5.20.9", False), ("5.21.0", True), ("5.24.0.dev0", True),
                              ("5.100.2", True), ("6.0.0", False)):
            with self.subTest(version), unittest.mock.patch.object(transformers, "__version__", version):
                if fits:
                    support.check_version()
                else:
                    self.refused(f"transformers is version {version}; allowed: >=5.21, <6", support.check_version)
        code = ("import transformers; transformers.__version__ = '5.8.0'; import tandem_attention\n"
                "try: tandem_attention.attach\nexcept tandem_attention.TandemError as error: print(error.name, error)")
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(result.stdout.strip(), "TD_EUNSUPPORTED transformers is version 5.8.0; allowed: >=5.21, <6")

    def test_head_dim(self):
        model = models.model("llama", head_dim=1032)
        with tandem_attention.attach(model, selector="all"):
            self.refused("head_dim_k is 1032; allowed: 1 to 1024", model.generate, self.ids[:1], **GREEDY)

    def test_padding_that_is_not_on_the_left(self):
        self.model.set_attn_implementation("tandem")
        right = torch.ones(1, 20, dtype=int)
        for zeros in (slice(15, 20), slice(5, 8)):
            mask = right.clone()
            mask[0, zeros] = 0
            self.refused("only left padding is supported", forward, self.model, exact_cache(self.model), self.ids[:1, :20], mask)

    def test_masks_that_contradict_the_cache(self):
        self.model.set_attn_implementation("tandem")
        cache = exact_cache(self.model)
        forward(self.model, cache, self.ids[:, :100], self.mask[:, :100])
        self.refused("rows with left padding, so every step needs the attention_mask", forward, self.model, cache,
                     self.ids[:, 100:101])
        self.refused("it must be (batch, 101)", forward, self.model, cache, self.ids[:, 100:101], self.mask[:, :60])
        other = self.mask[:, :101].clone()
        other[1, :30] = 0
        self.refused("gives row 1 70 tokens before this step; the cache has 80", forward, self.model, cache,
                     self.ids[:, 100:101], other)
        expected = self.expected(self.ids, self.mask)  # none of these has changed the cache
        self.near(forward(self.model, cache, self.ids[:, 100:], self.mask), expected[:, 100:])

    def test_masks_of_four_dimensions(self):
        self.model.set_attn_implementation("tandem")
        square = torch.ones(3, 1, 120, 120, dtype=bool).tril()
        self.refused("did not come from the mask function 'tandem'", forward, self.model, exact_cache(self.model), self.ids, square)

    def test_a_cache_of_another_model(self):
        self.model.set_attn_implementation("tandem")
        cache = exact_cache(self.model)
        forward(self.model, cache, self.ids)
        for changes in (dict(head_dim=32), dict(num_key_value_heads=4), dict(num_hidden_layers=5)):
            other = models.model("llama", **changes)
            other.set_attn_implementation("tandem")
            with self.subTest(**changes), self.assertRaises((TandemError, IndexError)):
                forward(other, cache, self.ids[:, :1])

    def test_a_model_whose_attention_is_not_tandem(self):
        self.model.set_attn_implementation("sdpa")
        self.refused("the model's attention is not 'tandem'", forward, self.model, exact_cache(self.model), self.ids)

    def test_dtypes(self):
        model = self.model.double()
        model.set_attn_implementation("tandem")
        self.refused("the model computes in torch.float64; allowed: torch.float32", forward, model, exact_cache(model), self.ids)

    def test_dropout(self):
        model = models.model("llama", attention_dropout=0.5).train()
        model.set_attn_implementation("tandem")
        self.refused("dropout is 0.5", forward, model, exact_cache(model), self.ids)


class Attaching(WithModel):
    """What attach() changes in a model, and that detach() changes it back."""

    def test_only_the_decoder_of_a_model_for_images(self):
        tower = dict(model_type="clip_vision_model", hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                     image_size=28, patch_size=14, projection_dim=32)
        decoder = {**self.model.config.to_dict(), "model_type": "llama"}
        model = transformers.LlavaForConditionalGeneration(
            transformers.LlavaConfig(vision_config=tower, text_config=decoder, image_token_id=2)).eval()

        def implementations():
            config = model.config
            return [part._attn_implementation for part in (config, config.text_config, config.vision_config)]

        model.set_attn_implementation({"": "sdpa", "vision_config": "eager", "text_config": "eager"})
        ids = self.ids.clone()
        ids[:, 100:104] = 2  # an image of 2 x 2 patches in each prompt
        inputs = dict(attention_mask=self.mask, pixel_values=torch.rand(3, 3, 28, 28), pad_token_id=0)
        expected = model.generate(ids, **inputs, **GREEDY)
        with tandem_attention.attach(model, selector="all", **models.WINDOW) as handle:
            self.assertEqual(implementations(), ["sdpa", "tandem", "eager"])
            self.assertEqual(model.generate(ids, **inputs, **GREEDY).tolist(), expected.tolist())
            self.assertEqual((len(handle.stats().layers), handle.stats().attend.calls), (3, 27))
        self.assertEqual(implementations(), ["sdpa", "eager", "eager"])

    def test_a_wrapper_of_generate_comes_back(self):
        whole, calls = self.model.generate, []

        def wrapper(*args, **kwargs):
            calls.append(1)
            return whole(*args, **kwargs)

        self.model.generate = wrapper
        with tandem_attention.attach(self.model, selector="all", **models.WINDOW) as handle:
            self.model.generate(self.ids, attention_mask=self.mask, **GREEDY)
            self.assertGreater(handle.stats().attend.calls, 0)
        self.assertEqual((self.model.generate, calls), (wrapper, [1]))

    def test_copies_of_attached_models(self):
        expected = self.model.generate(self.ids, attention_mask=self.mask, **GREEDY)
        with tandem_attention.attach(self.model, selector="all", **models.WINDOW) as handle:
            other = copy.deepcopy(self.model)
            self.refused("cannot be pickled: detach() first", pickle.dumps, self.model)
            for parameter in self.model.parameters():
                parameter.zero_()  # the copy does not go on using this model
            self.assertEqual(other.generate(self.ids, attention_mask=self.mask, **GREEDY).tolist(), expected.tolist())
            self.assertIsNot(other.tandem, handle)
            self.assertIs(other.tandem.model, other)
            self.assertEqual((handle.stats().attend.calls, other.tandem.stats().attend.calls), (0, 27))
        self.assertEqual((self.model.config._attn_implementation, other.config._attn_implementation), ("eager", "tandem"))
        other.tandem.detach()
        self.assertEqual(other.config._attn_implementation, "eager")
        self.assertNotIn("generate", vars(other))
        self.assertEqual(other.generate(self.ids, attention_mask=self.mask, **GREEDY).tolist(), expected.tolist())


class WithoutCache(WithModel):
    """Other caches and none: the implementation "tandem" is then sdpa, or eager attention, with the right masks."""

    def test_announced_once_and_equal(self):
        for name in models.NAMES:
            with self.subTest(name):
                model = models.model(name)
                model.set_attn_implementation("eager")
                expected = model(self.ids, attention_mask=self.mask, use_cache=False).logits
                model.set_attn_implementation("tandem")
                attention._announced.clear()
                with self.assertWarnsRegex(UserWarning, "no TandemCache was given"):
                    logits = model(self.ids, attention_mask=self.mask, use_cache=False).logits
                real = self.mask.bool()
                self.near(logits[real], expected[real])
                self.near(model(self.ids, attention_mask=self.mask).logits[real], expected[real])  # a DynamicCache; no warning

    def test_generate_without_cache_or_with_another(self):
        self.model.set_attn_implementation("eager")
        expected = self.model.generate(self.ids, attention_mask=self.mask, **GREEDY)
        with tandem_attention.attach(self.model, selector="all") as handle:
            with self.assertWarnsRegex(UserWarning, "no TandemCache was given"):
                mine = self.model.generate(self.ids, attention_mask=self.mask, use_cache=False, **GREEDY)
            self.assertEqual(mine.tolist(), expected.tolist())
            other = {handle.cache_name: transformers.DynamicCache(config=self.model.config)}
            mine = self.model.generate(self.ids, attention_mask=self.mask, **other, **GREEDY)
            self.assertEqual(mine.tolist(), expected.tolist())
            self.assertEqual(handle.stats().append.calls, 0)
            with self.assertWarnsRegex(UserWarning, "cache_implementation='offloaded' is not Tandem's"):
                try:
                    self.model.generate(self.ids, attention_mask=self.mask, cache_implementation="offloaded", **GREEDY)
                except (RuntimeError, AssertionError):
                    pass  # offloading is CUDA's; what matters here is that it was left alone

    def test_the_cache_that_old_configurations_name(self):
        """Published ones of Gemma 2 say "hybrid", which transformers drops; others count, also under a configuration of the call."""
        model = models.model("gemma2, softcap and sliding window")
        model.set_attn_implementation("eager")
        expected = model.generate(self.ids, attention_mask=self.mask, **GREEDY)
        for given in ({}, dict(generation_config=transformers.GenerationConfig(pad_token_id=0))):
            with tandem_attention.attach(model, selector="all", **models.WINDOW) as handle:
                model.generation_config.cache_implementation = "hybrid"
                mine = model.generate(self.ids, attention_mask=self.mask, **given, **GREEDY)
                self.assertEqual(mine.tolist(), expected.tolist())
                calls = handle.stats().attend.calls
                self.assertGreater(calls, 0)
                model.generation_config.cache_implementation = "static"
                attention._announced.clear()
                with self.assertWarnsRegex(UserWarning, "cache_implementation='static' is not Tandem's"):
                    mine = model.generate(self.ids, attention_mask=self.mask, **given, **GREEDY)
                self.assertEqual(mine.tolist(), expected.tolist())
                self.assertEqual(handle.stats().attend.calls, calls)

    def test_training(self):
        model = models.model("llama").train()
        with torch.enable_grad(), self.assertWarnsRegex(UserWarning, "no TandemCache was given"):
            model.set_attn_implementation("tandem")
            model(self.ids, labels=self.ids, use_cache=False).loss.backward()
        self.assertGreater(model.model.layers[0].self_attn.q_proj.weight.grad.abs().max().item(), 0)

    def test_gradients_are_missed_aloud(self):
        self.model.set_attn_implementation("tandem")
        with torch.enable_grad(), self.assertWarnsRegex(UserWarning, "has no gradient"):
            forward(self.model, exact_cache(self.model), self.ids)


class Layers(WithModel):
    def test_padding_long_past_does_not_slow_steps_down(self):
        """A token for every row goes the short way, whatever padding the prompt had."""
        self.model.set_attn_implementation("tandem")
        cache = exact_cache(self.model)
        forward(self.model, cache, self.ids[:, :119], self.mask[:, :119])
        self.assertEqual(cache.batch.counts, [119, 99, 42])
        with unittest.mock.patch.object(LayerCalls, "append_rows") as long_way:
            forward(self.model, cache, self.ids[:, 119:], self.mask)
        long_way.assert_not_called()

    def test_a_token_whose_last_dimension_is_not_contiguous(self):
        """Keys, values and queries that a model hands over turned, one at a time, are what their copies are."""
        def attended(turned, tokens, scaling):
            generator = torch.Generator().manual_seed(2)
            cache, outs = exact_cache(self.model), []
            for index in range(6):  # two steps of three layers
                tensors = {name: torch.randn(2, heads, tokens, 16, generator=generator)
                           for name, heads in (("query", 4), ("key", 2), ("value", 2))}
                if turned:
                    tensors[turned] = tensors[turned].transpose(1, 3).contiguous().transpose(1, 3)
                    self.assertNotEqual(tensors[turned].stride(3), 1)
                key, value = cache.update(tensors["key"], tensors["value"], index % 3)
                scale = scaling * (1 + index % 3)  # from layer 1 on, queries are multiplied
                outs.append(attention.tandem_attention(self.model.model.layers[index % 3].self_attn, tensors["query"], key, value,
                                                       None, scaling=scale)[0])
            return torch.stack(outs)

        for tokens in (1, 2):
            expected = attended(None, tokens, 0.25)
            for name in ("query", "key", "value"):
                with self.subTest(name, tokens=tokens):
                    self.near(attended(name, tokens, 0.25), expected, 1e-5)

    def test_a_model_with_fewer_layers_than_its_configuration(self):
        """Cut before the cache is made or after attach(), or for the drafts of early exits: layers that run are what counts."""
        def cut(layers):
            self.model.model.layers = whole[:layers]

        whole, early = self.model.model.layers, dict(assistant_early_exit=1)
        expected = {}
        for layers, options in ((3, {}), (2, {}), (3, early)):
            cut(layers)
            expected[layers, bool(options)] = self.model.generate(self.ids[:1], attention_mask=self.mask[:1], **GREEDY, **options).tolist()
        cut(2)
        self.model.set_attn_implementation("tandem")
        cache = exact_cache(self.model)
        forward(self.model, cache, self.ids)
        self.assertEqual((len(cache), cache.get_seq_length()), (2, 120))
        with tandem_attention.attach(self.model, selector="all", **models.WINDOW) as handle:
            mine = self.model.generate(self.ids[:1], attention_mask=self.mask[:1], **GREEDY).tolist()
            self.assertEqual((mine, len(handle.stats().layers)), (expected[2, False], 2))
            cut(3)
            self.refused("the model has 3 layers; it had 2 at attach()", handle.new_cache)
        with tandem_attention.attach(self.model, selector="all", **models.WINDOW) as handle:
            for layers, options in ((3, {}), (2, {}), (3, early)):
                cut(layers)
                mine = self.model.generate(self.ids[:1], attention_mask=self.mask[:1], **GREEDY, **options).tolist()
                self.assertEqual(mine, expected[layers, bool(options)])
                stats = handle.stats()
                self.assertEqual([layer.window_rows + layer.host_rows > 0 for layer in stats.layers], [True, True, layers == 3])
            cut(2)
            handle.new_cache()
            before = handle.stats().layers
            self.model.generate(self.ids[:1], attention_mask=self.mask[:1], **GREEDY, **early)
            calls = [now.attend.calls - then.attend.calls for now, then in zip(handle.stats().layers, before)]
            self.assertGreater(calls[0], calls[1])  # the drafts were made by layer 0 with Tandem
            self.assertEqual(calls[2], 0)

    def test_a_cache_of_more_layers_than_run(self):
        """Made from the configuration alone it cannot know; a second step that ends early is no accident."""
        cache = exact_cache(self.model.config)
        self.model.set_attn_implementation("tandem")
        self.model.model.layers = self.model.model.layers[:2]
        forward(self.model, cache, self.ids[:1, :100])
        forward(self.model, cache, self.ids[:1, 100:101])
        self.refused("ended after 2 layers, and this cache was made for 3", forward, self.model, cache, self.ids[:1, 101:102])

    def test_layers_of_different_scale(self):
        for index, layer in enumerate(self.model.model.layers):
            layer.self_attn.scaling *= 1 + index / 2
        expected = self.expected(self.ids, self.mask)
        cache = exact_cache(self.model)
        forward(self.model, cache, self.ids[:, :119], self.mask[:, :119])
        self.near(forward(self.model, cache, self.ids[:, 119:], self.mask), expected[:, 119:])

    def test_small_chunks_select_and_large_ones_do_not(self):
        self.model.set_attn_implementation("tandem")
        prompt = models.prompts(1, 2000)[0]
        for tokens, selects in ((1, True), (8, True), (9, False)):
            cache = exact_cache(self.model, selector="topk", budget=0.02, never_slower=False)
            forward(self.model, cache, prompt)
            forward(self.model, cache, prompt[:, :tokens])
            stats = cache.stats().attend
            self.assertEqual(stats.rows_gathered < stats.rows_host, selects)


if __name__ == "__main__":
    unittest.main()
