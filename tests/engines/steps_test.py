"""Single steps of a TandemCache: those that fail, those that are refused, and which way each layer goes."""
import copy
import unittest
import unittest.mock

import torch

import models
import tandem_attention
from tandem_attention import TandemError
from tandem_attention.transformers import attention
from tandem_attention.transformers.calls import LayerCalls
from with_model import GREEDY, WithModel, exact_cache, forward


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

    def test_tensors_that_differ(self):
        """In dtype or device: of one layer, of the layers, and from step to step."""
        def attended(cache, query, key, value, layer=0):
            key, value = cache.update(key, value, layer)
            return attention.tandem_attention(self.model.model.layers[layer].self_attn, query, key, value, None, scaling=0.25)

        for tokens in (1, 3):
            query, key = torch.randn(1, 4, tokens, 16), torch.randn(1, 2, tokens, 16)
            for text, tensors in (
                    ("key has torch.float16 on cpu, query has torch.float32 on cpu", (query, key.half(), key)),
                    ("value has torch.float32 on meta, query has torch.float32 on cpu", (query, key, key.to("meta"))),
                    ("the model is on meta; allowed: cpu, cuda", (query.to("meta"), key.to("meta"), key.to("meta"))),
                    ("they must be (rows, heads, tokens, dim) of the same rows and tokens", (query, key, key.repeat(2, 1, 1, 1)))):
                with self.subTest(text, tokens=tokens):
                    cache = exact_cache(self.model)
                    self.refused(text, attended, cache, *tensors)
                    self.assertEqual(cache.get_seq_length(), 0)
            cache = exact_cache(self.model)
            attended(cache, query, key, key)
            self.refused("does not fit this cache", attended, cache, query.half(), key.half(), key.half(), 1)

    def test_dropout(self):
        model = models.model("llama", attention_dropout=0.5).train()
        model.set_attn_implementation("tandem")
        self.refused("dropout is 0.5", forward, model, exact_cache(model), self.ids)


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
