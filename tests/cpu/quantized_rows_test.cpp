// Host rows in 8 and 4 bits: what a row holds, and attention over it, on every instruction set.
#include <cmath>
#include <tuple>

#include <gtest/gtest.h>

#include "cpu/dense_attention.h"
#include "cpu/sampled_attention.h"
#include "tests/support/attention_head.h"

namespace tandem::cpu {
namespace {

using testing::AttentionHead;
using testing::relative_error;

const std::byte* bytes(const std::vector<float>& x) { return reinterpret_cast<const std::byte*>(x.data()); }

/// K and V as a row of `layout` gives them back.
std::pair<std::vector<float>, std::vector<float>> round_trip(const RowLayout& layout, const std::vector<float>& k,
                                                             const std::vector<float>& v) {
  AlignedVector<std::byte> row(static_cast<std::size_t>(layout.row_bytes), std::byte{0xff});
  write_row(layout, DType::f32, bytes(k), bytes(v), row.data());
  std::vector<float> key(static_cast<std::size_t>(layout.padded_k), 7.f),
      value(static_cast<std::size_t>(layout.padded_v), 7.f);
  load_key(layout, row.data(), key.data());
  load_value(layout, row.data(), value.data());
  for (auto i = static_cast<std::size_t>(layout.dim_k); i < key.size(); ++i) EXPECT_EQ(key[i], 0.f);
  for (auto i = static_cast<std::size_t>(layout.dim_v); i < value.size(); ++i) EXPECT_EQ(value[i], 0.f);
  key.resize(k.size());
  value.resize(v.size());
  return {key, value};
}

float largest(const std::vector<float>& x) {
  float most = 0.f;
  for (const float y : x) most = std::max(most, std::abs(y));
  return most;
}

class QuantizedRows : public ::testing::TestWithParam<DType> {
 protected:
  [[nodiscard]] float steps_of_v() const { return GetParam() == DType::int8 ? 127.f : 7.f; }
};
INSTANTIATE_TEST_SUITE_P(Formats, QuantizedRows, ::testing::Values(DType::int8, DType::k8v4),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST_P(QuantizedRows, GiveBackEveryElementToHalfAStep) {
  for (const auto& [dim_k, dim_v] : {std::pair{128, 128}, {64, 80}, {72, 40}, {1, 1}, {17, 257}, {1024, 1024}}) {
    const RowLayout layout = RowLayout::of(resolved({1, 1, 1, dim_k, dim_v, 0.f, 0.f}), GetParam());
    EXPECT_EQ(layout.row_bytes % 64, 0);
    for (const double scale : {1.0, 1e-42, 1e-38, 1e-20, 2e15}) {
      CounterRandom random(5, static_cast<std::uint64_t>(dim_k));
      const auto k = testing::representable_normals(random, dim_k, DType::f32, scale);
      const auto v = testing::representable_normals(random, dim_v, DType::f32, scale);
      const auto [key, value] = round_trip(layout, k, v);
      const float tiny = std::numeric_limits<float>::denorm_min() * 128;  // a scale that is subnormal is itself rounded
      for (std::size_t i = 0; i < k.size(); ++i) EXPECT_NEAR(key[i], k[i], largest(k) / 127 * 0.501f + tiny) << scale;
      for (std::size_t i = 0; i < v.size(); ++i)
        EXPECT_NEAR(value[i], v[i], largest(v) / steps_of_v() * 0.501f + tiny) << scale;
    }
  }
}

TEST_P(QuantizedRows, ZeroConstantAndExtremeRowsAreExact) {
  const RowLayout layout = RowLayout::of(resolved({1, 1, 1, 64, 48, 0.f, 0.f}), GetParam());
  for (const float x : {0.f, -0.f, 1.f, -3.5f, 9.9e15f, -9.9e15f, 1e-30f}) {
    const std::vector<float> k(64, x), v(48, x);
    const auto [key, value] = round_trip(layout, k, v);
    for (const auto* row : {&key, &value}) {
      for (const float y : *row) EXPECT_NEAR(y, x, std::abs(x) * 2e-7f);
    }
  }
}

TEST(QuantizedLayout, TakesHalfTheMemory) {
  const auto shape = resolved({1, 1, 1, 128, 128, 0.f, 0.f});
  EXPECT_EQ(RowLayout::of(shape, DType::bf16).row_bytes, 512);
  EXPECT_EQ(RowLayout::of(shape, DType::int8).row_bytes, 320);
  EXPECT_EQ(RowLayout::of(shape, DType::k8v4).row_bytes, 256);
  EXPECT_EQ(RowLayout::of(shape, DType::k8v4).kv_bytes, 128 + 64 + 8);
}

/// A head whose oracle sees what the rows hold, so that only the kernels' own error is left.
struct StoredHead : AttentionHead {
  StoredHead(int dim_k, int dim_v, int group, DType format, std::int64_t rows, double key_scale = 1.0,
             double value_scale = 1.0)
      : AttentionHead(dim_k, dim_v, group, format, rows, key_scale, value_scale) {
    const RowLayout& layout = fixture.layout;
    std::vector<float> key(static_cast<std::size_t>(layout.padded_k)), value(static_cast<std::size_t>(layout.padded_v));
    for (std::int64_t r = 0; r < rows; ++r) {
      load_key(layout, fixture.store.row(r), key.data());
      load_value(layout, fixture.store.row(r), value.data());
      std::copy_n(key.begin(), dim_k, k.begin() + r * dim_k);
      std::copy_n(value.begin(), dim_v, v.begin() + r * dim_v);
    }
  }
};

class QuantizedAttention
    : public ::testing::TestWithParam<std::tuple<Isa, std::pair<int, int> /*dims of K, V*/, DType>> {};

INSTANTIATE_TEST_SUITE_P(Isas, QuantizedAttention,
                         ::testing::Combine(::testing::ValuesIn(available_isas()),
                                            ::testing::Values(std::pair{64, 64}, std::pair{80, 80}, std::pair{96, 96},
                                                              std::pair{128, 128}, std::pair{256, 256},
                                                              std::pair{72, 40}),
                                            ::testing::Values(DType::int8, DType::k8v4)));

TEST_P(QuantizedAttention, IsThatOfTheRowsAsTheyAreStored) {
  const auto [isa, dims, format] = GetParam();
  for (const int group : {1, 2, 4, 7, 20}) {  // from 16 vectors on rows are decoded first
    for (const std::int64_t rows : {1, 63, 65, 200}) {
      const StoredHead head(dims.first, dims.second, group, format, rows);
      const std::int64_t position = rows;
      std::vector<float> out(static_cast<std::size_t>(group * dims.second)), lse(static_cast<std::size_t>(group));
      AttentionScratch scratch;
      dense_attention(kernels_for(isa), head.fixture.store, 0, {head.scaled.data(), &position, 1, group}, {}, scratch,
                      {out.data(), lse.data(), group, dims.second});
      for (int h = 0; h < group; ++h) {
        const auto expected = head.expected(h, {});
        EXPECT_LT(relative_error(out.data() + h * dims.second, expected.out), 1e-5) << rows;
        EXPECT_NEAR(lse[static_cast<std::size_t>(h)], expected.lse, 1e-5) << rows;
      }
    }
  }
}

TEST_P(QuantizedAttention, StatesTheSpreadOfSampledRows) {
  const auto [isa, dims, format] = GetParam();
  constexpr std::int64_t kRows = 150;
  const StoredHead head(dims.first, dims.second, 2, format, kRows);
  SampledRows sample;
  for (std::uint32_t r = 0; r < kRows; r += 2) {
    sample.rows.push_back(r);
    sample.inclusion.push_back(r % 3 == 0 ? 1.f : 0.25f);
  }
  const std::int64_t position = kRows;
  std::vector<float> out(static_cast<std::size_t>(2 * dims.second)), value(out), lse(2), weight(2), square(2);
  AttentionScratch scratch;
  sampled_attention(kernels_for(isa), head.fixture.store, 0, sample, {head.scaled.data(), &position, 1, 2}, {}, scratch,
                    {out.data(), lse.data(), 2, dims.second}, {weight.data(), value.data(), square.data()});
  for (int h = 0; h < 2; ++h) {
    double exact_square = 0, exact_first = 0;
    for (std::size_t i = 0; i < sample.rows.size(); ++i) {
      const double pi = sample.inclusion[i];
      const double a = std::exp(head.logit(h, sample.rows[i]) - lse[static_cast<std::size_t>(h)]) / pi;
      const float* v = head.value(sample.rows[i]);
      for (int d = 0; d < dims.second; ++d) exact_square += (1 - pi) * a * a * v[d] * v[d];
      exact_first += (1 - pi) * a * a * v[0];
    }
    EXPECT_NEAR(square[static_cast<std::size_t>(h)], exact_square, 1e-4 * exact_square);
    EXPECT_NEAR(value[static_cast<std::size_t>(h * dims.second)], exact_first, 1e-4 * std::sqrt(exact_square));
  }
}

TEST_P(QuantizedAttention, ExtremeMagnitudesStayFinite) {
  const auto [isa, dims, format] = GetParam();
  for (const auto& [key_scale, value_scale] : {std::pair{1e-40, 1e-40}, {0.0, 0.0}, {60.0, 2e15}, {2e15, 2e15}}) {
    const StoredHead head(dims.first, dims.second, 2, format, 130, key_scale, value_scale);
    const std::int64_t position = 130;
    std::vector<float> out(static_cast<std::size_t>(2 * dims.second)), lse(2);
    AttentionScratch scratch;
    dense_attention(kernels_for(isa), head.fixture.store, 0, {head.scaled.data(), &position, 1, 2}, {}, scratch,
                    {out.data(), lse.data(), 2, dims.second});
    for (const float x : out) ASSERT_TRUE(std::isfinite(x));
    for (int h = 0; h < 2; ++h) {
      const auto expected = head.expected(h, {});
      EXPECT_NEAR(lse[static_cast<std::size_t>(h)], expected.lse, 1e-6 * std::abs(expected.lse) + 1e-3);
    }
  }
}

TEST_P(QuantizedAttention, LosesLittleOfNormalHeads) {
  const auto [isa, dims, format] = GetParam();
  if (dims.first != dims.second) return;
  constexpr std::int64_t kRows = 1000;
  const AttentionHead head(dims.first, dims.second, 4, format, kRows);  // its oracle sees fp32
  const std::int64_t position = kRows;
  std::vector<float> out(static_cast<std::size_t>(4 * dims.second)), lse(4);
  AttentionScratch scratch;
  dense_attention(kernels_for(isa), head.fixture.store, 0, {head.scaled.data(), &position, 1, 4}, {}, scratch,
                  {out.data(), lse.data(), 4, dims.second});
  double error = 0;
  for (int h = 0; h < 4; ++h) error += relative_error(out.data() + h * dims.second, head.expected(h, {}).out) / 4;
  RecordProperty("error", std::to_string(error));
  EXPECT_LT(error, format == DType::int8 ? 0.015 : 0.15);
}

}  // namespace
}  // namespace tandem::cpu
