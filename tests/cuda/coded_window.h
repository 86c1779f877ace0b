#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "gpu/cuda/kernels/work.cuh"
#include "gpu/cuda/launchers.h"
#include "tests/cuda/device_array.h"
#include "tests/support/coded_head.h"

namespace tandem::testing {

/// A format whose tables lie in device memory.
class DeviceFormat {
 public:
  explicit DeviceFormat(const cpu::BlockFormat& of)
      : projection_(table(of.projection, std::int64_t{of.padded_k} * of.sketch_bits)),
        format_(with_tables(of)),
        on_device_(std::vector<cpu::BlockFormat>{format_}) {}

  [[nodiscard]] const cpu::BlockFormat& host() const { return format_; }
  [[nodiscard]] const cpu::BlockFormat* device() const { return on_device_.data(); }

 private:
  static std::vector<float> table(const float* values, std::int64_t count) {
    return values == nullptr ? std::vector<float>() : std::vector<float>(values, values + count);
  }
  [[nodiscard]] cpu::BlockFormat with_tables(cpu::BlockFormat format) const {
    if (format.projection != nullptr) format.projection = projection_.data();
    return format;
  }

  DeviceArray<float> projection_;
  cpu::BlockFormat format_;
  DeviceArray<cpu::BlockFormat> on_device_;
};

/// Launches one of the kernels of a codec.
struct CodedLaunchers {
  std::function<void(const cpu::BlockFormat&, std::int32_t vectors, const gpu::cuda::CodedJob*,
                     const gpu::cuda::WorkItem*, std::int64_t, gpu::cuda::Partials, cudaStream_t)>
      attend;
  std::function<void(const cpu::BlockFormat&, const gpu::cuda::EncodeItem*, std::int64_t, cudaStream_t)> encode;
  std::function<void(const cpu::BlockFormat&, const gpu::cuda::DecodeItem*, std::int64_t, cudaStream_t)> decode;
  std::function<void(const cpu::BlockFormat&, const gpu::cuda::CodedJob*, std::int64_t, std::int32_t, cudaStream_t)>
      prepare;
  std::int32_t prepared_dim = 0;
};

/// What queries see of a head's tokens, and how.
struct CodedView {
  std::int64_t begin = 0;  ///< tokens of the head that the window has: [begin, end)
  std::int64_t end = 0;
  std::int32_t ring_blocks = 8;
  float softcap = 0.f;
  bool alibi = false;
  std::int64_t sliding_window = 0;
  std::vector<std::int64_t> positions = {};  ///< of the queries, from the head's first token on
};

/// A head's coded blocks in a ring in device memory, and kernels over them.
class CodedWindow {
 public:
  CodedWindow(const CodedHead& head, const CodedLaunchers& launchers)
      : head_(head), launchers_(launchers), format_(head.codec.format()) {}

  /// out then lse of every query vector, as the kernels find them in items of `tokens_per_item`.
  [[nodiscard]] std::vector<float> attend(const CodedView& view, std::int64_t tokens_per_item) const {
    using namespace gpu::cuda;
    const cpu::BlockFormat& f = format_.host();
    const CudaStream stream;
    const DeviceArray<std::byte> blocks(ring(view));
    std::vector<std::byte*> slots;
    for (std::int32_t i = 0; i < view.ring_blocks; i += 2) slots.push_back(blocks.data() + i * f.block_bytes);
    const DeviceArray<std::byte*> pages(slots);
    const DeviceArray<float> q(std::vector<float>(head_.q.begin(), head_.q.end()));
    std::vector<QuerySpan> of_queries;
    for (std::size_t i = 0; i < view.positions.size(); ++i) of_queries.push_back(span(view, i));
    const DeviceArray<QuerySpan> spans(of_queries);
    const int group = head_.shape.group_size();
    std::vector<float> of_heads;
    for (int h = 0; h < group; ++h) of_heads.push_back(slope(h));
    const DeviceArray<float> slopes(of_heads);
    const auto num_vectors = static_cast<std::int32_t>(view.positions.size()) * group;
    const DeviceArray<float> prepared(std::max<std::int64_t>(1, std::int64_t{num_vectors} * launchers_.prepared_dim));
    CodedJob job{};
    job.queries = {q.data(), spans.data(), view.alibi ? slopes.data() : nullptr, view.softcap, num_vectors, group};
    job.blocks = {pages.data(), f.block_bytes, 1};
    job.format = format_.device();
    job.prepared = prepared.data();
    job.origin = head_.first_position;
    job.begin = job.origin + view.begin;
    job.end = job.origin + view.end;
    job.ring_blocks = view.ring_blocks;
    const DeviceArray<CodedJob> jobs(std::vector<CodedJob>{job});

    std::vector<WorkItem> items;
    const std::int32_t vectors = vectors_per_item(num_vectors);
    std::int64_t parts = 0;
    for (std::int64_t first = view.begin / 64 * 64; first < view.end; first += tokens_per_item, ++parts) {
      for (std::int32_t v = 0; v < num_vectors; v += vectors)
        items.push_back({0, v, first, std::min(view.end, first + tokens_per_item), parts * num_vectors + v});
    }
    const DeviceArray<float> out(std::int64_t{num_vectors} * f.dim_v), lse(num_vectors);
    std::vector<MergeItem> merges;
    for (std::int32_t v = 0; v < num_vectors; ++v) {
      merges.push_back({v, num_vectors, static_cast<std::int32_t>(parts), nullptr, nullptr, 0.f, 0,
                        out.data() + v * f.dim_v, lse.data() + v});
    }
    const DeviceArray<WorkItem> work(items);
    const DeviceArray<MergeItem> merge(merges);
    const DeviceArray<float> partial_out(parts * num_vectors * f.dim_v), partial_lse(parts * num_vectors);
    const Partials partials{partial_out.data(), partial_lse.data()};
    if (launchers_.prepare) launchers_.prepare(f, jobs.data(), 1, num_vectors, stream.get());
    launchers_.attend(f, vectors, jobs.data(), work.data(), static_cast<std::int64_t>(items.size()), partials,
                      stream.get());
    launch_merge_partials(merge.data(), static_cast<std::int64_t>(merges.size()), partials, f.dim_v, stream.get());
    EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
    std::vector<float> result = out.values();
    const std::vector<float> lses = lse.values();
    result.insert(result.end(), lses.begin(), lses.end());
    return result;
  }

  /// Against attention over what the blocks stand for.
  void expect_close(const CodedView& view, const std::vector<float>& result, double tolerance) const {
    const int dim_v = format_.host().dim_v, group = head_.shape.group_size();
    const int num_vectors = static_cast<int>(view.positions.size()) * group;
    for (int v = 0; v < num_vectors; ++v) {
      const gpu::cuda::QuerySpan seen = span(view, static_cast<std::size_t>(v / group));
      std::vector<double> biases;
      for (std::int64_t t = view.begin; t < view.end; ++t) {
        const std::int64_t position = head_.first_position + t;
        const bool visible = position >= seen.first && position < seen.end;
        const double slope_of = view.alibi ? static_cast<double>(slope(v % group)) : 0.0;
        biases.push_back(visible ? slope_of * static_cast<double>(position - seen.position) : -INFINITY);
      }
      const auto expected = head_.expected(head_.decoded_k, head_.decoded_v, v, view.begin, view.end, biases,
                                           static_cast<double>(view.softcap));
      const float lse = result[static_cast<std::size_t>(num_vectors * dim_v + v)];
      if (std::isinf(expected.lse)) {
        EXPECT_EQ(lse, static_cast<float>(expected.lse)) << "vector " << v;
      } else {
        EXPECT_NEAR(lse, expected.lse, tolerance * std::max(1.0, std::abs(expected.lse))) << "vector " << v;
      }
      EXPECT_LT(relative_error(result.data() + v * dim_v, expected.out), tolerance) << "vector " << v;
    }
  }

  /// Blocks of the head's keys and values.
  [[nodiscard]] std::vector<std::byte> encoded() const {
    const cpu::BlockFormat& f = format_.host();
    const gpu::cuda::CudaStream stream;
    const DeviceArray<float> k(std::vector<float>(head_.k.begin(), head_.k.end()));
    const DeviceArray<float> v(std::vector<float>(head_.v.begin(), head_.v.end()));
    const DeviceArray<std::byte> blocks(head_.num_blocks * f.block_bytes);
    std::vector<gpu::cuda::EncodeItem> items;
    for (std::int64_t b = 0; b < head_.num_blocks; ++b) {
      const std::int64_t row = b * f.block_rows;
      items.push_back({k.data() + row * f.padded_k, v.data() + row * f.padded_v, head_.first_position + row,
                       blocks.data() + b * f.block_bytes});
    }
    const DeviceArray<gpu::cuda::EncodeItem> work(items);
    launchers_.encode(f, work.data(), static_cast<std::int64_t>(items.size()), stream.get());
    EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
    return blocks.values();
  }

  struct Rows {
    std::vector<float> k, v;
  };
  /// Rows [first, first + count) of the first of some blocks, decoded.
  [[nodiscard]] Rows decoded(const std::vector<std::byte>& bytes, std::int32_t first, std::int32_t count) const {
    const cpu::BlockFormat& f = format_.host();
    const gpu::cuda::CudaStream stream;
    const DeviceArray<std::byte> blocks(bytes);
    const DeviceArray<float> k(std::int64_t{count} * f.padded_k), v(std::int64_t{count} * f.padded_v);
    const DeviceArray<gpu::cuda::DecodeItem> work(
        std::vector<gpu::cuda::DecodeItem>{{blocks.data(), head_.first_position, first, count, k.data(), v.data()}});
    launchers_.decode(f, work.data(), 1, stream.get());
    EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
    return {k.values(), v.values()};
  }

 private:
  static float slope(int head) { return 0.01f * static_cast<float>(head + 1); }

  [[nodiscard]] gpu::cuda::QuerySpan span(const CodedView& view, std::size_t query) const {
    const std::int64_t position = head_.first_position + view.positions[query];
    return {position, view.sliding_window > 0 ? position - view.sliding_window + 1 : 0, position + 1};
  }

  /// Blocks in their slots, later ones over earlier ones; slots that never had one keep junk that no kernel may use.
  [[nodiscard]] std::vector<std::byte> ring(const CodedView& view) const {
    const std::int64_t bytes = format_.host().block_bytes;
    std::vector<std::byte> slots(static_cast<std::size_t>(view.ring_blocks * bytes), std::byte{0xff});
    for (std::int64_t b = 0; b < head_.num_blocks; ++b) {
      std::copy_n(head_.blocks.begin() + b * bytes, bytes, slots.begin() + b % view.ring_blocks * bytes);
    }
    return slots;
  }

  const CodedHead& head_;
  const CodedLaunchers& launchers_;
  DeviceFormat format_;
};

}  // namespace tandem::testing
