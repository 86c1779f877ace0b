#pragma once

#include "gpu/device.h"
#include "runtime/base/shape.h"
#include "runtime/requests.h"
#include "runtime/step_plan.h"

namespace tandem {

// Calls work on host memory. Tensors of a request that lie in the device's memory are fetched before anything else
// happens, so that they are checked as all others are, and results are put there last. Each throws
// Error(invalid_argument | unsupported) naming the tensor, Error(out_of_memory), and then nothing has changed.

/// The request with all tensors in host memory, in `buffers` where they had to be fetched.
AppendRequest on_host(const AppendRequest& request, const AttentionShape& shape, gpu::Device& device,
                      StepBuffers& buffers);
/// Likewise; results go to `buffers` where the request wants them on the device.
AttendRequest on_host(const AttendRequest& request, const AttentionShape& shape, gpu::Device& device,
                      StepBuffers& buffers);
/// The results of `host`, which on_host() has made of `request`, to the device, where they are wanted there.
void put_results(const AttendRequest& request, const AttendRequest& host, gpu::Device& device);

}  // namespace tandem
