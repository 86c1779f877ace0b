// Dropping tokens from the middle of a sequence: what comes after them is appended to a fork that ends before them.
#include <algorithm>

#include "cpu/row_layout.h"
#include "runtime/base/error.h"
#include "runtime/runtime.h"

namespace tandem {
namespace {

constexpr std::int64_t kTokensAtOnce = 512;

/// K and V of tokens on their way, (tokens, KV heads, dim), as fp32.
struct MovedTokens {
  std::vector<float> k, v;
  std::vector<float> padded;      // one row
  std::vector<std::byte> window;  // rows of one head

  [[nodiscard]] KvView view(std::int64_t tokens, const AttentionShape& shape) const {
    return {dense_view(k.data(), DType::f32, tokens, shape.num_kv_heads, shape.head_dim_k),
            dense_view(v.data(), DType::f32, tokens, shape.num_kv_heads, shape.head_dim_v)};
  }
};

/// Reads tokens [first, first + count) of one head, from its store where they are there, else from its window.
void read_head(const HeadState& head, std::int64_t index, std::int64_t first, std::int64_t count,
               const AttentionShape& shape, gpu::Device& device, MovedTokens& moved) {
  const std::int64_t sinks = head.window.sink_tokens();
  const cpu::RowLayout& host = head.store.layout();
  const gpu::WindowView window = head.window.view();
  moved.padded.resize(static_cast<std::size_t>(std::max(host.padded_k, host.padded_v)));
  const auto take = [&](const cpu::RowLayout& layout, const std::byte* row, std::int64_t token) {
    const std::int64_t at = token * shape.num_kv_heads + index;
    cpu::load_key(layout, row, moved.padded.data());
    std::copy_n(moved.padded.data(), shape.head_dim_k, moved.k.data() + at * shape.head_dim_k);
    cpu::load_value(layout, row, moved.padded.data());
    std::copy_n(moved.padded.data(), shape.head_dim_v, moved.v.data() + at * shape.head_dim_v);
  };
  const std::int64_t end = first + count, in_store = sinks + head.store.stored();
  const auto from_window = [&](std::int64_t begin, std::int64_t last) {
    if (begin >= last) return;
    moved.window.resize(static_cast<std::size_t>((last - begin) * window.layout.row_bytes));
    device.read_rows(window, begin, last - begin, window.layout, moved.window.data(), gpu::kWindowStream);
    device.wait(gpu::kWindowStream);
    for (std::int64_t p = begin; p < last; ++p)
      take(window.layout, moved.window.data() + (p - begin) * window.layout.row_bytes, p - first);
  };
  from_window(first, std::min(end, sinks));
  for (std::int64_t p = std::max(first, sinks); p < std::min(end, in_store); ++p)
    take(host, head.store.row(p - sinks), p - first);
  from_window(std::max({first, sinks, in_store}), end);
}

}  // namespace

void Runtime::evict_tokens(std::uint64_t id, std::int64_t first, std::int64_t count) {
  std::vector<std::shared_ptr<Sequence>> found;
  find({&id, 1}, found);
  const SequenceLock lock(found);
  Sequence& source = lock[0];
  const std::int64_t length = source.layer(0).length();
  for (std::int32_t l = 1; l < source.num_layers(); ++l) {
    TANDEM_CHECK(source.layer(l).length() == length, invalid_state, "sequence ", id, " has ", length,
                 " tokens in layer 0 and ", source.layer(l).length(), " in layer ", l, "; they must be as many");
  }
  TANDEM_CHECK(first >= 0 && first <= length, invalid_argument, "first is ", first, "; allowed: 0 to ", length,
               ", the length of sequence ", id);
  TANDEM_CHECK(count >= 0 && count <= length - first, invalid_argument, "num_tokens is ", count, "; allowed: 0 to ",
               length - first, ", the tokens of sequence ", id, " from ", first, " on");
  TANDEM_CHECK(
      config_.host_tier && !config_.window.merge && std::holds_alternative<gpu::Streaming>(config_.window.policy),
      unsupported, "tokens in the middle can be dropped with a host tier and window_policy latest only");
  if (count == 0) return;
  std::uint64_t copy = 0;
  {
    const std::lock_guard guard(mutex_);
    copy = next_id_++;
  }
  insert(source.shared_selector(), copy,
         closing_if_lost([&](std::int64_t /*number*/) { return source.fork_layers(first, {}); }));
  try {
    append_later_tokens(source, first + count, length, copy);
  } catch (...) {
    destroy_sequence(copy);
    throw;
  }
  std::vector<std::shared_ptr<Sequence>> made;
  find({&copy, 1}, made);
  for (std::int32_t l = 0; l < source.num_layers(); ++l)
    made.front()->layer(l).split = source.layer(l).split.cut(length - count);  // it has grown since it was forked
  source.swap_layers(*made.front());
  made.clear();
  destroy_sequence(copy);
}

void Runtime::append_later_tokens(Sequence& source, std::int64_t first, std::int64_t length, std::uint64_t target) {
  const AttentionShape& shape = config_.shape;
  MovedTokens moved;
  const auto tokens_at_once = static_cast<std::size_t>(std::min(kTokensAtOnce, length - first));
  const auto heads = static_cast<std::size_t>(shape.num_kv_heads);
  moved.k.resize(tokens_at_once * heads * static_cast<std::size_t>(shape.head_dim_k));
  moved.v.resize(tokens_at_once * heads * static_cast<std::size_t>(shape.head_dim_v));
  for (std::int32_t l = 0; l < source.num_layers(); ++l) {
    for (std::int64_t begin = first; begin < length; begin += kTokensAtOnce) {
      const std::int64_t tokens = std::min(kTokensAtOnce, length - begin);
      const LayerState& layer = source.layer(l);
      closing_if_lost([&](std::int64_t /*number*/) {
        for (std::size_t h = 0; h < layer.heads.size(); ++h)
          read_head(layer.heads[h], static_cast<std::int64_t>(h), begin, tokens, shape, *device_, moved);
      });
      AppendRequest request;
      request.layer = l;
      request.sequences = {&target, 1};
      request.num_tokens = {&tokens, 1};
      request.kv = moved.view(tokens, shape);
      append(request);
    }
  }
}

}  // namespace tandem
