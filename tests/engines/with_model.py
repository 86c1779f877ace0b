"""What the tests of TandemCache and attach() share: a small model, its logits without Tandem, and errors."""
import unittest
import warnings

import torch

import models
from tandem_attention import TandemCache, TandemError
from tandem_attention.transformers import attention, cache_argument

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
