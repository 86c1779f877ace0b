"""The project's small model answers questions about facts far back through transformers, attending to 2 % of the host rows."""
import json
import pathlib
import unittest

import torch
import transformers

import tandem_attention

DATA = pathlib.Path(__file__).resolve().parents[2] / "tools/data"
LENGTHS = (4000, 8200)  # tokens of the prompts: 4K and 8K


def needles():
    """(token ids of the prompt, tokens of its question, answer) of the held-out prompts of 4K and 8K tokens."""
    for line in (DATA / "needle_prompts.jsonl").read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        if LENGTHS[0] <= item["tokens"] <= LENGTHS[1]:
            text = (item["context"] + item["question"]).encode("latin-1")
            yield torch.tensor([[256, *text]]), len(item["question"]), item["answer"].encode("latin-1")


class Needles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(2)
        cls.model = transformers.AutoModelForCausalLM.from_pretrained(DATA / "tiny-llama", dtype=torch.float32).eval()
        cls.needles = list(needles())

    def right_answers(self, prompts, handle=None):
        """How many of the prompts greedy decoding answers byte by byte. With a handle, the question is read sparsely, too:
        8 tokens at a time, after the context."""
        right = 0
        for prompt, question, answer in prompts:
            cache = {}
            if handle is not None:
                cache = {handle.cache_name: handle.new_cache()}
                ends = [prompt.shape[1] - question, *range(prompt.shape[1] - question + 8, prompt.shape[1], 8)]
                with torch.no_grad():
                    for start, end in zip([0, *ends], ends):
                        self.model(prompt[:, start:end], logits_to_keep=1, **cache)
            tokens = self.model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                                         max_new_tokens=len(answer), eos_token_id=None, **cache)
            right += tokens[0, prompt.shape[1]:].tolist() == list(answer)
        return right

    def test_two_percent_of_the_rows_answer_as_dense_attention_does(self):
        self.assertEqual({prompt.shape[1] // 2048 for prompt, _, _ in self.needles}, {1, 3})  # 4K and 8K, both
        dense = self.right_answers(self.needles)
        with tandem_attention.attach(self.model, selector="sketch", budget=0.02, never_slower=False) as handle:
            sparse = self.right_answers(self.needles, handle)
            stats = handle.stats().attend
        self.assertGreaterEqual(dense, len(self.needles) - 1)
        self.assertGreaterEqual(sparse, dense - 1)
        self.assertLess(stats.rows_gathered / stats.rows_host, 0.025)  # at least 64 rows: 2.1 % of 3,000
        self.assertLess(stats.keys_attended / stats.keys_visible, 0.1)
        self.assertGreater(stats.out_error, 0)

    def test_the_window_alone_does_not(self):
        """So the rows in host memory were needed."""
        short = [needle for needle in self.needles if needle[0].shape[1] < 4096]
        with tandem_attention.attach(self.model, host_tier=False, selector="all") as handle:
            self.assertEqual(self.right_answers(short, handle), 0)
        self.assertEqual(len(short), 6)


if __name__ == "__main__":
    unittest.main()
