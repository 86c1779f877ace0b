"""Writes Llama models, and others of random weights, as GGUF files, with the byte-level vocabulary of tools/data/tiny-llama.

llama.cpp knows this vocabulary as its "gpt2" tokenizer: each token stands for one byte, spelled as GPT-2 spells bytes,
and no merge ever applies. Token id = byte value; 256 is BOS, 257 EOS, 258 padding.
"""
import gguf
import numpy as np

VOCABULARY = 264
BOS, EOS, PADDING = 256, 257, 258
SPECIAL = ["<s>", "</s>", "<pad>"] + [f"<r{i}>" for i in range(5)]


def byte_names():
    """The 256 characters by which GPT-2's tokenizer spells bytes: printable ones stand for themselves."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def interleaved_rope(weight, heads):
    """Rows of a q or k projection in the order that llama.cpp wants: Hugging Face pairs elements (i, i + dim / 2) in
    RoPE, llama.cpp (2 i, 2 i + 1)."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(path, *, layers, width, feed_forward, heads, kv_heads, head_dim, context, rope_theta, epsilon, tensors,
          architecture="llama", fields=None):
    """Writes the model. tensors: pairs of a name that llama.cpp gives it ("blk.0.attn_q.weight") and a matrix (outputs,
    inputs), or a vector for norms; norms are stored as f32, matrices as they are. fields: what the architecture has
    besides, by the names of llama.cpp ("attention.sliding_window")."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tandem-check")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope_theta)
    writer.add_layer_norm_rms_eps(epsilon)
    for field, value in (fields or {}).items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{architecture}.{field}", value)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(byte_names() + SPECIAL)
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * len(SPECIAL))
    writer.add_token_merges(["<s> </s>"])  # GGUF has no empty arrays; text never yields these two
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_pad_token_id(PADDING)
    writer.add_add_bos_token(True)
    for name, tensor in tensors:
        writer.add_tensor(name, np.ascontiguousarray(tensor, np.float32 if tensor.ndim == 1 else tensor.dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
