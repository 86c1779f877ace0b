// Real decisions of the retrofitted model through the runtime, against attention in the masked form that its training
// computes, written by tools/dmc/golden_dmc.py in double precision.
#include <cmath>
#include <filesystem>
#include <vector>

#include <gtest/gtest.h>

#include "tandem/tandem.hpp"
#include "tools/formats/safetensors.h"
#include "tools/llama/elementwise.h"

namespace tandem {
namespace {

constexpr std::int64_t kTokens = 300, kQHeads = 4, kKvHeads = 2, kDim = 64;
constexpr std::int64_t kFirstOut = 3, kOutStep = 4;  // of the tokens whose output the file has
constexpr float kTheta = 1e6f;

struct Golden {
  Golden() {
    const auto file =
        tools::SafetensorsFile::open(std::filesystem::path(TANDEM_DATA_DIR) / "golden_dmc" / "layer2.safetensors");
    k = file.at("k", {kTokens, kKvHeads, kDim}).to_f32();
    v = file.at("v", {kTokens, kKvHeads, kDim}).to_f32();
    q = file.at("q", {kTokens, kQHeads, kDim}).to_f32();
    out = file.at("out", {kTokens / kOutStep, kQHeads, kDim}).to_f32();
    lse = file.at("lse", {kTokens, kQHeads}).to_f32();
    rotated = q;
    clear_neurons();
    llama::RopeAngles angles;
    llama::compute_angles(0, kTokens, kDim, kTheta, angles);
    llama::apply_rope(angles, rotated.data(), kTokens, kQHeads, kDim);
    clear_neurons();
  }
  void clear_neurons() {
    for (std::int64_t h = 1; h <= kTokens * kQHeads; ++h) rotated[static_cast<std::size_t>(h * kDim - 1)] = 0.f;
  }
  std::vector<float> k, v, q, rotated, out, lse;  // as the file has them; rotated: what queries attend with
};

class GoldenDmc : public ::testing::TestWithParam<std::tuple<std::int64_t /*chunk*/, int /*local*/>> {};

INSTANTIATE_TEST_SUITE_P(Retrofit, GoldenDmc,
                         ::testing::Values(std::tuple(1, 300), std::tuple(1, 16), std::tuple(16, 16),
                                           std::tuple(150, 300)));

TEST_P(GoldenDmc, IsWhatTrainingComputes) {
  const auto [chunk, local] = GetParam();
  const Golden golden;
  auto policy = td::make<td_window_policy>();
  policy.kind = TD_POLICY_DMC;
  policy.decisions = TD_DECISIONS_LAST_NEURON;
  auto config = td::make<td_config>();
  config.num_layers = 1;
  config.num_q_heads = kQHeads;
  config.num_kv_heads = kKvHeads;
  config.head_dim_k = kDim;
  config.local_tokens = local;
  config.rope_theta = kTheta;
  config.window_policy = &policy;
  config.num_threads = 1;
  const td::Runtime runtime(config);
  const td::Sequence sequence(runtime);
  const td_seq id = sequence.id();
  std::vector<float> out(static_cast<std::size_t>(kTokens * kQHeads * kDim));
  std::vector<float> lse(static_cast<std::size_t>(kTokens * kQHeads));
  for (std::int64_t first = 0; first < kTokens; first += chunk) {
    const std::int64_t count = std::min(chunk, kTokens - first);
    const auto rows = [&](const std::vector<float>& all, std::int64_t heads) {
      return td::tensor(all.data() + first * heads * kDim, TD_F32, count, heads, kDim);
    };
    auto append = td::make<td_append_args>();
    append.num_seqs = 1;
    append.seqs = &id;
    append.num_tokens = &count;
    append.k = rows(golden.k, kKvHeads);
    append.v = rows(golden.v, kKvHeads);
    append.q = rows(golden.q, kQHeads);
    runtime.append(append);
    auto attend = td::make<td_attend_args>();
    attend.parts = TD_PART_ALL;
    attend.num_seqs = 1;
    attend.seqs = &id;
    attend.num_queries = &count;
    attend.q = rows(golden.rotated, kQHeads);
    attend.out = rows(out, kQHeads);
    attend.lse = lse.data() + first * kQHeads;
    runtime.attend(attend);
  }
  // Angles of models are rounded to fp32, those of the runtime are not: at 300 tokens that is 1e-5.
  for (std::size_t i = 0; i < lse.size(); ++i) ASSERT_NEAR(lse[i], golden.lse[i], 2e-4) << i / kQHeads;
  for (std::int64_t t = kFirstOut; t < kTokens; t += kOutStep) {
    for (std::int64_t i = 0; i < kQHeads * kDim; ++i)
      ASSERT_NEAR(out[static_cast<std::size_t>(t * kQHeads * kDim + i)],
                  golden.out[static_cast<std::size_t>((t - kFirstOut) / kOutStep * kQHeads * kDim + i)], 2e-4)
          << "token " << t;
  }
  const auto info = sequence.info(0);
  EXPECT_EQ(info.length, kTokens);
  // 69 and 120 entries (meta.json), of which the last of each head is still open and not in either tier.
  if (local == 300) {
    EXPECT_EQ(info.window_entries, 69 + 120);
  }
}

}  // namespace
}  // namespace tandem
