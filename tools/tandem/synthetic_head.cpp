#include "tools/tandem/synthetic_head.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/base/random.h"
#include "tools/tandem/small_matrix.h"

namespace tandem::cli {
namespace {

constexpr std::int64_t kTopics = 48;
constexpr std::int64_t kWarmUp = 512;  // 0.97^512 = 2e-7: what the AR(1) filters forget before the first token counts
constexpr std::int64_t kTopicTokens = 8;
constexpr double kTheta = 5e5;
constexpr std::array kHugeMeans = {9.f, 6.f, 5.f, 4.f};
constexpr std::array kQueryMeans = {2.f, 1.f, 1.f, 0.5f};

/// What a stream of random numbers is for; each stream of each head is independent.
enum class Use : std::uint64_t { key_basis, value_basis, means, channels, innovation, noise, query, needle };

std::uint64_t stream_of(std::int64_t head, Use use, std::int64_t token = 0) noexcept {
  constexpr std::uint64_t kUses = 16;
  constexpr std::uint64_t kMaxPositions = std::uint64_t{1} << 32;
  return (static_cast<std::uint64_t>(head) * kUses + static_cast<std::uint64_t>(use)) * kMaxPositions +
         static_cast<std::uint64_t>(token);
}

float normal(CounterRandom& random) { return static_cast<float>(random.normal()); }

float spectrum(std::int64_t j) { return static_cast<float>(1 / std::sqrt(1.0 + static_cast<double>(j))); }

/// sum += factor * row
void add_scaled(float factor, const float* row, std::int64_t dim, float* sum) {
  for (std::int64_t d = 0; d < dim; ++d) sum[d] += factor * row[d];
}

}  // namespace

std::string to_string(HeadKind kind) {
  static constexpr std::array kNames = {"diffuse", "medium", "broad", "peaked", "retrieval", "positional"};
  return kNames.at(static_cast<std::size_t>(kind));
}

std::vector<std::string> head_kind_names() {
  std::vector<std::string> names = {"mixed"};
  for (int kind = 0; kind < kNumHeadKinds; ++kind) names.push_back(to_string(static_cast<HeadKind>(kind)));
  return names;
}

std::optional<HeadKind> head_kind_named(const std::string& name) {
  for (int kind = 0; kind < kNumHeadKinds; ++kind)
    if (to_string(static_cast<HeadKind>(kind)) == name) return static_cast<HeadKind>(kind);
  return std::nullopt;
}

double logit_sd(HeadKind kind) {
  static constexpr std::array kSpreads = {1.2, 2.5, 3.7, 5.5, 2.0, 2.2};
  return kSpreads.at(static_cast<std::size_t>(kind));
}

SyntheticHead::SyntheticHead(HeadKind kind, std::uint64_t seed, std::int64_t head, std::int64_t dim)
    : kind_(kind), seed_(seed), head_(head), dim_(dim), rank_(std::min(kTopics, dim)) {
  const auto size = static_cast<std::size_t>(dim);
  const auto basis_size = static_cast<std::size_t>(rank_ * dim);
  const std::int64_t half = dim / 2;
  for (std::int64_t d = 0; d < half; ++d)
    frequencies_.push_back(std::pow(kTheta, -static_cast<double>(d) / static_cast<double>(half)));

  // Content lives in the slow pairs, or in the fast ones.
  const auto [fast, slow] = kind == HeadKind::positional ? std::pair{1.f, 0.3f} : std::pair{0.15f, 1.f};
  weights_.resize(size);
  for (std::int64_t d = 0; d < dim; ++d) {
    const auto share = static_cast<float>(d % half) / static_cast<float>(std::max<std::int64_t>(half - 1, 1));
    weights_[static_cast<std::size_t>(d)] = fast + (slow - fast) * share;
  }
  CounterRandom keys(seed, stream_of(head, Use::key_basis));
  CounterRandom values(seed, stream_of(head, Use::value_basis));
  for (std::size_t i = 0; i < basis_size; ++i) {
    key_basis_.push_back(normal(keys) * weights_[i % size] / std::sqrt(static_cast<float>(dim)));
    value_basis_.push_back(0.5f * normal(values) / std::sqrt(static_cast<float>(rank_)));
  }
  make_means();
  make_dual();
  for (std::size_t i = 0; i < basis_size; ++i)
    key_basis_[i] *= 6 * spectrum(static_cast<std::int64_t>(i) / dim);  // from here on with the weights of the topics
}

void SyntheticHead::make_means() {
  CounterRandom random(seed_, stream_of(head_, Use::means));
  for (const float weight : weights_) {
    key_mean_.push_back(0.5f * weight * normal(random));
    value_mean_.push_back(0.35f * normal(random));
  }
  query_mean_.assign(weights_.size(), 0.f);

  // Four slow channels of the first halves of the pairs, drawn without repetition.
  const std::int64_t half = dim_ / 2;
  std::vector<std::int64_t> slow;
  for (std::int64_t d = half * 5 / 8; d < half; ++d) slow.push_back(d);
  CounterRandom channels(seed_, stream_of(head_, Use::channels));
  for (std::size_t i = 0; i < kHugeMeans.size() && !slow.empty(); ++i) {
    const auto choice = static_cast<std::ptrdiff_t>(channels.below(slow.size()));
    const float sign = channels.uniform() < 0.5 ? -1.f : 1.f;
    const auto channel = static_cast<std::size_t>(slow[static_cast<std::size_t>(choice)]);
    slow.erase(slow.begin() + choice);
    key_mean_[channel] += sign * kHugeMeans[i];
    query_mean_[channel] = -sign * kQueryMeans[i];
  }
}

/// Half matched filter, half dual basis (pseudo-inverse) of the keys' basis, with the topics' weights.
void SyntheticHead::make_dual() {
  std::vector<double> gram(static_cast<std::size_t>(rank_ * rank_));
  std::vector<double> inverse(key_basis_.begin(), key_basis_.end());
  double trace = 0;
  for (std::int64_t i = 0; i < rank_; ++i) {
    for (std::int64_t j = 0; j < rank_; ++j) {
      double sum = 0;
      for (std::int64_t d = 0; d < dim_; ++d)
        sum += static_cast<double>(key_basis_[static_cast<std::size_t>(i * dim_ + d)]) *
               key_basis_[static_cast<std::size_t>(j * dim_ + d)];
      gram[static_cast<std::size_t>(i * rank_ + j)] = sum;
    }
    trace += gram[static_cast<std::size_t>(i * rank_ + i)];
  }
  std::vector<double> norms;
  for (std::int64_t i = 0; i < rank_; ++i) {
    double& diagonal = gram[static_cast<std::size_t>(i * rank_ + i)];
    norms.push_back(diagonal);
    diagonal += 1e-9 * trace;  // small dims make a square, possibly singular basis
  }
  solve_spd(std::move(gram), rank_, inverse, dim_);
  for (std::size_t i = 0; i < inverse.size(); ++i) {
    const auto j = static_cast<std::int64_t>(i) / dim_;
    const double matched = key_basis_[i] / norms[static_cast<std::size_t>(j)];
    dual_.push_back(spectrum(j) * static_cast<float>(0.5 * matched + 0.5 * inverse[i]));
  }
}

std::vector<float> SyntheticHead::topics(std::int64_t first, std::int64_t count) const {
  constexpr float kFast = 0.3f;
  constexpr float kSlow = 0.97f;
  const float fast_step = std::sqrt(1 - kFast * kFast);
  const float slow_step = std::sqrt(1 - kSlow * kSlow);
  std::vector<float> fast(static_cast<std::size_t>(rank_), 0.f);
  std::vector<float> slow = fast;
  std::vector<float> result(static_cast<std::size_t>(count * rank_));
  for (std::int64_t token = first - kWarmUp; token < first + count; ++token) {
    CounterRandom random(seed_, stream_of(head_, Use::innovation, token + kWarmUp));
    for (std::int64_t j = 0; j < rank_; ++j) {
      float& y = fast[static_cast<std::size_t>(j)];
      float& z = slow[static_cast<std::size_t>(j)];
      y = kFast * y + fast_step * normal(random);
      z = kSlow * z + slow_step * normal(random);
      if (token >= first) result[static_cast<std::size_t>((token - first) * rank_ + j)] = 0.6f * (y + z);
    }
  }
  return result;
}

void SyntheticHead::rotate(std::int64_t position, float* row) const {
  const std::int64_t half = dim_ / 2;
  for (std::int64_t d = 0; d < half; ++d) {
    const double angle = static_cast<double>(position) * frequencies_[static_cast<std::size_t>(d)];
    const auto cosine = static_cast<float>(std::cos(angle));
    const auto sine = static_cast<float>(std::sin(angle));
    const float x = row[d];
    row[d] = x * cosine - row[d + half] * sine;
    row[d + half] = row[d + half] * cosine + x * sine;
  }
}

void SyntheticHead::rows(std::int64_t first, std::int64_t count, float* k, float* v) const {
  const auto content = topics(first, count);
  for (std::int64_t i = 0; i < count; ++i, k += dim_, v += dim_) {
    CounterRandom random(seed_, stream_of(head_, Use::noise, first + i));
    std::copy(key_mean_.begin(), key_mean_.end(), k);
    std::copy(value_mean_.begin(), value_mean_.end(), v);
    for (std::int64_t j = 0; j < rank_; ++j) {
      const float topic = content[static_cast<std::size_t>(i * rank_ + j)] + 0.53f * normal(random);
      add_scaled(topic, key_basis_.data() + j * dim_, dim_, k);
      add_scaled(topic, value_basis_.data() + j * dim_, dim_, v);
    }
    for (std::int64_t d = 0; d < dim_; ++d) {
      k[d] += 0.35f * weights_[static_cast<std::size_t>(d)] * normal(random);
      v[d] += 0.9f * normal(random);
    }
    rotate(first + i, k);
  }
}

std::vector<float> SyntheticHead::topic_before(std::int64_t end) const {
  const std::int64_t count = std::min(kTopicTokens, end);
  const auto content = topics(end - count, count);
  std::vector<float> mean(static_cast<std::size_t>(rank_), 0.f);
  for (std::size_t i = 0; i < content.size(); ++i)
    mean[i % mean.size()] += content[i] / static_cast<float>(std::max<std::int64_t>(count, 1));
  return mean;
}

void SyntheticHead::queries(std::int64_t position, std::int64_t group, const std::vector<float>& topic,
                            float* q) const {
  CounterRandom random(seed_, stream_of(head_, Use::query, position));
  std::vector<float> shared(static_cast<std::size_t>(rank_));
  for (std::size_t j = 0; j < shared.size(); ++j) shared[j] = 0.8f * normal(random) + 0.5f * topic[j];
  for (std::int64_t g = 0; g < group; ++g, q += dim_) {
    std::fill_n(q, dim_, 0.f);
    for (std::int64_t j = 0; j < rank_; ++j)
      add_scaled(shared[static_cast<std::size_t>(j)] + 0.6f * normal(random), dual_.data() + j * dim_, dim_, q);
    double norm = 0;
    for (std::int64_t d = 0; d < dim_; ++d) norm += static_cast<double>(q[d]) * q[d];
    const auto unit = static_cast<float>(10 / std::sqrt(std::max(norm, 1e-30)));
    for (std::int64_t d = 0; d < dim_; ++d)
      q[d] = unit * q[d] + query_mean_[static_cast<std::size_t>(d)] + 0.3f * normal(random);
    rotate(position, q);
  }
}

std::uint64_t SyntheticHead::needle_stream(std::int64_t needle) const noexcept {
  return stream_of(head_, Use::needle, needle);
}

}  // namespace tandem::cli
