// Bits depend on configuration, seed and input alone: not on threads, nodes or the company in a batch.
#include "tests/c_api/driver.h"

namespace c_api {
namespace {

const std::vector<std::int64_t> kPrompts{1500, 90, 333};
const std::vector<std::vector<std::int64_t>> kSteps{{1, 1, 1}, {40, 3, 0}, {5, 0, 100}, {1, 2, 1}};

std::string json(const std::string& selector, int threads, const std::string& topology = "") {
  return R"({"num_layers": 2, "num_q_heads": 4, "num_kv_heads": 2, "head_dim_k": 16, "sink_tokens": 4, "local_tokens": 32,)"
         R"("host_dtype": "f16", "never_slower": false, "selector": )" +
         selector + R"(, "num_threads": )" + std::to_string(threads) + R"(, "topology": ")" + topology + "\"}";
}

/// The tokens and queries of sequence `s` in step `step` are the same, whoever shares the call.
std::uint32_t seed_of(std::size_t s, std::size_t step, std::int32_t layer) {
  return static_cast<std::uint32_t>(1000 * s + 10 * step) + static_cast<std::uint32_t>(layer);
}

/// Concatenates the single requests of some sequences to one of all of them.
template <typename Call>
void join(Call& call, const std::vector<std::vector<float>>& parts, std::vector<float> Call::*member) {
  (call.*member).clear();
  for (const auto& part : parts) (call.*member).insert((call.*member).end(), part.begin(), part.end());
}

/// Prompts and steps of the sequences in `batch`, together; out and lse by sequence.
std::vector<std::vector<float>> play(td_rt* rt, const std::vector<std::size_t>& batch) {
  std::vector<td_seq> seqs;
  for (std::size_t i = 0; i < batch.size(); ++i) seqs.push_back(create(rt));
  std::vector<std::vector<float>> results(batch.size());
  for (std::size_t step = 0; step <= kSteps.size(); ++step) {
    for (std::int32_t layer = 0; layer < kLayers; ++layer) {
      std::vector<std::int64_t> counts;
      std::vector<std::vector<float>> k, v, q;
      for (const std::size_t s : batch) {
        counts.push_back(step == 0 ? kPrompts[s] : kSteps[step - 1][s]);
        const Append one({1}, {counts.back()}, seed_of(s, step, layer));
        k.push_back(one.k);
        v.push_back(one.v);
        q.push_back(Attend({1}, {counts.back()}, seed_of(s, step, layer)).q);
      }
      Append append(seqs, counts, 0, layer);
      join(append, k, &Append::k);
      join(append, v, &Append::v);
      EXPECT_EQ(append.run(rt), TD_OK) << td_last_error();
      if (step == 0) continue;
      Attend attend(seqs, counts, 0, layer);
      join(attend, q, &Attend::q);
      EXPECT_EQ(attend.run(rt), TD_OK) << td_last_error();
      std::size_t row = 0;
      for (std::size_t i = 0; i < batch.size(); ++i) {
        const auto rows = static_cast<std::size_t>(counts[i] * kQHeads);
        for (std::size_t r = row; r < row + rows; ++r) {
          results[i].insert(results[i].end(), attend.out.begin() + static_cast<std::ptrdiff_t>(r * kDim),
                            attend.out.begin() + static_cast<std::ptrdiff_t>((r + 1) * kDim));
          results[i].push_back(attend.lse[r]);
        }
        row += rows;
      }
    }
  }
  return results;
}

class Bits : public testing::TestWithParam<const char*> {
 protected:
  /// Every sequence alone, on one thread.
  [[nodiscard]] std::vector<std::vector<float>> expected() const {
    std::vector<std::vector<float>> results;
    for (const std::size_t s : {0, 1, 2}) {
      const Rt rt(json(GetParam(), 1));
      results.push_back(play(rt, {s}).front());
    }
    return results;
  }
};

INSTANTIATE_TEST_SUITE_P(Reproducibility, Bits,
                         testing::Values(R"({"kind": "all"})", R"({"kind": "topk", "budget": 0.1})",
                                         R"({"kind": "lsh", "lsh_bits": 4, "lsh_tables": 20})",
                                         R"({"kind": "sketch", "budget": 0.1})"));

TEST_P(Bits, DoNotDependOnThreadsOrTheBatch) {
  const auto alone = expected();
  for (const int threads : {1, 2, 3, 4}) {
    const Rt rt(json(GetParam(), threads));
    EXPECT_EQ(play(rt, {0, 1, 2}), alone) << threads << " threads";
    const auto backwards = play(rt, {2, 0});  // as other sequences of the same runtime
    EXPECT_EQ(backwards[0], alone[2]);
    EXPECT_EQ(backwards[1], alone[0]);
  }
}

TEST_P(Bits, DoNotDependOnTheNodes) {
  const auto alone = expected();
  for (const char* topology :
       {"node:1 core:1 pu:1", "node:2 core:2 pu:1", "node:3 core:1 pu:2", "node:4 core:1 pu:1"}) {
    for (const int threads : {0, 1, 3, 8}) {
      const Rt rt(json(GetParam(), threads, topology));
      EXPECT_EQ(play(rt, {0, 1, 2}), alone) << topology << ", " << threads << " threads";
    }
  }
}

TEST(Seeds, ChooseTheProjections) {
  std::vector<std::vector<float>> results;
  for (const char* seed : {"1", "1", "2"}) {
    const Rt rt(json(std::string(R"({"kind": "lsh", "lsh_bits": 4, "lsh_tables": 20, "seed": )") + seed + "}", 2));
    results.push_back(play(rt, {0}).front());
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_NE(results[0], results[2]);
}

}  // namespace
}  // namespace c_api
