// Codes, lookup tables and the scan, against their definitions in double.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <tuple>

#include <gtest/gtest.h>

#include "cpu/kernels.h"
#include "runtime/base/random.h"

namespace tandem::cpu {
namespace {

/// Coordinates of a code in double, from the bits as SketchFormat documents them.
std::vector<double> decoded(const SketchFormat& format, const std::byte* blocks, std::int64_t row) {
  const std::byte* block = blocks + row / kSketchBlockRows * format.block_bytes();
  const int column = SketchFormat::column_of(static_cast<int>(row % kSketchBlockRows));
  int bit = 0;
  const auto next_bit = [&] {
    const auto byte = std::to_integer<unsigned>(block[bit / 8 * 64 + column]);
    return static_cast<int>(byte >> (bit++ % 8) & 1u);
  };
  std::vector<double> z;
  for (const BitGroup& group : format.groups) {
    std::vector<int> levels(static_cast<std::size_t>(group.dims), 0);
    for (int plane = 0; plane < group.bits; ++plane) {
      for (int& level : levels) level = 2 * level + next_bit();
    }
    for (const int level : levels) {
      const double step = format.steps[z.size()];
      z.push_back(step * (level - (1 << (group.bits - 1)) + 0.5));
    }
  }
  return z;
}

double factor_of(const SketchFormat& format, const std::byte* blocks, std::int64_t row) {
  const std::byte* block = blocks + row / kSketchBlockRows * format.block_bytes();
  std::uint16_t half = 0;
  std::memcpy(&half, block + format.code_bytes * 64 + row % kSketchBlockRows * 2, 2);
  return f16_to_f32(half);
}

double dot(const float* a, const double* b, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/// Coded keys of one head and a group of transformed queries with their tables.
struct Coded {
  Coded(Isa isa, const BitAllocation& allocation, int rows, int group, std::uint64_t seed = 1)
      : kernels(kernels_for(isa).sketch), format(allocation, uneven(allocation), 3.f), num_rows(rows) {
    CounterRandom random(seed, static_cast<std::uint64_t>(format.num_dims));
    z.resize(static_cast<std::size_t>(rows * format.padded_dims), 0.f);
    for (int r = 0; r < rows; ++r) {
      for (int i = 0; i < format.num_dims; ++i) at(r)[i] = static_cast<float>(random.normal() * 2 / (1 + 0.02 * i));
    }
    blocks.resize(static_cast<std::size_t>((rows + 63) / 64 * format.block_bytes()));
    queries.resize(static_cast<std::size_t>(group * format.padded_dims), 0.f);
    for (float& q : queries) q = static_cast<float>(random.normal() * 0.3);
    const std::ptrdiff_t lut_bytes = kernels.lut_bytes(format.code_bytes);
    luts.resize(static_cast<std::size_t>(group * lut_bytes));
    slopes.resize(static_cast<std::size_t>(group));
    intercepts = slopes;
    std::vector<float> weights(static_cast<std::size_t>(format.code_bytes * 8));
    for (int h = 0; h < group; ++h) {
      const auto i = static_cast<std::size_t>(h);
      format.bit_weights(query(h), weights.data());
      kernels.luts(weights.data(), format.code_bytes, luts.data() + h * lut_bytes, &slopes[i], &intercepts[i]);
      slopes[i] *= format.factor_scale;
      intercepts[i] *= format.factor_scale;
    }
    view = {group, format.code_bytes, luts.data(), slopes.data(), intercepts.data()};
  }
  static std::vector<float> uneven(const BitAllocation& allocation) {
    std::vector<float> rms;
    for (std::size_t g = 0; g < allocation.size(); ++g) rms.push_back(1.3f / static_cast<float>(g + 1));
    return rms;
  }
  float* at(int row) { return z.data() + row * format.padded_dims; }
  [[nodiscard]] const float* query(int h) const { return queries.data() + h * format.padded_dims; }
  void encode() { kernels.encode(format, z.data(), num_rows, blocks.data(), 0); }
  /// <query, code> as the tables should give it, and what their rounding may add.
  [[nodiscard]] double estimate(int h, int row) const {
    const auto code = decoded(format, blocks.data(), row);
    return factor_of(format, blocks.data(), row) * format.factor_scale * dot(query(h), code.data(), format.num_dims);
  }
  [[nodiscard]] double rounding(int h, int row) const {
    return factor_of(format, blocks.data(), row) * slopes[static_cast<std::size_t>(h)] * format.code_bytes * 1.001 +
           1e-4;
  }

  const SketchKernels& kernels;
  SketchFormat format;
  int num_rows;
  AlignedVector<float> z, queries;
  AlignedVector<std::byte> blocks;
  AlignedVector<std::uint8_t> luts;
  std::vector<float> slopes, intercepts;
  SketchQuery view;
};

class Sketch : public testing::TestWithParam<std::tuple<Isa, int /*head_dim*/, int /*bits_per_dim*/>> {};

TEST_P(Sketch, EveryAllocationHasTheBytesOfItsMenu) {
  const auto [isa, head_dim, bits] = GetParam();
  for (const BitAllocation& allocation : sketch_menu(head_dim, bits)) {
    const SketchFormat format(allocation, std::vector<float>(allocation.size(), 1.f), 1.f);
    EXPECT_EQ(format.code_bytes, sketch_code_bytes(head_dim, bits));
    EXPECT_EQ(format.code_bytes % 4, 0);
    for (const BitGroup& group : allocation) EXPECT_EQ(group.dims % kNibbleDims, 0);
  }
}

TEST_P(Sketch, CodesAreTheNearestLevelsAndTheFactorMakesTheKeyItsOwnEstimate) {
  const auto [isa, head_dim, bits] = GetParam();
  for (const BitAllocation& allocation : sketch_menu(head_dim, bits)) {
    Coded coded(isa, allocation, 70, 1);
    std::fill_n(coded.at(3), coded.format.padded_dims, 0.f);
    coded.encode();
    EXPECT_EQ(factor_of(coded.format, coded.blocks.data(), 3), 0.0);  // a zero key: every estimate is 0
    for (int r = 0; r < coded.num_rows; ++r) {
      if (r == 3) continue;
      const auto code = decoded(coded.format, coded.blocks.data(), r);
      const float* z = coded.at(r);
      const double norm = std::sqrt(std::inner_product(z, z + coded.format.num_dims, z, 0.0));
      std::size_t i = 0;
      for (const BitGroup& group : coded.format.groups) {
        for (int d = 0; d < group.dims; ++d, ++i) {
          const double step = coded.format.steps[i];
          const double most = step * ((1 << (group.bits - 1)) - 0.5);
          const double nearest = std::clamp((std::floor(z[i] / norm / step) + 0.5) * step, -most, most);
          // A value on the border between two levels may round either way.
          EXPECT_NEAR(code[i], nearest, std::abs(std::remainder(z[i] / norm, step)) < 1e-5 * step ? step * 1.01 : 1e-6);
        }
      }
      const double factor = factor_of(coded.format, coded.blocks.data(), r) * coded.format.factor_scale;
      EXPECT_NEAR(factor * dot(z, code.data(), coded.format.num_dims) / (norm * norm), 1.0, 2e-3);  // fp16
    }
  }
}

TEST_P(Sketch, CodesAreTheSameOnEveryInstructionSet) {
  const auto [isa, head_dim, bits] = GetParam();
  for (const BitAllocation& allocation : sketch_menu(head_dim, bits)) {
    Coded coded(isa, allocation, 130, 1), other(available_isas().back(), allocation, 130, 1);
    coded.encode();
    other.encode();
    // `scalar` does not join products with sums, which takes a value over a border now and then.
    std::size_t different = 0;
    for (std::size_t i = 0; i < coded.blocks.size(); ++i) different += coded.blocks[i] != other.blocks[i] ? 1 : 0;
    EXPECT_LE(different, isa == Isa::scalar ? coded.blocks.size() / 200 : 0);
  }
}

TEST_P(Sketch, EstimatesAreWithinTheRoundingOfTheirTables) {
  const auto [isa, head_dim, bits] = GetParam();
  for (const int group : {1, 2, 3, 4, 7, 8}) {
    Coded coded(isa, sketch_menu(head_dim, bits).back(), 128, group);
    coded.encode();
    AlignedVector<float> estimates(static_cast<std::size_t>(group) * 64);
    for (int b = 0; b < 2; ++b) {
      coded.kernels.estimates(coded.view, coded.blocks.data() + b * coded.format.block_bytes(), estimates.data(), 64);
      for (int h = 0; h < group; ++h) {
        for (int t = 0; t < 64; ++t) {
          EXPECT_NEAR(estimates[static_cast<std::size_t>(h * 64 + t)], coded.estimate(h, b * 64 + t),
                      coded.rounding(h, b * 64 + t));
        }
      }
    }
  }
}

TEST_P(Sketch, ProjectionsAndCentringMatchTheirDefinition) {
  const auto [isa, head_dim, bits] = GetParam();
  const SketchKernels& kernels = kernels_for(isa).sketch;
  CounterRandom random(3, static_cast<std::uint64_t>(head_dim));
  const int padded_dim = padded(head_dim);
  const int planes = 48 * bits;
  AlignedVector<float> x(static_cast<std::size_t>(7 * padded_dim)), m(static_cast<std::size_t>(padded_dim * planes)),
      y(static_cast<std::size_t>(7 * planes));
  for (float& v : x) v = static_cast<float>(random.normal());
  for (float& v : m) v = static_cast<float>(random.normal());
  kernels.project(x.data(), 7, padded_dim, m.data(), planes, y.data());
  for (int v = 0; v < 7; ++v) {
    for (int p = 0; p < planes; ++p) {
      double expected = 0;
      for (int i = 0; i < padded_dim; ++i)
        expected += static_cast<double>(x[static_cast<std::size_t>(v * padded_dim + i)]) *
                    m[static_cast<std::size_t>(i * planes + p)];
      EXPECT_NEAR(y[static_cast<std::size_t>(v * planes + p)], expected, 1e-4);
    }
  }
  const std::byte* rows[] = {reinterpret_cast<const std::byte*>(x.data() + padded_dim),
                             reinterpret_cast<const std::byte*>(x.data())};
  AlignedVector<float> centred(static_cast<std::size_t>(2 * padded_dim));
  kernels.centre[DType::f32](rows, 2, padded_dim, x.data() + 2 * padded_dim, centred.data());
  for (int i = 0; i < padded_dim; ++i) {
    EXPECT_EQ(centred[static_cast<std::size_t>(i)],
              x[static_cast<std::size_t>(padded_dim + i)] - x[static_cast<std::size_t>(2 * padded_dim + i)]);
  }
}

struct Rule {
  std::vector<float> shrinks, offsets, references, tempers, scales, alibi;
  SketchProposal proposal;
  Rule(int group, float softcap, bool with_alibi, float temper) {
    for (int h = 0; h < group; ++h) {
      shrinks.push_back(0.9f - 0.1f * static_cast<float>(h % 3));
      offsets.push_back(0.3f * static_cast<float>(h));
      references.push_back(2.f + static_cast<float>(h % 2));
      tempers.push_back(h % 2 == 0 ? 1.f : temper);
      scales.push_back(0.01f);
      alibi.push_back(0.002f * static_cast<float>(h + 1));
    }
    proposal = {shrinks.data(), offsets.data(), with_alibi ? alibi.data() : nullptr, 100, softcap, references.data(),
                tempers.data(), scales.data()};
  }
  [[nodiscard]] double logit(std::size_t h, double estimate, std::int64_t row) const {
    double x = shrinks[h] * estimate + offsets[h];
    if (proposal.softcap > 0) x = proposal.softcap * std::tanh(x / proposal.softcap);
    if (proposal.alibi != nullptr) x += alibi[h] * static_cast<double>(row - 100);
    return x - references[h];
  }
};

constexpr double kWeightError = 0.035;  // weights are exponentials within 3.1 %

/// A row that a scan may use, by the definitions.
struct NaiveRow {
  std::uint32_t row;
  std::vector<double> weights;
  double share, probability, uniform;
};

std::vector<NaiveRow> naive_scan(const Coded& coded, const Rule& rule, const SketchDraw& draw, int begin, int end) {
  const auto group = static_cast<std::size_t>(coded.view.group_size);
  AlignedVector<float> estimates(group * 64);
  std::vector<NaiveRow> rows;
  for (int row = begin; row < end; ++row) {
    if (row == begin || row % 64 == 0) {
      coded.kernels.estimates(coded.view, coded.blocks.data() + row / 64 * coded.format.block_bytes(), estimates.data(),
                              64);
    }
    const auto column = static_cast<std::size_t>(row % 64);
    if (estimates[column] == -std::numeric_limits<float>::infinity()) continue;
    NaiveRow naive{static_cast<std::uint32_t>(row), {}, 0, 0, 0};
    for (std::size_t h = 0; h < group; ++h) {
      const double x = rule.logit(h, estimates[h * 64 + column], row);
      naive.weights.push_back(std::exp(x));
      naive.share += rule.scales[h] * std::exp(rule.tempers[h] * x);
    }
    naive.probability = draw.rate * naive.share + draw.floor;
    naive.uniform = sketch_uniform(draw.key, naive.row);
    rows.push_back(std::move(naive));
  }
  return rows;
}

/// Near the border of a draw either answer is right.
void expect_candidates(const std::vector<NaiveRow>& rows, const SketchCandidates& found) {
  std::int64_t next = 0;
  for (const NaiveRow& row : rows) {
    const bool hit = next < found.count && found.rows[next] == row.row;
    if (std::abs(row.probability - row.uniform) > kWeightError * row.probability) {
      EXPECT_EQ(hit, row.uniform < row.probability) << row.row;
    }
    if (!hit) continue;
    EXPECT_NEAR(found.shares[next] / row.share, 1, kWeightError);
    EXPECT_EQ(found.uniforms[next], static_cast<float>(row.uniform));
    const float* weights = found.weights + next * static_cast<std::int64_t>(row.weights.size());
    for (std::size_t h = 0; h < row.weights.size(); ++h) EXPECT_NEAR(weights[h] / row.weights[h], 1, kWeightError);
    ++next;
  }
  EXPECT_EQ(next, found.count);
}

/// Sums over rows that are not certain; rows near the border may be in them or not.
void expect_sums(const std::vector<NaiveRow>& rows, const SketchSums& sums, std::size_t group) {
  std::int64_t uncertain_rows = 0, border_rows = 0;
  std::vector<double> uncertain(group + 1, 0.0), border(group + 1, 0.0);  // weights, then the share
  for (const NaiveRow& row : rows) {
    const bool at_border = std::abs(row.probability - 1) < kWeightError;
    if (!at_border && row.probability > 1) continue;
    ++(at_border ? border_rows : uncertain_rows);
    std::vector<double>& into = at_border ? border : uncertain;
    for (std::size_t h = 0; h < group; ++h) into[h] += row.weights[h];
    into[group] += row.share;
  }
  EXPECT_LE(std::abs(sums.rows - uncertain_rows), border_rows);
  for (std::size_t i = 0; i <= group; ++i) {
    const float sum = i < group ? sums.weights[i] : sums.share;
    EXPECT_NEAR(sum, uncertain[i], kWeightError * uncertain[i] + 1.04 * border[i] + 1e-6);
  }
}

TEST_P(Sketch, ScanReportsWhatItsRuleSays) {
  const auto [isa, head_dim, bits] = GetParam();
  constexpr int kRows = 300;  // the last block is cut
  for (const auto& [group, softcap, with_alibi, temper] : {std::tuple{4, 0.f, false, 1.f},
                                                           {3, 0.f, false, 0.6f},
                                                           {2, 4.f, false, 1.f},
                                                           {5, 0.f, true, 0.5f},
                                                           {1, 4.f, true, 1.f}}) {
    Coded coded(isa, sketch_menu(head_dim, bits).front(), kRows, group);
    coded.encode();
    std::byte* unusable = coded.blocks.data() + 2 * coded.format.block_bytes() + coded.format.code_bytes * 64 + 5 * 2;
    unusable[1] |= std::byte{0x80};  // row 133
    const Rule rule(group, softcap, with_alibi, temper);
    const SketchDraw draw{8.f, 0.02f, 0x123456789abcdefu};
    for (const auto& [begin, end] : {std::pair{0, 300}, {10, 200}, {64, 128}, {65, 66}, {128, 300}}) {
      AlignedVector<std::uint32_t> found_rows(320);
      AlignedVector<float> shares(320), uniforms(320), weights(static_cast<std::size_t>(320 * group)),
          weight_sums(static_cast<std::size_t>(group));
      SketchCandidates found{found_rows.data(), shares.data(), uniforms.data(), weights.data()};
      SketchSums sums{weight_sums.data()};
      coded.kernels.scan(coded.view, rule.proposal, draw, {coded.blocks.data(), 0, begin, end}, found, sums);
      const std::vector<NaiveRow> rows = naive_scan(coded, rule, draw, begin, end);
      EXPECT_EQ(static_cast<int>(rows.size()), end - begin - (begin <= 133 && 133 < end ? 1 : 0));
      expect_candidates(rows, found);
      expect_sums(rows, sums, static_cast<std::size_t>(group));
    }
  }
}

TEST_P(Sketch, WeightsAreExponentialsWithinThreePercentAndStayFinite) {
  const SketchKernels& kernels = kernels_for(std::get<0>(GetParam())).sketch;
  AlignedVector<float> x(128);
  std::iota(x.begin(), x.end(), -64.f);
  x[0] = -std::numeric_limits<float>::infinity();
  x[1] = -1e30f;
  x[127] = 1e30f;
  AlignedVector<float> w = x;
  const float total = kernels.weigh(w.data(), 128, 0.5f, 1.5f);
  EXPECT_EQ(w[0], 0.f);
  EXPECT_EQ(w[1], 0.f);
  EXPECT_TRUE(std::isfinite(total));
  EXPECT_TRUE(std::isfinite(w[127]));
  for (std::size_t i = 2; i < 127; ++i) EXPECT_NEAR(w[i] / std::exp(0.5 * (x[i] - 1.5)), 1.0, 0.031) << x[i];
  const SketchMoments moments = kernels.moments(x.data(), 112);
  EXPECT_EQ(moments.count, 111);  // without -inf
}

std::string name_of(const testing::TestParamInfo<Sketch::ParamType>& test) {
  return std::string(to_string(std::get<0>(test.param))) + "_" + std::to_string(std::get<1>(test.param)) + "_" +
         std::to_string(std::get<2>(test.param));
}

INSTANTIATE_TEST_SUITE_P(Isas, Sketch,
                         testing::Combine(testing::ValuesIn(available_isas()),
                                          testing::Values(16, 32, 64, 80, 96, 128, 256), testing::Values(1, 2)),
                         name_of);

/// Mean, variance and correlations of n uniform numbers, each within five standard errors.
void expect_uniform(const std::vector<double>& u, const char* what) {
  const auto n = static_cast<double>(u.size());
  double sum = 0, square = 0, lagged = 0;
  std::vector<int> cells(64, 0);
  for (std::size_t i = 0; i < u.size(); ++i) {
    EXPECT_GT(u[i], 0.0);
    EXPECT_LT(u[i], 1.0);
    sum += u[i] - 0.5;
    square += (u[i] - 0.5) * (u[i] - 0.5);
    lagged += (u[i] - 0.5) * (u[(i + 1) % u.size()] - 0.5);
    ++cells[static_cast<std::size_t>(u[i] * 64)];
  }
  EXPECT_LT(std::abs(sum) / std::sqrt(n / 12), 5) << what;
  EXPECT_LT(std::abs(square - n / 12) / std::sqrt(n / 180), 5) << what;
  EXPECT_LT(std::abs(lagged) / (std::sqrt(n) / 12), 5) << what;
  double chi = 0;
  for (const int count : cells) chi += (count - n / 64) * (count - n / 64) / (n / 64);
  EXPECT_LT(std::abs(chi - 63) / std::sqrt(2 * 63.0), 5) << what;
}

TEST(SketchUniform, IsUniformOverBlocksAndOverKeys) {
  for (const std::uint64_t key : {0ull, 1ull, 0xffffffffull, 0x123456789abcdef0ull}) {
    for (const std::uint32_t row : {0u, 13u, 63u}) {
      std::vector<double> blocks, keys;
      for (std::uint32_t i = 0; i < 100000; ++i) blocks.push_back(sketch_uniform(key, i * kSketchBlockRows + row));
      for (std::uint64_t i = 0; i < 100000; ++i) keys.push_back(sketch_uniform(CounterRandom(key, i).next(), 77 + row));
      expect_uniform(blocks, "blocks of one key");
      expect_uniform(keys, "keys of one row");
    }
  }
}

/// A pair of rows is drawn together as often as independent rows are: for every distance, in one block and across.
TEST(SketchUniform, PairsOfRowsAreIndependentAtEveryDistance) {
  constexpr std::uint32_t kBlocks = 20000;
  constexpr std::uint32_t kRows = kBlocks * kSketchBlockRows;
  for (const float probability : {0.02f, 0.3f}) {
    std::vector<char> drawn(kRows);
    for (std::uint32_t row = 0; row < kRows; ++row) drawn[row] = sketch_uniform(11, row) < probability ? 1 : 0;
    const double expected = static_cast<double>(probability) * probability;
    for (std::uint32_t distance = 1; distance <= 130; ++distance) {
      std::int64_t both = 0;
      for (std::uint32_t row = 0; row + distance < kRows; ++row) both += drawn[row] & drawn[row + distance];
      const double n = kRows - distance;
      // Pairs of one block are uncorrelated but not independent of each other: their counts spread a little more.
      EXPECT_NEAR(static_cast<double>(both), n * expected, 8 * std::sqrt(n * expected)) << distance;
    }
  }
}

/// Rows that stand at equal distances in every block are as spread in number as independent rows.
TEST(SketchUniform, CountsOfPeriodicRowsHaveTheVarianceOfIndependentOnes) {
  constexpr std::uint32_t kBlocks = 20000;
  for (const float probability : {0.02f, 0.1f, 0.32f}) {
    for (const std::uint32_t period : {1u, 2u, 3u, 4u, 7u, 8u, 16u, 21u, 32u}) {
      double square = 0;
      double rows = 0;
      for (std::uint32_t block = 0; block < kBlocks; ++block) {
        double count = 0;
        rows = 0;
        for (std::uint32_t t = 0; t < kSketchBlockRows; t += period, ++rows)
          count += sketch_uniform(12, block * kSketchBlockRows + t) < probability ? 1.0 - probability : -probability;
        square += count * count;
      }
      const double variance = rows * probability * (1 - probability);
      EXPECT_NEAR(square / kBlocks / variance, 1, 0.1) << period << ", " << probability;
    }
  }
}

/// Rows that two keys both favour are as many as chance allows: draws of different steps are independent.
TEST(SketchUniform, KeysAreIndependent) {
  int both = 0;
  constexpr int kTrials = 400000;
  for (std::uint32_t i = 0; i < kTrials; ++i) {
    const std::uint64_t a = CounterRandom(1, i % 7).next(), b = CounterRandom(1, i % 7 + 1).next();
    both += sketch_uniform(a, i) < 0.05f && sketch_uniform(b, i) < 0.05f ? 1 : 0;
  }
  EXPECT_NEAR(both, kTrials * 0.0025, 5 * std::sqrt(kTrials * 0.0025));
}

}  // namespace
}  // namespace tandem::cpu
