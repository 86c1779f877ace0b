#pragma once

#include <vector>

#include "tests/cuda/coded_window.h"

namespace tandem::testing {

/// What `head`'s blocks are when the device encodes them.
inline std::vector<std::byte> encoded(const CodedHead& head, const cpu::BlockFormat& format) {
  using namespace gpu::cuda;
  const CudaStream stream;
  const DeviceArray<float> k(std::vector<float>(head.k.begin(), head.k.end())),
      v(std::vector<float>(head.v.begin(), head.v.end()));
  const DeviceArray<std::byte> blocks(static_cast<std::int64_t>(head.blocks.size()));
  std::vector<EncodeItem> items;
  for (std::int64_t b = 0; b < head.num_blocks; ++b) {
    const std::int64_t row = b * format.block_rows;
    items.push_back({k.data() + row * format.padded_k, v.data() + row * format.padded_v, head.first_position + row,
                     blocks.data() + b * format.block_bytes});
  }
  const DeviceArray<EncodeItem> work(items);
  launch_encode(format, work.data(), static_cast<std::int64_t>(items.size()), stream.get());
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
  return blocks.values();
}

/// Rows of all blocks as the device decodes them: K (rows, padded_k), then V (rows, padded_v). In pieces that begin and
/// end within blocks.
inline std::vector<float> decoded(const CodedHead& head, const cpu::BlockFormat& format) {
  using namespace gpu::cuda;
  const CudaStream stream;
  const DeviceArray<std::byte> blocks(std::vector<std::byte>(head.blocks.begin(), head.blocks.end()));
  const auto keys = static_cast<std::int64_t>(head.k.size());
  const DeviceArray<float> rows(keys + static_cast<std::int64_t>(head.v.size()));
  std::vector<DecodeItem> items;
  for (std::int64_t b = 0; b < head.num_blocks; ++b) {
    const std::int32_t ends[] = {1, 7, 40, format.block_rows};
    std::int32_t first = 0;
    for (const std::int32_t end : ends) {
      const std::int64_t row = b * format.block_rows + first;
      items.push_back({blocks.data() + b * format.block_bytes, head.first_position + b * format.block_rows, first,
                       end - first, rows.data() + row * format.padded_k, rows.data() + keys + row * format.padded_v});
      first = end;
    }
  }
  const DeviceArray<DecodeItem> work(items);
  launch_decode(format, work.data(), static_cast<std::int64_t>(items.size()), stream.get());
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
  return rows.values();
}

/// The host's bytes and values, of kernels of `format`, whose pointers are to device memory.
inline void expect_codes_of_the_host(const CodedHead& head, const cpu::BlockFormat& format) {
  const std::vector<std::byte> blocks = encoded(head, format);
  EXPECT_TRUE(std::equal(blocks.begin(), blocks.end(), head.blocks.begin(), head.blocks.end()));
  const std::vector<float> rows = decoded(head, format);
  EXPECT_EQ(std::memcmp(rows.data(), head.decoded_k.data(), head.decoded_k.size() * sizeof(float)), 0);
  EXPECT_EQ(
      std::memcmp(rows.data() + head.decoded_k.size(), head.decoded_v.data(), head.decoded_v.size() * sizeof(float)),
      0);
}
inline void expect_codes_of_the_host(const CodedHead& head) { expect_codes_of_the_host(head, head.codec.format()); }

}  // namespace tandem::testing
