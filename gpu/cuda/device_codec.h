#pragma once

#include <memory>
#include <vector>

#include "cpu/codec/block_codec.h"
#include "cpu/codec/nuq_layout.h"
#include "gpu/cuda/memory.h"
#include "gpu/cuda/stream.h"

namespace tandem::gpu::cuda {

/// A codec on the device.
struct DeviceCodec {
  cpu::BlockFormat format;                      ///< whose pointers are to device memory
  const cpu::BlockFormat* on_device = nullptr;  ///< the same, in device memory
};

/// Formats and tables of codecs in a device's memory, copied when a codec is first seen. Not thread-safe.
class DeviceCodecs {
 public:
  /// Copies on `stream`, on which the codecs are used.
  explicit DeviceCodecs(cudaStream_t stream) : stream_(stream) {}
  /// Valid as long as this object. The codec's tables are kept. Throws Error(out_of_memory | device_lost).
  const DeviceCodec& of(const cpu::BlockCodec& codec);

 private:
  struct Entry {
    cpu::BlockCodec codec;  ///< keeps its tables, so that their addresses say which codec this is
    std::vector<std::byte> tables;
    DeviceMemory memory;
    DeviceCodec device;
  };
  cudaStream_t stream_;
  std::vector<std::unique_ptr<Entry>> entries_;  // as many as a model's heads at most, each found by a few comparisons
};

}  // namespace tandem::gpu::cuda
