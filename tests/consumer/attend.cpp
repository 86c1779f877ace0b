// The same in C++20 with tandem.hpp: RAII, exceptions, and a fork that goes its own way.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include <tandem/tandem.hpp>

namespace {

constexpr std::int64_t kTokens = 300, kQHeads = 4, kKvHeads = 2, kDim = 64;

struct Result {
  std::vector<float> out = std::vector<float>(kQHeads * kDim);
  std::vector<float> lse = std::vector<float>(kQHeads);
};

std::vector<float> random_rows(std::int64_t rows, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(rows * kDim));
  for (float& value : values) value = normal(rng);
  return values;
}

void append(const td::Runtime& rt, const td::Sequence& seq, const float* k, const float* v, std::int64_t tokens) {
  const td_seq id = seq.id();
  auto args = td::make<td_append_args>();
  args.num_seqs = 1;
  args.seqs = &id;
  args.num_tokens = &tokens;
  args.k = td::tensor(k, TD_F32, tokens, kKvHeads, kDim);
  args.v = td::tensor(v, TD_F32, tokens, kKvHeads, kDim);
  rt.append(args);
}

Result attend(const td::Runtime& rt, const td::Sequence& seq, const std::vector<float>& q) {
  const td_seq id = seq.id();
  const std::int64_t one_query = 1;
  Result result;
  auto args = td::make<td_attend_args>();
  args.parts = TD_PART_ALL;
  args.num_seqs = 1;
  args.seqs = &id;
  args.num_queries = &one_query;
  args.q = td::tensor(q.data(), TD_F32, 1, kQHeads, kDim);
  args.out = td::tensor(result.out.data(), TD_F32, 1, kQHeads, kDim);
  args.lse = result.lse.data();
  rt.attend(args);
  return result;
}

/// Largest difference to attention over the first `tokens` rows by two plain loops.
double error(const Result& result, const std::vector<float>& q, const std::vector<float>& k,
             const std::vector<float>& v, std::int64_t tokens) {
  double worst = 0;
  for (std::int64_t head = 0; head < kQHeads; ++head) {
    const std::int64_t kv_head = head / (kQHeads / kKvHeads);
    std::vector<double> exact(kDim);
    double sum = 0;
    for (std::int64_t t = 0; t < tokens; ++t) {
      const std::int64_t row = (t * kKvHeads + kv_head) * kDim;
      double logit = 0;
      for (std::int64_t d = 0; d < kDim; ++d) logit += static_cast<double>(q[head * kDim + d]) * k[row + d];
      const double weight = std::exp(logit / std::sqrt(kDim));
      sum += weight;
      for (std::int64_t d = 0; d < kDim; ++d) exact[d] += weight * v[row + d];
    }
    worst = std::max(worst, std::abs(result.lse[head] - std::log(sum)));
    for (std::int64_t d = 0; d < kDim; ++d)
      worst = std::max(worst, std::abs(result.out[head * kDim + d] - exact[d] / sum));
  }
  return worst;
}

int run() {
  auto config = td::make<td_config>();
  config.num_layers = 1;
  config.num_q_heads = kQHeads;
  config.num_kv_heads = kKvHeads;
  config.head_dim_k = kDim;
  config.sink_tokens = 4;
  config.local_tokens = 64;
  const td::Runtime rt(config);
  const td::Sequence seq(rt);

  std::mt19937 rng(7);
  const auto k = random_rows(kTokens * kKvHeads, rng), v = random_rows(kTokens * kKvHeads, rng);
  const auto q = random_rows(kQHeads, rng);
  append(rt, seq, k.data(), v.data(), kTokens - 1);
  const td::Sequence copy = seq.fork();
  append(rt, seq, &k[(kTokens - 1) * kKvHeads * kDim], &v[(kTokens - 1) * kKvHeads * kDim], 1);

  const Result whole = attend(rt, seq, q), without_last = attend(rt, copy, q);
  const double worst = std::max(error(whole, q, k, v, kTokens), error(without_last, q, k, v, kTokens - 1));
  for (std::size_t head = 0; head < whole.lse.size(); ++head)
    std::printf("head %zu: lse %.6f\n", head, whole.lse[head]);
  std::printf("C++, %lld and %lld tokens: largest error %.2e\n", static_cast<long long>(seq.length(0)),
              static_cast<long long>(copy.length(0)), worst);
  return worst < 1e-5 ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const td::Error& error) {
    std::fprintf(stderr, "%s: %s\n", td_status_name(error.status()), error.what());
    return 1;
  }
}
