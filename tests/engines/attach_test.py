"""attach() and detach(): what they refuse, what they change in a model, and the model with other caches."""
import copy
import pickle
import subprocess
import sys
import unittest
import unittest.mock

import torch
import transformers

import models
import tandem_attention
from tandem_attention import TandemCache
from tandem_attention.transformers import attention, support
from with_model import GREEDY, WithModel, exact_cache, forward


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
        sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
        for encoder in (transformers.BertModel(transformers.BertConfig(vocab_size=64, **sizes)),
                        transformers.ViTModel(transformers.ViTConfig(image_size=28, patch_size=14, **sizes))):
            self.refused("its attention is not causal; allowed: decoders", tandem_attention.attach, encoder)
        decoder = transformers.BertLMHeadModel(transformers.BertConfig(vocab_size=64, is_decoder=True, **sizes))
        tandem_attention.attach(decoder).detach()
        self.refused("multi-head latent attention", TandemCache, latent)
        hybrid = transformers.LlamaConfig(num_hidden_layers=2)
        hybrid.layer_types = ["linear_attention", "full_attention"]
        self.refused("layers of type linear_attention; allowed: full_attention, sliding_attention", TandemCache, hybrid)

    def test_options(self):
        for text, options in (("budget is 3", dict(budget=3)), ("'best'; allowed: all", dict(selector="best")),
                              ("num_layers is 3; it comes from the model", dict(num_layers=3)),
                              ("scale is 1.0; it comes from the model", dict(scale=1.0)), ("config.windows", dict(windows=3)),
                              ("budget is 0.02 and error is 0.1; allowed: one", dict(budget=0.02, error=0.1)),
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


class Changed(WithModel):
    """What a model may become between steps."""

    def test_another_dtype_is_named(self):
        model = models.model("llama")
        with tandem_attention.attach(model, selector="all"):
            model.generate(self.ids[:1], **GREEDY)
            model.bfloat16()
            self.refused("dtype is torch.bfloat16, before it was torch.float32; where the model has changed, attach() it anew", model.generate,
                         self.ids[:1], **GREEDY)

    def test_autocast(self):
        model = models.model("llama")
        with torch.autocast("cpu", torch.bfloat16):
            model.set_attn_implementation("sdpa")
            expected = model(self.ids[:1]).logits.float()
            with tandem_attention.attach(model, selector="all") as handle:
                cache = handle.new_cache()
                got = [model(part, **{handle.cache_name: cache}).logits.float() for part in self.ids[:1].split([90, 1, 29], 1)]
        self.assertLess((torch.cat(got, 1)[0, 89:] - expected[0, 89:]).norm() / expected[0, 89:].norm(), 0.02)

    def test_the_layer_of_bad_numbers_is_named(self):
        model = models.model("llama")
        with torch.no_grad():
            model.model.layers[1].self_attn.k_proj.weight[0, 0] = float("nan")
        with tandem_attention.attach(model, selector="all"):
            self.refused("layer 1: k holds NaN or infinity in token 0", model.generate, self.ids[:1], **GREEDY)


class Telling(WithModel):
    """What print(stats()) says, and that topk selects because it was asked for."""

    def test_stats_as_text(self):
        with tandem_attention.attach(self.model, selector="topk", budget=0.1, **models.WINDOW) as handle:
            self.assertIn("no call yet", str(handle.stats()))
            self.model.generate(self.ids, attention_mask=self.mask, **GREEDY)
            text = str(handle.stats())
            self.assertLess(handle.stats().attend.keys_attended, handle.stats().attend.keys_visible)
        for part in ("calls (layers x steps)", "% of those that queries saw", "unknown of the output", "in the window", "MiB"):
            self.assertIn(part, text)
        with tandem_attention.attach(self.model, selector="all", **models.WINDOW) as handle:
            self.model.generate(self.ids, attention_mask=self.mask, **GREEDY)
            self.assertIn("all of them", str(handle.stats()))


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


if __name__ == "__main__":
    unittest.main()
