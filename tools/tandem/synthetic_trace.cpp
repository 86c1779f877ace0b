#include "tools/tandem/synthetic_trace.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/random.h"
#include "tools/tandem/logit_mass.h"
#include "tools/tandem/parallel.h"

namespace tandem::cli {
namespace {

constexpr std::int64_t kBlock = 1024;     // tokens of one task
constexpr std::int64_t kQueryBlock = 32;  // queries of one task
constexpr int kSinks = 4;
constexpr std::int64_t kMinTokens = 256;       // of a prompt with sinks and needles
constexpr std::int64_t kMomentRows = 1 << 16;  // more rows say nothing new about the covariance
constexpr std::int64_t kNeedles = 3;           // of a decode step
constexpr std::int64_t kTokensPerNeedle = 64;  // a prompt is not all needles
constexpr double kSinkShare = 0.8;             // of the mass of all other keys: 44 % of the whole
constexpr float kSinkValues = 0.02f;

std::size_t bytes_for(std::int64_t elements, DType dtype) {
  return static_cast<std::size_t>(elements) * bytes_of(dtype);
}

double dot(const float* x, const float* y, std::int64_t dim) {
  double sum = 0;
  for (std::int64_t d = 0; d < dim; ++d) sum += static_cast<double>(x[d]) * y[d];
  return sum;
}

SyntheticShape with_tail_in_prompt(SyntheticShape shape) {
  shape.query_tail = std::min(shape.query_tail, shape.tokens);
  return shape;
}

HeadKind kind_of(const SyntheticShape& shape, std::int64_t kv_head) {
  return shape.kind.value_or(static_cast<HeadKind>(kv_head % kNumHeadKinds));
}

/// The shortest key whose product with each of `queries` (targets.size(), dim) is the target, as far as one key can be
/// (ridge regression).
std::vector<float> common_key(const std::vector<float>& queries, const std::vector<double>& targets, std::int64_t dim) {
  std::vector<double> gram(static_cast<std::size_t>(dim * dim), 0.0);
  std::vector<double> key(static_cast<std::size_t>(dim), 0.0);
  for (std::int64_t d = 0; d < dim; ++d) gram[static_cast<std::size_t>(d * dim + d)] = 1;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const float* q = queries.data() + static_cast<std::int64_t>(i) * dim;
    for (std::int64_t a = 0; a < dim; ++a) {
      key[static_cast<std::size_t>(a)] += targets[i] * q[a];
      for (std::int64_t b = 0; b < dim; ++b) gram[static_cast<std::size_t>(a * dim + b)] += double{q[a]} * q[b];
    }
  }
  solve_spd(std::move(gram), dim, key, 1);
  return {key.begin(), key.end()};
}

}  // namespace

SyntheticTrace::SyntheticTrace(const SyntheticShape& shape, int threads) : shape_(with_tail_in_prompt(shape)) {
  allocate();
  const std::int64_t heads = shape_.num_kv_heads;
  const std::int64_t rows = shape_.tokens + shape_.steps;
  const std::int64_t blocks = (rows + kBlock - 1) / kBlock;
  const std::int64_t all_queries = positions() * group();
  const std::int64_t query_blocks = (all_queries + kQueryBlock - 1) / kQueryBlock;
  std::vector<SyntheticHead> models;
  for (std::int64_t h = 0; h < heads; ++h) models.emplace_back(kind_of(shape_, h), shape_.seed, h, shape_.head_dim);
  std::vector<Moments> moments(models.size());
  std::vector<Queries> queries(models.size());
  std::vector<std::vector<double>> lse(models.size(), std::vector<double>(static_cast<std::size_t>(all_queries)));

  Progress progress("synthetic heads", heads * (blocks + query_blocks + 2));
  parallel_for(heads * blocks, threads, progress, [&](std::int64_t task) {
    const std::int64_t first = task % blocks * kBlock;
    make_rows(models[static_cast<std::size_t>(task / blocks)], task / blocks, first, std::min(kBlock, rows - first));
  });
  parallel_for(heads, threads, progress, [&](std::int64_t h) {
    const auto i = static_cast<std::size_t>(h);
    moments[i] = key_moments(h);
    queries[i] = make_queries(models[i], moments[i]);
    plant_needles(models[i], h, queries[i]);
  });
  parallel_for(heads * query_blocks, threads, progress, [&](std::int64_t task) {
    const auto i = static_cast<std::size_t>(task / query_blocks);
    const std::int64_t first = task % query_blocks * kQueryBlock;
    mass_of(task / query_blocks, queries[i], first, std::min(kQueryBlock, all_queries - first), lse[i]);
  });
  parallel_for(heads, threads, progress, [&](std::int64_t h) {
    const auto i = static_cast<std::size_t>(h);
    make_sinks(h, moments[i], lse[i], queries[i]);
    store_queries(h, queries[i]);
  });
}

void SyntheticTrace::allocate() {
  const auto& s = shape_;
  meta_ = {.tokens = s.tokens,
           .steps = s.steps,
           .num_q_heads = s.num_q_heads,
           .num_kv_heads = s.num_kv_heads,
           .head_dim_k = s.head_dim,
           .head_dim_v = s.head_dim,
           .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(s.head_dim))),
           .layers = {0}};
  const std::int64_t kv_row = std::int64_t{s.num_kv_heads} * s.head_dim;
  const std::int64_t q_row = std::int64_t{s.num_q_heads} * s.head_dim;
  for (auto* tensor : {&k_, &v_}) tensor->resize(bytes_for(s.tokens * kv_row, s.dtype));
  for (auto* tensor : {&dec_k_, &dec_v_}) tensor->resize(bytes_for(s.steps * kv_row, s.dtype));
  q_tail_.resize(bytes_for(s.query_tail * q_row, s.dtype));
  dec_q_.resize(bytes_for(s.steps * q_row, s.dtype));
}

std::byte* SyntheticTrace::row_of(std::vector<std::byte>& tensor, std::int64_t row) const {
  return tensor.data() + bytes_for(row * shape_.head_dim, shape_.dtype);
}

void SyntheticTrace::load(const std::vector<std::byte>& tensor, std::int64_t row, std::int64_t count,
                          float* values) const {
  load_f32(shape_.dtype, tensor.data() + bytes_for(row * shape_.head_dim, shape_.dtype), values,
           count * shape_.head_dim);
}

void SyntheticTrace::make_rows(const SyntheticHead& head, std::int64_t kv_head, std::int64_t first,
                               std::int64_t count) {
  const std::int64_t dim = shape_.head_dim;
  std::vector<float> k(static_cast<std::size_t>(count * dim));
  std::vector<float> v(k.size());
  head.rows(first, count, k.data(), v.data());
  const std::int64_t in_prompt = std::clamp<std::int64_t>(shape_.tokens - first, 0, count);
  const auto store = [&](const std::vector<float>& rows, std::vector<std::byte>& prompt, std::vector<std::byte>& dec) {
    store_f32(shape_.dtype, rows.data(), row_of(prompt, kv_head * shape_.tokens + first), in_prompt * dim);
    if (in_prompt == count) return;
    store_f32(shape_.dtype, rows.data() + in_prompt * dim,
              row_of(dec, kv_head * shape_.steps + first + in_prompt - shape_.tokens), (count - in_prompt) * dim);
  };
  store(k, k_, dec_k_);
  store(v, v_, dec_v_);
}

Moments SyntheticTrace::key_moments(std::int64_t kv_head) const {
  // The ends of a long prompt are left to the window.
  const bool whole = shape_.tokens < kMinTokens;
  const std::int64_t begin = whole ? 0 : 68;
  const std::int64_t end = whole ? shape_.tokens : shape_.tokens - 64;
  MomentSums sums(shape_.head_dim);
  std::vector<float> row(static_cast<std::size_t>(shape_.head_dim));
  for (std::int64_t t = begin; t < end; t += 1 + (end - begin) / kMomentRows) {
    load(k_, kv_head * shape_.tokens + t, 1, row.data());
    sums.add(row.data());
  }
  return sums.moments();
}

SyntheticTrace::Queries SyntheticTrace::make_queries(const SyntheticHead& head, const Moments& moments) const {
  constexpr double kMaxScale = 20;  // of very short prompts, whose keys hardly differ
  const std::int64_t dim = shape_.head_dim;
  const auto topic = head.topic_before(shape_.tokens);
  Queries queries(static_cast<std::size_t>(positions() * group() * dim));
  for (std::int64_t i = 0; i < positions(); ++i)
    head.queries(shape_.tokens - shape_.query_tail + i, group(), topic, queries.data() + i * group() * dim);
  for (std::int64_t i = 0; i < positions() * group(); ++i) {
    float* q = queries.data() + i * dim;
    const double spread = std::sqrt(moments.variance_along(q)) * meta_.scale;
    const auto scale = static_cast<float>(std::min(logit_sd(head.kind()) / std::max(spread, 1e-9), kMaxScale));
    for (std::int64_t d = 0; d < dim; ++d) q[d] *= scale;
  }
  return queries;
}

void SyntheticTrace::plant_needles(const SyntheticHead& head, std::int64_t kv_head, const Queries& queries) {
  if (head.kind() != HeadKind::retrieval || shape_.tokens < kMinTokens) return;
  const std::int64_t dim = shape_.head_dim;
  const std::int64_t first = std::min<std::int64_t>(100, shape_.tokens / 4);
  const std::int64_t last = shape_.tokens - std::min<std::int64_t>(400, shape_.tokens / 4);
  const std::int64_t needles = std::min(kNeedles * shape_.steps, shape_.tokens / kTokensPerNeedle);
  std::vector<float> direction(static_cast<std::size_t>(dim));
  std::vector<float> key(direction.size());
  for (std::int64_t n = 0; n < needles; ++n) {
    CounterRandom random(shape_.seed, head.needle_stream(n));
    const float* q = queries.data() + (shape_.query_tail + n % shape_.steps) * group() * dim;
    std::fill(direction.begin(), direction.end(), 0.f);
    for (std::int64_t i = 0; i < group() * dim; ++i)
      direction[static_cast<std::size_t>(i % dim)] += q[i] / static_cast<float>(group());
    // The mean query itself is the direction; its logit is the group's mean logit.
    const double squared_norm = std::max(dot(direction.data(), direction.data(), dim), 1e-30);
    const auto position = first + static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(last - first)));
    const auto length = 1 + static_cast<std::int64_t>(random.below(4));
    for (std::int64_t t = position; t < position + length; ++t) {
      const std::int64_t row = kv_head * shape_.tokens + t;
      load(k_, row, 1, key.data());
      const double target = (9 + 2 * random.uniform()) / meta_.scale;
      const auto gain = static_cast<float>((target - dot(direction.data(), key.data(), dim)) / squared_norm);
      for (std::int64_t d = 0; d < dim; ++d)
        key[static_cast<std::size_t>(d)] += gain * direction[static_cast<std::size_t>(d)];
      store_f32(shape_.dtype, key.data(), row_of(k_, row), dim);
    }
  }
}

void SyntheticTrace::mass_of(std::int64_t kv_head, const Queries& queries, std::int64_t first, std::int64_t count,
                             std::vector<double>& lse) const {
  if (shape_.tokens < kMinTokens) return;
  const std::int64_t dim = shape_.head_dim;
  LogitMass mass(queries.data() + first * dim, count, dim, meta_.scale);
  std::vector<float> keys(static_cast<std::size_t>(kBlock * dim));
  for (std::int64_t t = kSinks; t < shape_.tokens; t += kBlock) {
    const std::int64_t rows = std::min(kBlock, shape_.tokens - t);
    load(k_, kv_head * shape_.tokens + t, rows, keys.data());
    mass.add(keys.data(), rows);
  }
  for (std::int64_t i = 0; i < count; ++i) lse[static_cast<std::size_t>(first + i)] = mass.lse(i);
}

void SyntheticTrace::make_sinks(std::int64_t kv_head, const Moments& moments, const std::vector<double>& lse,
                                Queries& queries) {
  if (shape_.tokens < kMinTokens) return;
  const std::int64_t dim = shape_.head_dim;
  std::vector<double> targets;  // <q, sink>
  for (const double mass : lse) targets.push_back((mass + std::log(kSinkShare / kSinks)) / meta_.scale);
  auto sink = common_key(queries, targets, dim);
  std::vector<float> value(sink.size());
  for (std::int64_t row = kv_head * shape_.tokens; row < kv_head * shape_.tokens + kSinks; ++row) {
    store_f32(shape_.dtype, sink.data(), row_of(k_, row), dim);
    load(v_, row, 1, value.data());
    for (float& x : value) x *= kSinkValues;
    store_f32(shape_.dtype, value.data(), row_of(v_, row), dim);
  }
  load(k_, kv_head * shape_.tokens, 1, sink.data());  // as rounded

  // What one key cannot give to all, each query makes up for, in a direction in which the other keys have no mean.
  const std::vector<float> mean(moments.mean.begin(), moments.mean.end());
  const double overlap = dot(sink.data(), mean.data(), dim) / std::max(dot(mean.data(), mean.data(), dim), 1e-30);
  std::vector<float> direction(sink);
  for (std::size_t d = 0; d < direction.size(); ++d) direction[d] -= static_cast<float>(overlap) * mean[d];
  const double gain = std::max(dot(direction.data(), sink.data(), dim), 1e-30);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    float* q = queries.data() + static_cast<std::int64_t>(i) * dim;
    const auto missing = static_cast<float>((targets[i] - dot(sink.data(), q, dim)) / gain);
    for (std::int64_t d = 0; d < dim; ++d) q[d] += missing * direction[static_cast<std::size_t>(d)];
  }
}

void SyntheticTrace::store_queries(std::int64_t kv_head, const Queries& queries) {
  const std::int64_t dim = shape_.head_dim;
  for (std::int64_t i = 0; i < positions() * group(); ++i) {
    const std::int64_t head = kv_head * group() + i % group();
    const std::int64_t token = i / group();
    const bool decoding = token >= shape_.query_tail;
    std::byte* row = decoding ? row_of(dec_q_, head * shape_.steps + token - shape_.query_tail)
                              : row_of(q_tail_, head * shape_.query_tail + token);
    store_f32(shape_.dtype, queries.data() + i * dim, row, dim);
  }
}

tools::TraceLayer SyntheticTrace::layer() const {
  const auto view = [this](const std::vector<std::byte>& bytes, std::int64_t heads, std::int64_t tokens) {
    return tools::Tensor{shape_.dtype, {heads, tokens, shape_.head_dim}, bytes.data()};
  };
  tools::TraceLayer layer;
  layer.k = view(k_, shape_.num_kv_heads, shape_.tokens);
  layer.v = view(v_, shape_.num_kv_heads, shape_.tokens);
  if (shape_.query_tail > 0) layer.q_tail = view(q_tail_, shape_.num_q_heads, shape_.query_tail);
  layer.dec_q = view(dec_q_, shape_.num_q_heads, shape_.steps);
  layer.dec_k = view(dec_k_, shape_.num_kv_heads, shape_.steps);
  layer.dec_v = view(dec_v_, shape_.num_kv_heads, shape_.steps);
  return layer;
}

}  // namespace tandem::cli
