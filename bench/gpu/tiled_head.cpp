#include "bench/gpu/tiled_head.h"

#include <cmath>
#include <numeric>

#include "cpu/aligned_vector.h"
#include "runtime/base/random.h"

namespace tandem::bench {
namespace {

constexpr std::int64_t kMostTileTokens = 1024;

AttentionShape head_shape(std::int32_t head_dim) { return resolved({1, 1, 1, head_dim, head_dim, 0.f, 0.f}); }

cpu::AlignedVector<float> normals(std::uint64_t stream, std::int64_t count) {
  CounterRandom random(3, stream);
  cpu::AlignedVector<float> x(static_cast<std::size_t>(count));
  for (float& element : x) element = static_cast<float>(random.normal());
  return x;
}

std::vector<double> doubles(const float* x, std::int64_t count) { return {x, x + count}; }

/// Attention over two disjoint sets of keys.
cpu::reference::Result merged(const cpu::reference::Result& a, const cpu::reference::Result& b) {
  cpu::reference::Result result = a;
  const double most = std::max(a.lse, b.lse);
  result.lse = most + std::log(std::exp(a.lse - most) + std::exp(b.lse - most));
  for (std::size_t d = 0; d < a.out.size(); ++d)
    result.out[d] = a.out[d] * std::exp(a.lse - result.lse) + b.out[d] * std::exp(b.lse - result.lse);
  return result;
}

}  // namespace

TiledHead::TiledHead(const WindowFormat& format, std::int32_t head_dim, std::int64_t tokens)
    : name_(format.name),
      layout_(cpu::RowLayout::of(head_shape(head_dim), DType::bf16)),
      tokens_(tokens),
      repetitions_(tokens / std::gcd(tokens, kMostTileTokens)) {
  if (format.codec.kind != cpu::CodecKind::none)
    codec_ = cpu::BlockCodec(format.codec, head_shape(head_dim), format.rope, 0, 0);
  encode_tile();
}

/// Dimensions of heads are multiples of the padding here.
void TiledHead::encode_tile() {
  const std::int64_t tokens = tile_tokens();
  const auto k = normals(0, tokens * layout_.padded_k), v = normals(1, tokens * layout_.padded_v);
  if (!codec_) {
    tile_.resize(static_cast<std::size_t>(tokens * layout_.row_bytes));
    for (std::int64_t t = 0; t < tokens; ++t) {
      cpu::write_row(layout_, DType::f32, reinterpret_cast<const std::byte*>(k.data() + t * layout_.padded_k),
                     reinterpret_cast<const std::byte*>(v.data() + t * layout_.padded_v),
                     tile_.data() + t * layout_.row_bytes);
    }
    return;
  }
  const cpu::BlockFormat& format = codec_.format();
  tile_.resize(static_cast<std::size_t>(tokens / format.block_rows * format.block_bytes));
  for (std::int64_t t = 0; t < tokens; t += format.block_rows) {
    codec_.encode(k.data() + t * layout_.padded_k, v.data() + t * layout_.padded_v, t,
                  tile_.data() + t / format.block_rows * format.block_bytes);
  }
}

gpu::WindowView TiledHead::view(std::byte* const* page) const {
  gpu::WindowView view;
  view.rows = {page, tokens_, layout_.row_bytes};
  view.layout = layout_;
  view.ring = tokens_;
  view.end = tokens_;
  if (!codec_) return view;
  view.raw_begin = tokens_;
  view.ring_blocks = tokens_ / codec_.format().block_rows;
  view.blocks = {page, view.ring_blocks, codec_.format().block_bytes};
  view.codec = &codec_;
  view.format = &codec_.format();
  return view;
}

cpu::reference::Result TiledHead::exact_tile(const float* q, std::int64_t first_position) const {
  const std::int64_t tokens = tile_tokens();
  cpu::AlignedVector<float> k(static_cast<std::size_t>(tokens * layout_.padded_k));
  cpu::AlignedVector<float> v(static_cast<std::size_t>(tokens * layout_.padded_v));
  for (std::int64_t t = 0; t < tokens && !codec_; ++t) {
    cpu::load_key(layout_, tile_.data() + t * layout_.row_bytes, k.data() + t * layout_.padded_k);
    cpu::load_value(layout_, tile_.data() + t * layout_.row_bytes, v.data() + t * layout_.padded_v);
  }
  const cpu::BlockFormat& format = codec_.format();
  for (std::int64_t t = 0; t < tokens && codec_; t += format.block_rows) {
    codec_.decode(tile_.data() + t / format.block_rows * format.block_bytes, first_position + t, 0, format.block_rows,
                  k.data() + t * layout_.padded_k, v.data() + t * layout_.padded_v);
  }
  const auto queries = doubles(q, layout_.dim_k), keys = doubles(k.data(), tokens * layout_.padded_k),
             values = doubles(v.data(), tokens * layout_.padded_v);
  return cpu::reference::attention({queries, keys, values, {}, 1.0, 0.0}, layout_.dim_v);
}

/// Codes of keys before RoPE stand for other keys at every position; the others repeat.
cpu::reference::Result TiledHead::exact(const float* q) const {
  cpu::reference::Result result = exact_tile(q, 0);
  if (!codec_ || cpu::key_space_of(codec_.format().kind) == cpu::KeySpace::post_rope) {
    result.lse += std::log(static_cast<double>(repetitions_));
    return result;
  }
  for (std::int64_t i = 1; i < repetitions_; ++i) result = merged(result, exact_tile(q, i * tile_tokens()));
  return result;
}

}  // namespace tandem::bench
