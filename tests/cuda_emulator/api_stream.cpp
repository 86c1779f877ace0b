#include "capture.h"
#include "cuda_runtime_api.h"
#include "stream.h"

using namespace emulator;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  return api_call("cudaStreamCreateWithFlags", [&] {
    if ((flags & ~cudaStreamNonBlocking) != 0) throw Refusal{cudaErrorInvalidValue, "flags"};
    *stream = create_stream(current_device(), flags);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int) {
  return api_call("cudaStreamCreateWithPriority", [&] {
    if ((flags & ~cudaStreamNonBlocking) != 0) throw Refusal{cudaErrorInvalidValue, "flags"};
    *stream = create_stream(current_device(), flags);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return api_call("cudaDeviceGetStreamPriorityRange", [&] {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return release_call("cudaStreamDestroy", [&] {
    refuse_capture(find_stream(stream));
    destroy_stream(stream);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return api_call("cudaStreamSynchronize", [&]() -> cudaError_t {
    const auto stream = working_stream(handle);
    refuse_capture(stream);
    stream->wait(stream->last());
    return sticky_error(stream->device());
  });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return api_call("cudaStreamQuery", [&]() -> cudaError_t {
    const auto stream = working_stream(handle);
    refuse_capture(stream);
    if (!stream->done(stream->last())) return cudaErrorNotReady;
    return sticky_error(stream->device());
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* user_data) {
  return api_call("cudaLaunchHostFunc", [&] {
    if (function == nullptr) throw Refusal{cudaErrorInvalidValue, "no function"};
    submit(working_stream(handle), [function, user_data] {
      in_host_function() = true;
      function(user_data);
      in_host_function() = false;
    });
    return cudaSuccess;
  });
}
