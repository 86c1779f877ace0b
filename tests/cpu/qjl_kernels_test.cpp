// Scores of QJL against its decoded keys, on every instruction set.
#include <cmath>
#include <tuple>

#include <gtest/gtest.h>

#include "cpu/codec/qjl_projection.h"
#include "cpu/kernels.h"
#include "tests/support/qjl_keys.h"

namespace tandem::cpu {
namespace {

using testing::CodedKeys;
using testing::normal_rows;
using testing::qjl;

struct Case {
  int dim, sketch_bits, outliers, outlier_bits;
};

class QjlScores : public ::testing::TestWithParam<std::tuple<Isa, Case>> {
 protected:
  const Case& c() const { return std::get<1>(GetParam()); }
  int stride() const { return padded(c().dim); }

  /// Scores (num_vectors, kBlockRows) of rows [first, first + count) of the block.
  AlignedVector<float> scores(const AlignedVector<float>& queries, int num_vectors, int first, int count) const {
    const BlockCodecKernels& kernels = kernels_for(std::get<0>(GetParam())).codecs[CodecKind::qjl];
    const auto vectors = static_cast<std::size_t>(num_vectors);
    AlignedVector<float> prepared(vectors * static_cast<std::size_t>(coded_.format.prepared_dim), NAN);
    AlignedVector<float> result(vectors * kBlockRows, NAN);
    kernels.prepare(coded_.format, queries.data(), num_vectors, prepared.data());
    const CodedRows rows{coded_.block.data(),
                         first,
                         count,
                         0,
                         coded_.block.data(),
                         static_cast<std::int64_t>(coded_.block.size()) / 64 * 64};
    kernels.scores(coded_.format, rows, prepared.data(), num_vectors, nullptr, result.data());
    return result;
  }
  const float* key(const AlignedVector<float>& keys, int row) const {
    return keys.data() + static_cast<std::ptrdiff_t>(row) * stride();
  }
  void expect_decoded(const AlignedVector<float>& queries, int num_vectors, int first, int count) const;

  AlignedVector<float> keys_ = normal_rows(kQjlBlockRows, std::get<1>(GetParam()).dim, 3);
  CodedKeys coded_{qjl(c().sketch_bits, c().outliers, c().outlier_bits), c().dim, keys_.data()};
};

void QjlScores::expect_decoded(const AlignedVector<float>& queries, int num_vectors, int first, int count) const {
  const auto decoded = coded_.decoded(0, kQjlBlockRows);
  const auto result = scores(queries, num_vectors, first, count);
  for (int v = 0; v < num_vectors; ++v) {
    const float* q = key(queries, v);
    for (int r = 0; r < kBlockRows; ++r) {
      const float score = result[static_cast<std::size_t>(v * kBlockRows + r)];
      if (r >= count) {
        ASSERT_EQ(score, -INFINITY) << v << ", " << r;
        continue;
      }
      const float* k = key(keys_, first + r);
      const double size = std::sqrt(testing::dot(q, q, c().dim) * testing::dot(k, k, c().dim));
      ASSERT_NEAR(score, testing::dot(q, key(decoded, first + r), c().dim), 3e-6 * size) << v << ", " << r;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, QjlScores,
                         ::testing::Combine(::testing::ValuesIn(available_isas()),
                                            ::testing::Values(Case{64, 64, 0, 0}, Case{64, 256, 8, 128},
                                                              Case{80, 192, 1, 64}, Case{96, 320, 32, 320},
                                                              Case{100, 64, 3, 0}, Case{128, 256, 0, 0},
                                                              Case{128, 256, 8, 0}, Case{128, 1024, 7, 512},
                                                              Case{256, 512, 8, 64}, Case{16, 576, 8, 0})));

TEST_P(QjlScores, AreThoseOfDecodedKeysForAnyNumberOfVectors) {
  for (int vectors = 1; vectors <= 9; ++vectors)
    expect_decoded(normal_rows(vectors, c().dim, 4), vectors, 0, kQjlBlockRows);
  expect_decoded(normal_rows(67, c().dim, 5), 67, 0, kQjlBlockRows);
}

TEST_P(QjlScores, AreThoseOfAnyRowsOfTheBlock) {
  const auto queries = normal_rows(5, c().dim, 6);
  for (const auto& [first, count] :
       {std::pair{0, 1}, {0, 31}, {0, 32}, {0, 33}, {31, 1}, {31, 2}, {32, 32}, {33, 30}, {63, 1}, {17, 47}})
    expect_decoded(queries, 5, first, count);
}

/// What a vector gets does not depend on the ones it comes with, nor on the rows.
TEST_P(QjlScores, OfAVectorDependOnNothingElse) {
  const auto queries = normal_rows(7, c().dim, 7);
  const auto together = scores(queries, 7, 0, kQjlBlockRows);
  for (int v = 0; v < 7; ++v) {
    const AlignedVector<float> one(key(queries, v), key(queries, v) + stride());
    const auto alone = scores(one, 1, 3, kQjlBlockRows - 3);
    for (int r = 3; r < kQjlBlockRows; ++r) {
      ASSERT_EQ(alone[static_cast<std::size_t>(r - 3)], together[static_cast<std::size_t>(v * kBlockRows + r)])
          << v << ", " << r;
    }
  }
}

/// Of no rows: nothing is read.
TEST_P(QjlScores, OfNoRowsAreHidden) { expect_decoded(normal_rows(2, c().dim, 6), 2, 0, 0); }

class QjlExtremes : public ::testing::TestWithParam<Isa> {};

INSTANTIATE_TEST_SUITE_P(Isas, QjlExtremes, ::testing::ValuesIn(available_isas()));

/// Queries come with the scale of the logits: up to kMaxMagnitude * kMaxScale. Keys are all one constant, queries too,
/// parallel or antiparallel to them.
TEST_P(QjlExtremes, ScoresAreFinite) {
  constexpr int kDim = 256, kVectors = 3;
  const BlockCodecKernels& kernels = kernels_for(GetParam()).codecs[CodecKind::qjl];
  for (const auto& params : {qjl(1024, 32, 0, true), qjl(1024, 32, 0, false)}) {
    const auto kept = qjl_projection(params.seed, kDim, params.sketch_bits, params.orthogonal);
    for (const float of_keys : {0.f, 1e-30f, 1.f, 0.999e16f}) {
      const CodedKeys coded(params, kDim, AlignedVector<float>(kQjlBlockRows * kDim, of_keys).data());
      AlignedVector<float> prepared(static_cast<std::size_t>(kVectors * coded.format.prepared_dim));
      AlignedVector<float> scores(kVectors * kBlockRows);
      for (const float of_queries : {0.f, 1e-30f, 1.f, 0.999e19f}) {
        AlignedVector<float> queries(kVectors * kDim, of_queries);
        for (std::size_t i = 0; i < kDim; ++i) queries[i] *= -1;
        kernels.prepare(coded.format, queries.data(), kVectors, prepared.data());
        kernels.scores(coded.format, {coded.block.data(), 0, kQjlBlockRows, 0}, prepared.data(), kVectors, nullptr,
                       scores.data());
        const double expected = static_cast<double>(of_keys) * of_queries * kDim;
        for (std::size_t i = 0; i < scores.size(); ++i) {
          ASSERT_TRUE(std::isfinite(scores[i]));
          ASSERT_NEAR(scores[i], i < kBlockRows ? -expected : expected, 0.15 * expected + 1e-37);
        }
      }
    }
  }
}

}  // namespace
}  // namespace tandem::cpu
