#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "gpu/cuda/stream.h"

namespace tandem::gpu::cuda {

/// What a stream is given again and again, as one CUDA graph: captured when it comes the second time in a row with the
/// same key, and launched with one call from then on. Not thread-safe. Throws Error(device_lost).
class LaunchGraph {
 public:
  using Key = std::vector<std::int64_t>;

  LaunchGraph() = default;
  ~LaunchGraph() { forget(); }
  LaunchGraph(const LaunchGraph&) = delete;
  LaunchGraph& operator=(const LaunchGraph&) = delete;

  /// Gives `stream` what give(stream) gives. `key` is all that the parameters of those calls depend on, but for the
  /// content of memory.
  template <typename Give>
  void run(const Key& key, cudaStream_t stream, const Give& give) {
    if (key != key_) {
      forget();
      key_ = key;
      return give(stream);
    }
    if (executable_ == nullptr && !refused_) {
      begin_capture();
      try {
        give(capturing_->get());
      } catch (...) {
        drop_capture();
        throw;
      }
      end_capture();
    }
    if (refused_) return give(stream);
    TANDEM_CUDA_CHECK(cudaGraphLaunch(executable_, stream));
  }

 private:
  void begin_capture();
  void end_capture();
  void drop_capture() const noexcept;
  void forget() noexcept;

  std::optional<CudaStream> capturing_;  ///< another one: who waits for the stream that works asks for its state
  Key key_;
  cudaGraphExec_t executable_ = nullptr;
  bool refused_ = false;  ///< for want of memory: launched as before
};

}  // namespace tandem::gpu::cuda
