#pragma once

#include <cstdint>
#include <vector>

#include "bench/gpu/tiled_head.h"
#include "cpu/aligned_vector.h"
#include "gpu/cuda/attention_plan.h"
#include "gpu/cuda/device_codec.h"

namespace tandem::bench {

/// Windows of all KV heads of some sequences in a device's memory, with one query token each.
class WindowCase {
 public:
  /// Copies and plans on `stream`. Throws Error(out_of_memory | device_lost).
  WindowCase(const TiledHead& head, std::int64_t windows, std::int32_t group, gpu::cuda::DeviceCodecs& codecs,
             cudaStream_t stream);
  WindowCase(const WindowCase&) = delete;
  WindowCase& operator=(const WindowCase&) = delete;

  /// Device memory that windows of such a number take.
  static std::int64_t bytes(const TiledHead& head, std::int64_t windows) { return windows * head.bytes(); }
  /// Starts the kernels of the attention over all windows.
  void launch(cudaStream_t stream) const { plan_.launch(upload_, stream); }
  /// The same as a runtime asks for it; results go to host memory of this object.
  void attend(gpu::Device& device) const;

  struct Error {
    double mean = 0, max = 0;  ///< |out - exact| / |exact|
    double lse = 0;            ///< the largest |lse - exact|
  };
  /// Of the queries of the first and the last window, after launch().
  [[nodiscard]] Error error(cudaStream_t stream) const;

 private:
  void fill(cudaStream_t stream) const;
  void plan(gpu::cuda::DeviceCodecs& codecs, cudaStream_t stream);

  const TiledHead& head_;
  std::int64_t windows_;
  std::int32_t group_;
  std::int64_t position_;
  gpu::cuda::DeviceMemory memory_, scratch_;
  std::vector<std::byte*> pages_;
  cpu::AlignedVector<float> queries_;
  mutable std::vector<float> out_, lse_;
  std::vector<gpu::WindowAttention> tasks_;
  gpu::cuda::Upload upload_;
  gpu::cuda::Download download_;
  gpu::cuda::AttentionPlan plan_;
};

}  // namespace tandem::bench
