#pragma once

#include <cstdint>

#include "gpu/cuda/memory.h"
#include "gpu/cuda/stream.h"
#include "tools/probes/gpu/probes.h"

namespace tandem::bench {

/// Pushes what a device has in its L2 cache out of it, by reading a buffer larger than that. Throws Error(out_of_memory
/// | device_lost).
class ColdCache {
 public:
  ColdCache(std::int64_t bytes, int blocks, cudaStream_t stream)
      : buffer_(bytes), sink_(sizeof(std::uint32_t)), blocks_(blocks), stream_(stream) {
    TANDEM_CUDA_CHECK(cudaMemsetAsync(buffer_.data(), 0, static_cast<std::size_t>(bytes), stream));
  }
  /// Starts that. It also keeps the stream busy while the host launches what is to be measured, so that the time of
  /// several kernels has no gaps of waiting for the host in it.
  void wash() const {
    probes::launch_read(buffer_.data(), buffer_.bytes(), blocks_, reinterpret_cast<std::uint32_t*>(sink_.data()),
                        stream_);
  }
  [[nodiscard]] std::int64_t bytes() const noexcept { return buffer_.bytes(); }

 private:
  gpu::cuda::DeviceMemory buffer_, sink_;
  int blocks_;
  cudaStream_t stream_;
};

}  // namespace tandem::bench
