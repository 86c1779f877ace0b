#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "gpu/cuda/codec_launchers.h"
#include "gpu/cuda/kernels/work.cuh"
#include "tests/cuda/device_array.h"
#include "tests/support/coded_head.h"

namespace tandem::testing {

/// Coded tokens and queries over them. The window begins with row `skipped` of a block and ends `cut` rows before the
/// end of one; blocks lie in a ring that wraps, in pages of two.
struct CodedCase {
  int dim_k = 128, dim_v = 128, group = 1, queries = 1, blocks = 3, skipped = 0, cut = 0;
  float softcap = 0.f;
  bool alibi = false;
  std::int64_t sliding_window = 0;
  double key_scale = 1.0, value_scale = 1.0;
  std::int64_t origin = 5;  ///< position of the first token of the ring's first block
  cpu::RopeParams rope = {};
};

inline void PrintTo(const CodedCase& c, std::ostream* to) {
  *to << "dims " << c.dim_k << " " << c.dim_v << " group " << c.group << " queries " << c.queries << " blocks "
      << c.blocks << " skipped " << c.skipped << " cut " << c.cut;
}

/// Coded blocks of one head in a device's memory, its queries, and the oracle over what the blocks stand for.
class CodedWindow {
 public:
  CodedWindow(const cpu::CodecParams& params, const CodedCase& c)
      : CodedWindow(params, c, cpu::BlockCodec(params, shape(c), c.rope, 0, 0).format().block_rows) {}

  [[nodiscard]] const CodedHead& head() const { return head_; }
  [[nodiscard]] const cpu::BlockFormat& format() const { return head_.codec.format(); }
  [[nodiscard]] int num_vectors() const { return c_.queries * c_.group; }

  /// out then lse of every vector, as the kernels of `format`, whose pointers are to device memory, find them in items
  /// of `tokens_per_item`, a multiple of 64.
  [[nodiscard]] std::vector<float> attend(const cpu::BlockFormat& format, std::int64_t tokens_per_item) const {
    using namespace gpu::cuda;
    const CudaStream stream;
    const std::vector<std::byte> ring = blocks_in_ring();
    const DeviceArray<std::byte> blocks(ring);
    std::vector<std::byte*> page_list;
    for (std::int64_t slot = 0; slot < ring_blocks(); slot += 2)
      page_list.push_back(blocks.data() + slot * format.block_bytes);
    const DeviceArray<std::byte*> pages(page_list);
    const DeviceArray<cpu::BlockFormat> formats(std::vector<cpu::BlockFormat>{format});
    const DeviceArray<float> q(std::vector<float>(head_.q.begin(), head_.q.end()));
    const DeviceArray<float> prepared(std::int64_t{num_vectors()} * std::max(prepared_dim(format), 1));
    const DeviceArray<QuerySpan> spans(query_spans());
    const DeviceArray<float> slopes(slopes_);
    const CodedJob job{
        {q.data(), spans.data(), c_.alibi ? slopes.data() : nullptr, c_.softcap, num_vectors(), c_.group},
        {pages.data(), format.block_bytes, 1},
        formats.data(),
        prepared.data(),
        c_.origin,
        begin(),
        end(),
        static_cast<std::int32_t>(ring_blocks())};
    const DeviceArray<CodedJob> jobs(std::vector<CodedJob>{job});
    launch_prepare_queries(format, jobs.data(), 1, num_vectors(), stream.get());

    std::vector<WorkItem> items;
    const std::int32_t vectors = coded_vectors_per_item(num_vectors());
    std::int64_t parts = 0;
    for (std::int64_t first = kFirstBlock * format.block_rows; first < end() - c_.origin; first += tokens_per_item) {
      for (std::int32_t v = 0; v < num_vectors(); v += vectors)
        items.push_back({0, v, first, std::min(first + tokens_per_item, end() - c_.origin), parts * num_vectors() + v});
      ++parts;
    }
    const DeviceArray<WorkItem> work(items);
    const DeviceArray<float> partial_out(parts * num_vectors() * c_.dim_v), partial_lse(parts * num_vectors());
    const Partials partials{partial_out.data(), partial_lse.data()};
    launch_coded_attention(format, vectors, jobs.data(), work.data(), static_cast<std::int64_t>(items.size()), partials,
                           stream.get());
    return merged(partials, static_cast<std::int32_t>(parts), stream.get());
  }

  /// How far `result` is from attention over the decoded rows.
  void expect_close(const std::vector<float>& result, double tolerance) const {
    for (int vector = 0; vector < num_vectors(); ++vector) {
      const auto expected = reference(vector);
      const float lse = result[static_cast<std::size_t>(num_vectors() * c_.dim_v + vector)];
      if (std::isinf(expected.lse)) {
        EXPECT_EQ(lse, static_cast<float>(expected.lse));
      } else {
        EXPECT_NEAR(lse, expected.lse, tolerance * std::max(1.0, std::abs(expected.lse)));
      }
      EXPECT_LT(relative_error(result.data() + vector * c_.dim_v, expected.out), tolerance) << "vector " << vector;
    }
  }

 private:
  static constexpr std::int64_t kFirstBlock = 22;

  CodedWindow(const cpu::CodecParams& params, const CodedCase& c, int block_rows)
      : c_(c),
        head_(params, shape(c), std::int64_t{c.blocks} * block_rows,
              {.key_scale = c.key_scale,
               .value_scale = c.value_scale,
               .num_queries = c.queries,
               .first_position = c.origin + kFirstBlock * block_rows,
               .rope = c.rope}) {
    for (int h = 0; h < c.group; ++h) slopes_.push_back(0.01f * static_cast<float>(h + 1));
  }

  static AttentionShape shape(const CodedCase& c) { return resolved({1, c.group, 1, c.dim_k, c.dim_v, 0.f, 0.f}); }

  /// One more than there are blocks, so that slots are not in the order of blocks.
  [[nodiscard]] std::int64_t ring_blocks() const { return c_.blocks + 1; }
  [[nodiscard]] std::int64_t rows() const { return std::int64_t{c_.blocks} * format().block_rows; }
  [[nodiscard]] std::int64_t begin() const { return head_.first_position + c_.skipped; }
  [[nodiscard]] std::int64_t end() const { return head_.first_position + rows() - c_.cut; }

  [[nodiscard]] std::vector<std::byte> blocks_in_ring() const {
    const auto bytes = static_cast<std::size_t>(format().block_bytes);
    std::vector<std::byte> ring(static_cast<std::size_t>(ring_blocks()) * bytes, std::byte{0xff});
    for (std::int64_t b = 0; b < c_.blocks; ++b) {
      const auto slot = static_cast<std::size_t>((kFirstBlock + b) % ring_blocks());
      std::memcpy(ring.data() + slot * bytes, head_.blocks.data() + static_cast<std::size_t>(b) * bytes, bytes);
    }
    return ring;
  }

  /// The last query lies behind the window, the others before it one by one, 30 positions apart.
  [[nodiscard]] std::vector<gpu::cuda::QuerySpan> query_spans() const {
    std::vector<gpu::cuda::QuerySpan> spans;
    for (int i = 0; i < c_.queries; ++i) {
      const std::int64_t position = end() + 2 - std::int64_t{30} * (c_.queries - 1 - i);
      spans.push_back({position, c_.sliding_window > 0 ? position - c_.sliding_window + 1 : 0, position + 1});
    }
    return spans;
  }

  [[nodiscard]] std::vector<float> merged(const gpu::cuda::Partials& partials, std::int32_t parts,
                                          cudaStream_t stream) const {
    using namespace gpu::cuda;
    const DeviceArray<float> out(std::int64_t{num_vectors()} * c_.dim_v), lse(num_vectors());
    std::vector<MergeItem> merges;
    for (std::int32_t v = 0; v < num_vectors(); ++v)
      merges.push_back({v, num_vectors(), parts, nullptr, nullptr, 0.f, 0, out.data() + v * c_.dim_v, lse.data() + v});
    const DeviceArray<MergeItem> merge(merges);
    launch_merge_partials(merge.data(), num_vectors(), partials, c_.dim_v, stream);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    std::vector<float> result = out.values();
    const std::vector<float> lses = lse.values();
    result.insert(result.end(), lses.begin(), lses.end());
    return result;
  }

  [[nodiscard]] cpu::reference::Result reference(int vector) const {
    const gpu::cuda::QuerySpan span = query_spans()[static_cast<std::size_t>(vector / c_.group)];
    std::vector<double> biases;
    for (std::int64_t p = begin(); p < end(); ++p) {
      const double slope = c_.alibi ? static_cast<double>(slopes_[static_cast<std::size_t>(vector % c_.group)]) : 0.0;
      biases.push_back(p >= span.first && p < span.end ? slope * static_cast<double>(p - span.position) : -INFINITY);
    }
    return head_.expected(head_.decoded_k, head_.decoded_v, vector, c_.skipped, rows() - c_.cut, biases, c_.softcap);
  }

  CodedCase c_;
  CodedHead head_;
  std::vector<float> slopes_;
};

}  // namespace tandem::testing
