"""TandemCache beyond whole generations: changes of the batch, and memory."""
import copy
import pickle
import unittest

import torch
import transformers

import models
import tandem_attention
from with_model import GREEDY, WithModel, exact_cache, forward


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
    def allocated(self, cache):
        """Bytes that torch allocates in a step of one token."""
        with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            forward(self.model, cache, self.ids[:1, -1:])
        return sum(event.cpu_memory_usage for event in profile.events() if event.cpu_memory_usage > 0)

    def test_nothing_is_concatenated(self):
        """What torch allocates in a decode step is as much after 1,000 tokens as after 100; with transformers' cache it is not."""
        row_bytes = 2 * 16 * 4 * 2 * 1002  # K and V of one layer: what a concatenation makes
        grown = {}
        for name, implementation, cache in (("tandem", "tandem", exact_cache(self.model)),
                                            ("transformers", "sdpa", transformers.DynamicCache(config=self.model.config))):
            self.model.set_attn_implementation(implementation)
            forward(self.model, cache, models.prompts(1, 100)[0])
            short = self.allocated(cache)
            forward(self.model, cache, models.prompts(1, 900)[0])
            long = self.allocated(cache)
            self.assertEqual(cache.get_seq_length(), 1002)
            self.assertGreater(short, 0)
            grown[name] = long - short
            if name == "tandem":
                self.assertLess(long, short * 1.01)
        self.assertLess(grown["tandem"], row_bytes / 10)
        self.assertGreater(grown["transformers"], 3 * row_bytes / 2)  # so the measure sees what it is to see

    def test_steps_are_flat(self):
        """No step of a generation allocates more than those before it."""
        self.model.set_attn_implementation("tandem")
        cache = exact_cache(self.model)
        forward(self.model, cache, models.prompts(1, 600)[0])
        steps = [self.allocated(cache) for _ in range(60)]
        self.assertEqual(cache.get_seq_length(), 660)
        self.assertLess(max(steps[5:]), min(steps[5:]) * 1.01)

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


if __name__ == "__main__":
    unittest.main()
