#include "tools/tandem/synthetic_trace.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/random.h"
#include "tools/tandem/parallel.h"

namespace tandem::cli {
namespace {

constexpr std::int64_t kNumClusters = 256;
constexpr std::int64_t kSegment = 32;
constexpr double kTheta = 5e5;
constexpr std::int64_t kBlock = 512;  // tokens of one task

/// What a stream of random numbers is for; each stream of each head is independent.
enum class Use : std::uint64_t { mean, basis, key_centre, value_centre, cluster, key, value, target, query };

/// A stream of its own for each head, use and token, so that tokens can be made in any order and on any thread.
CounterRandom stream_of(std::uint64_t seed, std::int64_t head, Use use, std::int64_t token = 0) noexcept {
  constexpr std::uint64_t kUses = 16;
  constexpr std::uint64_t kMaxPositions = std::uint64_t{1} << 32;
  return {seed, (static_cast<std::uint64_t>(head) * kUses + static_cast<std::uint64_t>(use)) * kMaxPositions +
                    static_cast<std::uint64_t>(token)};
}

std::vector<float> normals(CounterRandom random, std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

/// Rows made orthonormal one after the other (Gram-Schmidt): a random basis when they are Gaussian.
void orthonormalise(std::vector<float>& rows, std::int64_t dim) {
  for (std::int64_t i = 0; i < dim; ++i) {
    float* row = rows.data() + i * dim;
    for (int pass = 0; pass < 2; ++pass) {  // the second pass removes what rounding left in the first
      for (std::int64_t j = 0; j < i; ++j) {
        const float* other = rows.data() + j * dim;
        double dot = 0;
        for (std::int64_t d = 0; d < dim; ++d) dot += static_cast<double>(row[d]) * other[d];
        for (std::int64_t d = 0; d < dim; ++d) row[d] -= static_cast<float>(dot) * other[d];
      }
    }
    double norm = 0;
    for (std::int64_t d = 0; d < dim; ++d) norm += static_cast<double>(row[d]) * row[d];
    for (std::int64_t d = 0; d < dim; ++d) row[d] /= static_cast<float>(std::sqrt(norm));
  }
}

/// Rotates `key` to `position`: pairs are (d, d + dim / 2), as in Llama.
void rope(std::vector<float>& key, std::int64_t position) {
  const auto half = static_cast<std::int64_t>(key.size()) / 2;
  for (std::int64_t d = 0; d < half; ++d) {
    const double angle =
        static_cast<double>(position) * std::pow(kTheta, -static_cast<double>(d) / static_cast<double>(half));
    const auto cosine = static_cast<float>(std::cos(angle));
    const auto sine = static_cast<float>(std::sin(angle));
    float& x = key[static_cast<std::size_t>(d)];
    float& y = key[static_cast<std::size_t>(d + half)];
    const float rotated = x * cosine - y * sine;
    y = y * cosine + x * sine;
    x = rotated;
  }
}

std::size_t bytes_for(std::int64_t elements, DType dtype) {
  return static_cast<std::size_t>(elements) * bytes_of(dtype);
}

}  // namespace

/// What the keys and values of one KV head are drawn from.
struct SyntheticTrace::Head {
  std::vector<float> mean, basis, key_centres, value_centres;  // basis rows carry the spectrum

  Head(const SyntheticShape& shape, std::int64_t head)
      : mean(normals(stream_of(shape.seed, head, Use::mean), shape.head_dim)),
        basis(normals(stream_of(shape.seed, head, Use::basis), std::int64_t{shape.head_dim} * shape.head_dim)),
        key_centres(normals(stream_of(shape.seed, head, Use::key_centre), kNumClusters * shape.head_dim)),
        value_centres(normals(stream_of(shape.seed, head, Use::value_centre), kNumClusters * shape.head_dim)) {
    const std::int64_t dim = shape.head_dim;
    orthonormalise(basis, dim);
    double total = 0;
    for (std::int64_t j = 0; j < dim; ++j) total += std::pow(1.0 + static_cast<double>(j), -0.5);
    const double unit = std::sqrt(static_cast<double>(dim) / total);  // mean square 1
    for (std::int64_t j = 0; j < dim; ++j) {
      const auto weight = static_cast<float>(unit * std::pow(1.0 + static_cast<double>(j), -0.25));
      for (std::int64_t d = 0; d < dim; ++d) basis[static_cast<std::size_t>(j * dim + d)] *= weight;
    }
  }
};

SyntheticTrace::SyntheticTrace(const SyntheticShape& shape, int threads) : shape_(shape) {
  meta_ = {.tokens = shape.tokens,
           .steps = shape.steps,
           .num_q_heads = shape.num_q_heads,
           .num_kv_heads = shape.num_kv_heads,
           .head_dim_k = shape.head_dim,
           .head_dim_v = shape.head_dim,
           .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim))),
           .layers = {0}};
  const std::int64_t kv_row = std::int64_t{shape.num_kv_heads} * shape.head_dim;
  k_.resize(bytes_for(shape.tokens * kv_row, shape.dtype));
  v_.resize(k_.size());
  dec_k_.resize(bytes_for(shape.steps * kv_row, shape.dtype));
  dec_v_.resize(dec_k_.size());
  dec_q_.resize(bytes_for(shape.steps * shape.num_q_heads * shape.head_dim, shape.dtype));

  const std::int64_t positions = shape.tokens + shape.steps;
  const std::int64_t blocks = (positions + kBlock - 1) / kBlock;
  Progress progress("keys", (blocks + 1) * shape.num_kv_heads);
  for (std::int64_t head = 0; head < shape.num_kv_heads; ++head) {
    const Head model(shape, head);
    parallel_for(blocks, threads, progress, [&](std::int64_t block) {
      const auto first = block * kBlock;
      make_keys(model, head, first, std::min(kBlock, positions - first));
    });
  }
  parallel_for(shape.num_kv_heads, threads, progress, [this](std::int64_t head) { make_queries(head); });
}

void SyntheticTrace::make_keys(const Head& head, std::int64_t kv_head, std::int64_t first, std::int64_t count) {
  const std::int64_t dim = shape_.head_dim;
  std::vector<float> k(static_cast<std::size_t>(dim));
  std::vector<float> v(static_cast<std::size_t>(dim));
  for (std::int64_t position = first; position < first + count; ++position) {
    auto cluster = stream_of(shape_.seed, kv_head, Use::cluster, position / kSegment);
    auto key_noise = stream_of(shape_.seed, kv_head, Use::key, position);
    auto value_noise = stream_of(shape_.seed, kv_head, Use::value, position);
    const auto centre = static_cast<std::int64_t>(cluster.below(kNumClusters)) * dim;
    for (std::int64_t d = 0; d < dim; ++d) k[static_cast<std::size_t>(d)] = 2 * head.mean[static_cast<std::size_t>(d)];
    for (std::int64_t j = 0; j < dim; ++j) {
      const float coordinate =
          0.7f * head.key_centres[static_cast<std::size_t>(centre + j)] + static_cast<float>(key_noise.normal());
      const float* axis = head.basis.data() + j * dim;
      for (std::int64_t d = 0; d < dim; ++d) k[static_cast<std::size_t>(d)] += coordinate * axis[d];
      v[static_cast<std::size_t>(j)] =
          0.5f * head.value_centres[static_cast<std::size_t>(centre + j)] + static_cast<float>(value_noise.normal());
    }
    rope(k, position);
    const bool decoding = position >= shape_.tokens;
    const auto row = decoding ? kv_head * shape_.steps + position - shape_.tokens : kv_head * shape_.tokens + position;
    const auto offset = static_cast<std::ptrdiff_t>(bytes_for(row * dim, shape_.dtype));
    store_f32(shape_.dtype, k.data(), (decoding ? dec_k_ : k_).data() + offset, dim);
    store_f32(shape_.dtype, v.data(), (decoding ? dec_v_ : v_).data() + offset, dim);
  }
}

std::vector<float> SyntheticTrace::key(std::int64_t kv_head, std::int64_t position) const {
  const bool decoding = position >= shape_.tokens;
  const auto row = decoding ? kv_head * shape_.steps + position - shape_.tokens : kv_head * shape_.tokens + position;
  std::vector<float> values(static_cast<std::size_t>(shape_.head_dim));
  const auto offset = static_cast<std::ptrdiff_t>(bytes_for(row * shape_.head_dim, shape_.dtype));
  load_f32(shape_.dtype, (decoding ? dec_k_ : k_).data() + offset, values.data(), shape_.head_dim);
  return values;
}

void SyntheticTrace::make_queries(std::int64_t kv_head) {
  const auto dim = static_cast<std::size_t>(shape_.head_dim);
  std::vector<double> mean(dim, 0.0);
  for (std::int64_t position = 0; position < shape_.tokens; ++position) {
    const auto row = key(kv_head, position);
    for (std::size_t d = 0; d < dim; ++d) mean[d] += row[d] / static_cast<double>(shape_.tokens);
  }
  const std::int64_t group = shape_.num_q_heads / shape_.num_kv_heads;
  for (std::int64_t task = 0; task < group * shape_.steps; ++task) {
    const auto head = kv_head * group + task / shape_.steps;
    const auto step = task % shape_.steps;
    auto target = stream_of(shape_.seed, head, Use::target, step);
    auto noise = stream_of(shape_.seed, head, Use::query, step);
    const auto visible = static_cast<std::uint64_t>(shape_.tokens + step + 1);
    auto q = key(kv_head, static_cast<std::int64_t>(target.below(visible)));
    double norm = 0;
    for (std::size_t d = 0; d < dim; ++d) {
      q[d] -= static_cast<float>(mean[d]);
      norm += static_cast<double>(q[d]) * q[d];
    }
    // Half of the target plus noise of 0.87 of its length: cosine 0.5. The factor 0.6 gives logits like a real head's.
    const auto spread = static_cast<float>(0.87 * std::sqrt(norm / static_cast<double>(dim)));
    for (std::size_t d = 0; d < dim; ++d) q[d] = 0.6f * (0.5f * q[d] + spread * static_cast<float>(noise.normal()));
    const auto offset =
        static_cast<std::ptrdiff_t>(bytes_for((head * shape_.steps + step) * shape_.head_dim, shape_.dtype));
    store_f32(shape_.dtype, q.data(), dec_q_.data() + offset, shape_.head_dim);
  }
}

tools::TraceLayer SyntheticTrace::layer() const {
  const auto view = [this](const std::vector<std::byte>& bytes, std::int64_t heads, std::int64_t tokens) {
    return tools::Tensor{shape_.dtype, {heads, tokens, shape_.head_dim}, bytes.data()};
  };
  tools::TraceLayer layer;
  layer.k = view(k_, shape_.num_kv_heads, shape_.tokens);
  layer.v = view(v_, shape_.num_kv_heads, shape_.tokens);
  layer.dec_q = view(dec_q_, shape_.num_q_heads, shape_.steps);
  layer.dec_k = view(dec_k_, shape_.num_kv_heads, shape_.steps);
  layer.dec_v = view(dec_v_, shape_.num_kv_heads, shape_.steps);
  return layer;
}

}  // namespace tandem::cli
