"""generate() with Tandem gives the tokens of eager attention: five architectures, five ways of decoding."""
import concurrent.futures
import unittest

import torch

import models
import tandem_attention


def generated(model, ids, mask, options):
    torch.manual_seed(7)
    scores = "num_beams" not in options and "prompt_lookup_num_tokens" not in options
    result = model.generate(ids, attention_mask=mask, return_dict_in_generate=True, output_scores=scores, **options)
    return result.sequences, result.get("scores") or ()


class Generate(unittest.TestCase):
    def compare(self, name, decoding, **attach):
        rows, options = models.DECODING[decoding]
        ids, mask = models.prompts(rows)
        model = models.model(name)
        model.set_attn_implementation("eager")
        expected, expected_scores = generated(model, ids, mask, options)
        with tandem_attention.attach(model, **{"selector": "all", **models.WINDOW, **attach}) as handle:
            tokens, scores = generated(model, ids, mask, options)
            stats = handle.stats()
        self.assertEqual(tokens.tolist(), expected.tolist())
        for mine, reference in zip(scores, expected_scores, strict=True):
            finite = reference.isfinite()  # top_k leaves -inf
            self.assertLess((mine - reference)[finite].abs().max().item(), 1e-3)
        self.assertGreater(stats.attend.rows_host, 0)  # the host tier was used
        self.assertGreater(stats.host_rows, 0)
        self.assertEqual(stats.attend.out_error, 0.0)
        self.assertEqual(len(stats.layers), 3)


def _add_cases():
    for name in models.NAMES:
        for decoding in models.DECODING:
            def case(self, name=name, decoding=decoding):
                self.compare(name, decoding)
            words = f"{name} {decoding}".replace(",", "").replace("-", " ").split()
            setattr(Generate, "test_" + "_".join(words), case)


_add_cases()


class Turns(unittest.TestCase):
    """Steps of several tokens over a cache that has some already."""

    def test_chunks_equal_one_prompt(self):
        for name in models.NAMES:
            for padding in ((0, 0, 0), (0, 20, 77)):
                with self.subTest(name, padding=padding):
                    model = models.model(name)
                    ids, mask = models.prompts(3, 160, padding)
                    model.set_attn_implementation("eager")
                    with torch.no_grad():
                        expected = model(ids, attention_mask=mask, use_cache=False).logits
                    with tandem_attention.attach(model, selector="all", **models.WINDOW) as handle:
                        cache, start = handle.new_cache(), 0
                        for end in (30, 85, 110, 111, 116, 160):  # row 2 begins in the second chunk
                            with torch.no_grad():
                                logits = model(ids[:, start:end], attention_mask=mask[:, :end],
                                               **{handle.cache_name: cache}).logits
                            real = mask[:, start:end].bool()
                            difference = (logits - expected[:, start:end])[real].abs().max().item()
                            self.assertLess(difference, 1e-3, f"tokens {start} to {end}")
                            start = end

    def test_turns_of_a_conversation(self):
        model = models.model("llama")
        first, second = models.prompts(1, 40)[0], models.prompts(1, 9, seed=2)[0]
        model.set_attn_implementation("eager")
        turn = dict(do_sample=False, max_new_tokens=12)
        answer = model.generate(first, attention_mask=torch.ones_like(first), **turn)
        both = torch.cat([answer, second], 1)
        expected = model.generate(both, attention_mask=torch.ones_like(both), **turn)
        with tandem_attention.attach(model, selector="all", **models.WINDOW) as handle:
            cache = {handle.cache_name: handle.new_cache()}
            mine = model.generate(first, attention_mask=torch.ones_like(first), **turn, **cache)
            both = torch.cat([mine, second], 1)
            mine = model.generate(both, attention_mask=torch.ones_like(both), **turn, **cache)
        self.assertEqual(mine.tolist(), expected.tolist())

    def test_prefill_in_chunks_by_generate(self):
        model = models.model("llama")
        ids, mask = models.prompts()
        model.set_attn_implementation("eager")
        options = dict(do_sample=False, max_new_tokens=20)
        expected = model.generate(ids, attention_mask=mask, **options)
        with tandem_attention.attach(model, selector="all", **models.WINDOW):
            mine = model.generate(ids, attention_mask=mask, prefill_chunk_size=16, **options)
        self.assertEqual(mine.tolist(), expected.tolist())


class Others(unittest.TestCase):
    def test_assisted_decoding(self):
        """A small model drafts; both are attached, and their caches are cut back when a draft is refused."""
        model, assistant = models.model("llama"), models.model("llama", num_hidden_layers=1)
        ids, mask = models.prompts(1)
        # Without the padding token: transformers takes one among an assistant's tokens for padding.
        options = dict(do_sample=False, max_new_tokens=40, suppress_tokens=[0])
        model.set_attn_implementation("eager")
        expected = model.generate(ids, attention_mask=mask, **options)
        with tandem_attention.attach(model, selector="all", **models.WINDOW) as handle, \
             tandem_attention.attach(assistant, selector="all", **models.WINDOW) as helper:
            mine = model.generate(ids, attention_mask=mask, assistant_model=assistant, **options)
            self.assertGreater(handle.stats().attend.calls, 0)
            self.assertGreater(helper.stats().attend.calls, 0)
        self.assertEqual(mine.tolist(), expected.tolist())

    def test_threads_generate_beside_each_other(self):
        model = models.model("llama")
        options = dict(do_sample=False, max_new_tokens=30)
        inputs = [models.prompts(1, 100 + 10 * seed, seed=seed) for seed in range(4)]
        model.set_attn_implementation("eager")
        expected = [model.generate(ids, attention_mask=mask, **options).tolist() for ids, mask in inputs]
        with tandem_attention.attach(model, selector="all", **models.WINDOW) as handle:
            with concurrent.futures.ThreadPoolExecutor(4) as threads:
                mine = list(threads.map(lambda pair: model.generate(pair[0], attention_mask=pair[1], **options).tolist(), inputs))
            self.assertEqual(handle.stats().attend.calls, 4 * 3 * 29)  # the first token comes from the prompt
        self.assertEqual(mine, expected)

    def test_several_sequences_for_each_prompt(self):
        model = models.model("qwen2")
        ids, mask = models.prompts(2)
        options = dict(do_sample=True, num_return_sequences=3, max_new_tokens=10)
        model.set_attn_implementation("eager")
        torch.manual_seed(3)
        expected = model.generate(ids, attention_mask=mask, **options)
        with tandem_attention.attach(model, selector="all", **models.WINDOW):
            torch.manual_seed(3)
            self.assertEqual(model.generate(ids, attention_mask=mask, **options).tolist(), expected.tolist())


class Selectors(unittest.TestCase):
    """Every selector runs through generate(), selects, and says so."""

    def test_all_kinds(self):
        ids, mask = models.prompts(2, 1500, (0, 200))
        for selector in (dict(selector="sketch", budget=0.1), dict(selector="sketch", error=0.2), dict(selector="lsh"),
                         dict(selector="topk", budget=0.1), dict(selector="sketch_topk", budget=0.1),
                         dict(selector={"kind": "lsh", "lsh_bits": 6, "lsh_tables": 40})):
            with self.subTest(**selector):
                model = models.model("llama")
                with tandem_attention.attach(model, never_slower=False, **selector) as handle:
                    tokens = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=8)
                    stats = handle.stats()
                    self.assertEqual(handle.describe()["config"]["selector"]["kind"],
                                     selector["selector"] if isinstance(selector["selector"], str) else "lsh")
                self.assertEqual(tokens.shape, (2, 1508))
                if "error" not in selector:  # an error that cannot be estimated makes heads dense
                    self.assertLess(stats.attend.rows_gathered, stats.attend.rows_host)
                if selector["selector"] == "sketch":
                    self.assertGreaterEqual(stats.attend.out_error, 0)

    def test_compressed_window_and_host_rows(self):
        ids, mask = models.prompts(1, 400)
        model = models.model("llama", head_dim=32)
        with tandem_attention.attach(model, selector="all", local_tokens=256, window_codec={"kind": "int8"}, residual_tokens=64,
                                     host_dtype="k8v4") as handle:
            model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=8)
            self.assertGreater(handle.stats().attend.keys_attended, 0)
            self.assertEqual(handle.describe()["config"]["host_dtype"], "k8v4")

    def test_bfloat16(self):
        model = models.model("qwen2").to(torch.bfloat16)
        ids, mask = models.prompts()
        with tandem_attention.attach(model, selector="all", **models.WINDOW) as handle:
            model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=8)
            config = handle.describe()["config"]
        self.assertEqual((config["window_dtype"], config["host_dtype"]), ("bf16", "bf16"))


if __name__ == "__main__":
    unittest.main()
