// The kernels of prefill attention: queries of a chunk over rows that come in pieces.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include "cpu/reference_attention.h"
#include "gpu/cuda/kernels/prefill_work.cuh"
#include "gpu/cuda/prefill_launchers.h"
#include "runtime/base/dtype.h"
#include "tests/cuda/attention_bounds.h"
#include "tests/cuda/cuda_test.h"
#include "tests/cuda/device_array.h"
#include "tests/support/store_fixture.h"

namespace tandem::testing {
namespace {

using namespace gpu::cuda;

struct Case {
  int dim_k, dim_v, group, queries;
  std::int64_t rows;
  DType dtype = DType::bf16;
  std::int64_t first_position = 4, first_query = 0;  ///< of row 0, and of the queries; 0: they are the latest tokens
  float softcap = 0.f;
  bool alibi = false;
  std::int64_t sliding_window = 0;
  int left_out = 0;         ///< rows
  float query_scale = 1.f;  ///< 4: attention to a few rows
  std::int32_t split_rows = 64;
};

/// out (vectors, dim_v), lse (vectors).
struct Attended {
  std::vector<float> out, lse;
};

/// Rows of one head, a chunk of queries, and the oracle.
class Chunk {
 public:
  explicit Chunk(const Case& c) : c_(c), layout_(cpu::RowLayout::of(shape(), c.dtype)) {
    CounterRandom random(11, static_cast<std::uint64_t>(c.dim_k + c.group));
    k_ = representable_normals(random, c.rows * c.dim_k, c.dtype);
    v_ = representable_normals(random, c.rows * c.dim_v, c.dtype);
    q_ = representable_normals(random, std::int64_t{c.queries} * c.group * c.dim_k, DType::f32, c.query_scale);
    rows_.resize(static_cast<std::size_t>(c.rows * layout_.row_bytes));
    for (std::int64_t r = 0; r < c.rows; ++r) {
      cpu::write_row(layout_, DType::f32, reinterpret_cast<const std::byte*>(k_.data() + r * c.dim_k),
                     reinterpret_cast<const std::byte*>(v_.data() + r * c.dim_v), rows_.data() + r * layout_.row_bytes);
    }
    for (int i = 0; i < c.left_out; ++i)
      left_out_.insert(static_cast<std::int64_t>(random.uniform() * static_cast<double>(c.rows)));
    const std::int64_t first = c.first_query > 0 ? c.first_query : c.first_position + c.rows;
    for (int i = 0; i < c.queries; ++i) {
      const std::int64_t position = first + i;
      const bool slides = c.sliding_window > 0 && position >= c.sliding_window;
      spans_.push_back({position, slides ? position - c.sliding_window + 1 : 0, position + 1});
    }
    for (int h = 0; h < c.group; ++h) slopes_.push_back(0.01f * static_cast<float>(h + 1));
  }

  [[nodiscard]] int num_vectors() const { return c_.queries * c_.group; }

  /// By vectors [first, first + count) of the chunk alone.
  [[nodiscard]] Attended attend(int first, int count) const {
    const CudaStream stream;
    const auto scaled = padded_queries(q_, c_.dim_k, shape().scale);
    const DeviceArray<float> q(std::vector<float>(scaled.begin() + first * layout_.padded_k,
                                                  scaled.begin() + (first + count) * layout_.padded_k));
    const DeviceArray<QuerySpan> spans(std::vector<QuerySpan>(spans_.begin() + first / c_.group, spans_.end()));
    const DeviceArray<float> slopes(slopes_);
    const Queries queries{q.data(), spans.data(), c_.alibi ? slopes.data() : nullptr, c_.softcap, count, c_.group};
    const std::int64_t vectors = kPrefillSplits * std::int64_t{count};
    const DeviceArray<float> state_out(vectors * layout_.padded_v), references(vectors), sums(vectors);
    const PrefillStates states{state_out.data(), references.data(), sums.data(), count};
    const RowType type = c_.dtype == DType::f32 ? RowType::f32 : c_.dtype == DType::f16 ? RowType::f16 : RowType::bf16;
    const std::int64_t piece_rows = std::int64_t{kPrefillSplits} * c_.split_rows;
    std::vector<DeviceArray<std::byte>> pieces;  // which the kernels still read
    std::vector<DeviceArray<std::uint32_t>> masks;
    for (std::int64_t begin = 0; begin < std::max<std::int64_t>(1, c_.rows); begin += piece_rows) {
      const std::int64_t end = std::min(c_.rows, begin + piece_rows);
      pieces.emplace_back(
          std::vector<std::byte>(rows_.begin() + begin * layout_.row_bytes, rows_.begin() + end * layout_.row_bytes));
      std::vector<std::uint32_t> bits(static_cast<std::size_t>(piece_rows / 32));
      for (std::int64_t r = begin; r < end; ++r) {
        if (left_out_.count(r) > 0) bits[static_cast<std::size_t>((r - begin) / 32)] |= 1u << (r - begin) % 32;
      }
      masks.emplace_back(bits);
      const PrefillRows rows{pieces.back().data(),
                             c_.left_out > 0 ? masks.back().data() : nullptr,
                             c_.first_position + begin,
                             static_cast<std::int32_t>(end - begin),
                             c_.split_rows,
                             static_cast<std::int32_t>(layout_.row_bytes),
                             static_cast<std::int32_t>(layout_.v_offset),
                             layout_.padded_k,
                             layout_.padded_v};
      launch_prefill_attention(type, rows, queries, states, begin == 0, stream.get());
    }
    const DeviceArray<float> out(std::int64_t{count} * c_.dim_v), lse(count);
    launch_merge_prefill_states(states, layout_.padded_v, c_.dim_v, {out.data(), lse.data()}, stream.get());
    EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
    return {out.values(), lse.values()};
  }
  [[nodiscard]] Attended attend() const { return attend(0, num_vectors()); }

  /// Every vector of small chunks, some of large ones.
  void expect_close(const Attended& attended, double out_bound, double lse_bound) const {
    double worst = 0, worst_lse = 0;
    for (int vector = 0; vector<num_vectors(); vector += num_vectors()> 64 ? 7 : 1) {
      const auto expected = reference(vector);
      const float lse = attended.lse[static_cast<std::size_t>(vector)];
      if (std::isinf(expected.lse)) {
        EXPECT_EQ(lse, static_cast<float>(expected.lse));
      } else {
        worst_lse = std::max(worst_lse, std::abs(lse - expected.lse));
      }
      worst = std::max(worst, relative_error(attended.out.data() + vector * c_.dim_v, expected.out));
    }
    EXPECT_LT(worst, out_bound);
    EXPECT_LT(worst_lse, lse_bound);
  }

 private:
  [[nodiscard]] AttentionShape shape() const { return resolved({1, c_.group, 1, c_.dim_k, c_.dim_v, 0.f, 0.f}); }

  [[nodiscard]] cpu::reference::Result reference(int vector) const {
    const QuerySpan span = spans_[static_cast<std::size_t>(vector / c_.group)];
    std::vector<double> keys, values, biases;
    for (std::int64_t r = 0; r < c_.rows; ++r) {
      const std::int64_t position = c_.first_position + r;
      if (position < span.first || position >= span.end || left_out_.count(r) > 0) continue;
      keys.insert(keys.end(), k_.begin() + r * c_.dim_k, k_.begin() + (r + 1) * c_.dim_k);
      values.insert(values.end(), v_.begin() + r * c_.dim_v, v_.begin() + (r + 1) * c_.dim_v);
      const double slope = c_.alibi ? static_cast<double>(slopes_[static_cast<std::size_t>(vector % c_.group)]) : 0.0;
      biases.push_back(slope * static_cast<double>(position - span.position));
    }
    const std::vector<double> query(q_.begin() + vector * c_.dim_k, q_.begin() + (vector + 1) * c_.dim_k);
    return cpu::reference::attention({query, keys, values, biases, shape().scale, c_.softcap}, c_.dim_v);
  }

  Case c_;
  cpu::RowLayout layout_;
  std::vector<float> k_, v_, q_, slopes_;
  std::vector<std::byte> rows_;
  std::vector<QuerySpan> spans_;
  std::set<std::int64_t> left_out_;
};

constexpr AttentionBounds kExact{4e-6, 1e-5};  ///< with fp32 units

std::vector<Case> shapes() {
  return {
      {64, 64, 1, 1, 300},
      {80, 80, 4, 9, 200, DType::f16},
      {96, 96, 8, 5, 257},
      {128, 128, 4, 20, 320},
      {128, 128, 4, 3, 300, DType::f32},
      {128, 64, 5, 13, 100, DType::f32},
      {40, 256, 7, 5, 150},
      {40, 256, 7, 5, 150, DType::f32},
      {256, 256, 2, 20, 130, DType::f16},
      {256, 200, 2, 17, 130, DType::f32},
      {16, 48, 1, 130, 70},
  };
}

std::vector<Case> rules() {
  std::vector<Case> cases;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    Case c{64, 64, 2, 40, 600, dtype};
    c.first_query = 300;  // in the middle of the rows
    cases.push_back(c);
    c.softcap = 20.f;
    c.alibi = true;
    cases.push_back(c);
    c.softcap = 0.f;
    c.sliding_window = 90;
    c.left_out = 200;
    cases.push_back(c);
    c = {64, 64, 1, 5, 400, dtype};
    c.sliding_window = 1;  // no row is seen
    cases.push_back(c);
    c = {64, 64, 1, 8, 64, dtype};
    c.first_query = 4;  // query i sees i + 1 rows
    cases.push_back(c);
    c = {32, 32, 3, 24, 1000, dtype};
    c.query_scale = 6.f;  // attention to a few rows, of logits far apart
    cases.push_back(c);
  }
  return cases;
}

class PrefillAttention : public CudaTest {
 protected:
  static void expect_oracle(const std::vector<Case>& cases, bool exact) {
    for (const Case& c : cases) {
      SCOPED_TRACE(::testing::Message() << "dims " << c.dim_k << " " << c.dim_v << " group " << c.group << " queries "
                                        << c.queries << " rows " << c.rows << " " << to_string(c.dtype) << " first "
                                        << c.first_query << " sliding " << c.sliding_window);
      const Chunk chunk(c);
      const AttentionBounds bounds = exact ? kExact : tensor_core_bounds(c.dtype, kExact);
      chunk.expect_close(chunk.attend(), bounds.out, bounds.lse);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, PrefillAttention, kThreadOrders);

TEST_P(PrefillAttention, AgreesWithTheOracle) { expect_oracle(shapes(), false); }
TEST_P(PrefillAttention, FollowsTheRules) { expect_oracle(rules(), false); }

TEST_P(PrefillAttention, IsExactWithoutTensorCores) {
  start_older();
  expect_oracle(shapes(), true);
  expect_oracle(rules(), true);
}

TEST_P(PrefillAttention, AnyNumberOfRowsAndQueries) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const std::int64_t rows : {0, 1, 63, 64, 65, 255, 256, 257, 513})
      expect_oracle({{32, 32, 1, 3, rows, dtype}}, false);
    for (const int queries : {1, 31, 32, 33, 63, 64, 65, 300}) expect_oracle({{32, 32, 1, queries, 70, dtype}}, false);
  }
}

TEST_P(PrefillAttention, BitsDependOnTheVectorAlone) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    Case c{64, 48, 2, 60, 700, dtype};
    c.first_query = 200;
    const Chunk chunk(c);
    const Attended all = chunk.attend();
    for (const auto& [first, count] : {std::pair{0, 2}, {34, 50}, {118, 2}}) {
      const Attended some = chunk.attend(first, count);
      EXPECT_EQ(some.out,
                std::vector<float>(all.out.begin() + first * c.dim_v, all.out.begin() + (first + count) * c.dim_v));
      EXPECT_EQ(some.lse, std::vector<float>(all.lse.begin() + first, all.lse.begin() + first + count));
    }
  }
}

}  // namespace
}  // namespace tandem::testing
