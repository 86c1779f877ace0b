"""Small random models of the architectures that the backend has to serve, and inputs for them."""
import torch
import transformers

torch.set_num_threads(1)  # small models: on a busy machine, threads that wait for each other cost more than they save

_COMMON = dict(vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
               num_key_value_heads=2, head_dim=16, max_position_embeddings=4096, initializer_range=0.25, pad_token_id=0,
               bos_token_id=1, eos_token_id=None)
_KINDS = {
    "llama": ("Llama", {}),
    "mistral, sliding window": ("Mistral", dict(sliding_window=24)),
    "qwen2": ("Qwen2", {}),
    "gemma2, softcap and sliding window": ("Gemma2", dict(sliding_window=24, query_pre_attn_scalar=16)),
    "gpt-oss, sinks and sliding window": ("GptOss", dict(sliding_window=24, num_local_experts=4, num_experts_per_tok=2)),
}
NAMES = tuple(_KINDS)


def model(name, **changes):
    """A model of random weights, the same ones each time."""
    kind, extra = _KINDS[name]
    torch.manual_seed(0)
    config = getattr(transformers, kind + "Config")(**{**_COMMON, **extra, **changes})
    return getattr(transformers, kind + "ForCausalLM")(config).eval()


def prompts(rows=3, tokens=120, padding=(0, 20, 77), seed=1):
    """input_ids and attention_mask of a batch with left padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 128, (rows, tokens), generator=generator)
    mask = torch.ones_like(ids)
    for row, pad in enumerate(padding[:rows]):
        mask[row, :pad] = 0
    ids[mask == 0] = 0
    return ids, mask


# What the 25 cases of generate() are: architecture x one of these. A window of 4 + 16 tokens, which holds up to a page of 64
# more: the rest is in the host tier.
WINDOW = dict(sink_tokens=4, local_tokens=16)
DECODING = {
    "greedy": (1, dict(do_sample=False, max_new_tokens=50)),
    "greedy, left padding": (3, dict(do_sample=False, max_new_tokens=50)),
    "sampling": (3, dict(do_sample=True, top_k=20, max_new_tokens=30)),
    "beams": (3, dict(do_sample=False, num_beams=4, max_new_tokens=25)),
    "prompt lookup": (1, dict(do_sample=False, prompt_lookup_num_tokens=4, max_new_tokens=40)),
}
