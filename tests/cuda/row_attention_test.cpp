#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/reference_attention.h"
#include "gpu/cuda/kernels/work.cuh"
#include "gpu/cuda/launchers.h"
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
  DType dtype = DType::bf16;
  int sinks = 4, ring = 192, recents = 150, kept = 20;
  float softcap = 0.f;
  bool alibi = false;
  std::int64_t sliding_window = 0;
};

constexpr AttentionBounds kExact{1e-6, 1e-5};  ///< with fp32 units

/// A window on the device, its queries, and the oracle.
class Window {
 public:
  explicit Window(const Case& c) : c_(c), layout_(cpu::RowLayout::of(shape(), c.dtype)) {
    CounterRandom random(7, static_cast<std::uint64_t>(c.dim_k + c.group));
    const std::int64_t slots = c.sinks + c.ring + c.kept;
    k_ = representable_normals(random, slots * c.dim_k, c.dtype);
    v_ = representable_normals(random, slots * c.dim_v, c.dtype);
    rows_.resize(static_cast<std::size_t>(slots * layout_.row_bytes));
    for (std::int64_t s = 0; s < slots; ++s) {
      cpu::write_row(layout_, DType::f32, reinterpret_cast<const std::byte*>(k_.data() + s * c.dim_k),
                     reinterpret_cast<const std::byte*>(v_.data() + s * c.dim_v), rows_.data() + s * layout_.row_bytes);
    }
    q_ = representable_normals(random, std::int64_t{c.queries} * c.group * c.dim_k, DType::f32);
    slope_.resize(static_cast<std::size_t>(c.group));
    for (int h = 0; h < c.group; ++h) slope_[static_cast<std::size_t>(h)] = 0.01f * static_cast<float>(h + 1);
    // The latest row lies at the start of the ring's second half, so that the recent ones wrap.
    first_recent_ = c.sinks + 10 * c.ring + c.ring / 2 - c.recents + 1;
    for (int i = 0; i < c.queries; ++i) {
      const std::int64_t position = first_recent_ + c.recents - c.queries + i;
      const std::int64_t first = c.sliding_window > 0 ? position - c.sliding_window + 1 : 0;
      spans_.push_back({position, first, position + 1});
    }
  }

  [[nodiscard]] std::int64_t num_rows() const { return c_.sinks + c_.recents + c_.kept; }
  [[nodiscard]] int num_vectors() const { return c_.queries * c_.group; }

  /// The last query of `other`, of which this one is.
  void take_queries(const Window& other, int query) {
    const auto vectors = q_.size();
    const auto first = other.q_.begin() + query * static_cast<std::ptrdiff_t>(vectors);
    q_.assign(first, first + static_cast<std::ptrdiff_t>(vectors));
  }
  void scale_queries(float scale) {
    for (float& x : q_) x *= scale;
  }

  /// out then lse of every vector, as the kernels find them in items of `rows_per_item`.
  std::vector<float> attend(std::int64_t rows_per_item) {
    const CudaStream stream;
    const DeviceArray<std::byte> rows(rows_);
    const DeviceArray<std::byte*> pages(std::vector<std::byte*>{rows.data()});
    const DeviceArray<std::byte*> kept_pages(
        std::vector<std::byte*>{rows.data() + (c_.sinks + c_.ring) * layout_.row_bytes});
    const auto scaled = padded_queries(q_, c_.dim_k, shape().scale);
    const DeviceArray<float> q(std::vector<float>(scaled.begin(), scaled.end()));
    const DeviceArray<QuerySpan> spans(spans_);
    const DeviceArray<float> slopes(slope_);
    std::vector<std::int32_t> slots;
    std::vector<std::int64_t> positions;
    for (int i = 0; i < c_.kept; ++i) {
      slots.push_back(c_.kept - 1 - i);
      positions.push_back(kept_position(i));
    }
    const DeviceArray<std::int32_t> kept_slots(slots);
    const DeviceArray<std::int64_t> kept_positions(positions);
    RowJob job{};
    job.queries = {q.data(), spans.data(), c_.alibi ? slopes.data() : nullptr, c_.softcap, num_vectors(), c_.group};
    job.rows = {pages.data(), layout_.row_bytes, 30};
    job.padded_k = layout_.padded_k;
    job.padded_v = layout_.padded_v;
    job.dim_v = c_.dim_v;
    job.v_offset = static_cast<std::int32_t>(layout_.v_offset);
    job.num_sinks = c_.sinks;
    job.first_recent_slot = static_cast<std::int32_t>((first_recent_ - c_.sinks) % c_.ring);
    job.num_recent = c_.recents;
    job.first_recent = first_recent_;
    job.ring = c_.ring;
    job.ring_begin = c_.sinks;
    job.kept_rows = {kept_pages.data(), layout_.row_bytes, 30};
    job.kept_slots = kept_slots.data();
    job.kept_positions = kept_positions.data();
    job.num_kept = c_.kept;
    const DeviceArray<RowJob> jobs(std::vector<RowJob>{job});

    const RowType type = c_.dtype == DType::f32 ? RowType::f32 : c_.dtype == DType::f16 ? RowType::f16 : RowType::bf16;
    const std::int32_t padded_dim = std::max(layout_.padded_k, layout_.padded_v);
    std::vector<WorkItem> items;
    std::vector<MergeItem> merges;
    const std::int32_t vectors = row_vectors_per_item(type, padded_dim, num_vectors());
    const std::int64_t parts = (num_rows() + rows_per_item - 1) / rows_per_item;
    for (std::int64_t p = 0; p < parts; ++p) {
      for (std::int32_t v = 0; v < num_vectors(); v += vectors)
        items.push_back(
            {0, v, p * rows_per_item, std::min(num_rows(), (p + 1) * rows_per_item), p * num_vectors() + v});
    }
    const DeviceArray<float> out(std::int64_t{num_vectors()} * c_.dim_v), lse(num_vectors());
    for (std::int32_t v = 0; v < num_vectors(); ++v) {
      merges.push_back({v, num_vectors(), static_cast<std::int32_t>(parts), nullptr, nullptr, 0.f, 0,
                        out.data() + v * c_.dim_v, lse.data() + v});
    }
    const DeviceArray<WorkItem> work(items);
    const DeviceArray<MergeItem> merge(merges);
    const DeviceArray<float> partial_out(parts * num_vectors() * c_.dim_v), partial_lse(parts * num_vectors());
    const Partials partials{partial_out.data(), partial_lse.data()};
    launch_row_attention(type, padded_dim, vectors, jobs.data(), work.data(), static_cast<std::int64_t>(items.size()),
                         partials, stream.get());
    launch_merge_partials(merge.data(), static_cast<std::int64_t>(merges.size()), partials, c_.dim_v, stream.get());
    EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
    std::vector<float> result = out.values();
    const std::vector<float> lses = lse.values();
    result.insert(result.end(), lses.begin(), lses.end());
    return result;
  }

  void expect_close(const std::vector<float>& result, const AttentionBounds& bounds) const {
    for (int vector = 0; vector < num_vectors(); ++vector) {
      const auto expected = reference(vector);
      const float lse = result[static_cast<std::size_t>(num_vectors() * c_.dim_v + vector)];
      if (std::isinf(expected.lse)) {
        EXPECT_EQ(lse, static_cast<float>(expected.lse));
      } else {
        EXPECT_NEAR(lse, expected.lse, bounds.lse);
      }
      EXPECT_LT(relative_error(result.data() + vector * c_.dim_v, expected.out), bounds.out) << "vector " << vector;
    }
  }

 private:
  [[nodiscard]] AttentionShape shape() const { return resolved({1, c_.group, 1, c_.dim_k, c_.dim_v, 0.f, 0.f}); }
  [[nodiscard]] std::int64_t kept_position(int i) const { return c_.sinks + 50 + 3 * i; }

  [[nodiscard]] cpu::reference::Result reference(int vector) const {
    const QuerySpan span = spans_[static_cast<std::size_t>(vector / c_.group)];
    std::vector<double> keys, values, biases;
    const auto add = [&](std::int64_t slot, std::int64_t position) {
      if (position < span.first || position >= span.end) return;
      keys.insert(keys.end(), k_.begin() + slot * c_.dim_k, k_.begin() + (slot + 1) * c_.dim_k);
      values.insert(values.end(), v_.begin() + slot * c_.dim_v, v_.begin() + (slot + 1) * c_.dim_v);
      const double slope = c_.alibi ? static_cast<double>(slope_[static_cast<std::size_t>(vector % c_.group)]) : 0.0;
      biases.push_back(slope * static_cast<double>(position - span.position));
    };
    for (std::int64_t s = 0; s < c_.sinks; ++s) add(s, s);
    for (std::int64_t p = first_recent_; p < first_recent_ + c_.recents; ++p)
      add(c_.sinks + (p - c_.sinks) % c_.ring, p);
    for (int i = 0; i < c_.kept; ++i) add(c_.sinks + c_.ring + c_.kept - 1 - i, kept_position(i));
    const std::vector<double> query(q_.begin() + vector * c_.dim_k, q_.begin() + (vector + 1) * c_.dim_k);
    return cpu::reference::attention({query, keys, values, biases, shape().scale, c_.softcap}, c_.dim_v);
  }

  Case c_;
  cpu::RowLayout layout_;
  std::vector<float> k_, v_, q_, slope_;
  std::vector<std::byte> rows_;
  std::vector<QuerySpan> spans_;
  std::int64_t first_recent_ = 0;
};

std::vector<Case> cases() {
  return {
      {64, 64, 1, 1},
      {80, 80, 4, 1, DType::f16},
      {96, 96, 8, 1},
      {128, 128, 4, 1},
      {128, 128, 4, 3, DType::f32},
      {128, 64, 5, 2},
      {64, 128, 8, 3, DType::f16},
      {40, 256, 7, 1, DType::f32},
      {40, 24, 3, 9},
      {256, 256, 2, 1, DType::f16},
      {256, 192, 4, 5},
      {64, 64, 4, 1, DType::bf16, 0, 64, 1, 0},
      {64, 64, 4, 2, DType::bf16, 4, 64, 64, 0, 20.f, true},
      {64, 64, 4, 70, DType::bf16, 4, 128, 128, 5, 0.f, true, 90},
      {64, 64, 2, 2, DType::bf16, 4, 64, 64, 5, 0.f, false, 1},
      {128, 128, 3, 6, DType::f16, 4, 192, 150, 20, 20.f, true, 60},
  };
}

class RowAttention : public CudaTest {
 protected:
  static void expect_oracle(bool is_exact) {
    for (const Case& c : cases()) {
      SCOPED_TRACE(::testing::Message() << "dims " << c.dim_k << " " << c.dim_v << " group " << c.group << " queries "
                                        << c.queries << " " << to_string(c.dtype));
      const AttentionBounds bounds = is_exact ? kExact : tensor_core_bounds(c.dtype, kExact);
      Window window(c);
      window.expect_close(window.attend(window.num_rows()), bounds);
      window.expect_close(window.attend(64), bounds);
      window.expect_close(window.attend(7), bounds);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, RowAttention, kThreadOrders);

TEST_P(RowAttention, AgreesWithTheOracle) { expect_oracle(false); }

TEST_P(RowAttention, IsExactWithoutTensorCores) {
  start_older();
  if (!IsSkipped()) expect_oracle(true);
}

/// How many others an item has, and whether they see a row, makes no difference to a vector's bits.
TEST_P(RowAttention, BitsOfAVectorAreItsOwn) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const Case alone{128, 128, 4, 1, dtype}, among{128, 128, 4, 5, dtype};
    Window one(alone), five(among);
    one.take_queries(five, among.queries - 1);
    const std::vector<float> expected = one.attend(64), result = five.attend(64);
    const auto size = static_cast<std::ptrdiff_t>(alone.group * alone.dim_v);
    const auto last = result.begin() + (among.queries - 1) * size;
    EXPECT_TRUE(std::equal(expected.begin(), expected.begin() + size, last)) << to_string(dtype);
  }
}

/// Queries far from what halves can hold, and weights that are small: units of queries and weights see to both.
TEST_P(RowAttention, QueriesOfAnySize) {
  for (const float scale : {1e-30f, 1e-6f, 40.f}) {
    const Case c{64, 64, 4, 3, DType::f16};
    Window window(c);
    window.scale_queries(scale);
    SCOPED_TRACE(scale);
    // Logits of thousands: what is left of the queries' precision is multiplied by them.
    window.expect_close(window.attend(64),
                        scale < 1.f ? tensor_core_bounds(c.dtype, kExact) : AttentionBounds{1e-3, 1e-2});
  }
}

}  // namespace
}  // namespace tandem::testing
