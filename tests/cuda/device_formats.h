#pragma once

#include <gtest/gtest.h>

#include "gpu/cuda/device_codec.h"

namespace tandem::testing {

/// Formats whose tables lie in device memory, for kernels in any stream.
class DeviceFormats {
 public:
  const cpu::BlockFormat& of(const cpu::BlockCodec& codec) {
    const cpu::BlockFormat& format = codecs_.of(codec).format;
    EXPECT_EQ(cudaStreamSynchronize(stream_.get()), cudaSuccess);
    return format;
  }

 private:
  gpu::cuda::CudaStream stream_;
  gpu::cuda::DeviceCodecs codecs_{stream_.get()};
};

}  // namespace tandem::testing
