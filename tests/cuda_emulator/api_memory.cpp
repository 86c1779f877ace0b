#include <cstring>
#include <memory>
#include <vector>

#include "capture.h"
#include "cuda_runtime_api.h"
#include "memory.h"
#include "stream.h"

namespace emulator {
namespace {

struct Copy {
  void* to;
  const void* from;
  std::size_t bytes;
  bool to_device;
  bool from_device;
};

/// What is copied from where, checked. Throws Refusal.
Copy checked_copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  Copy copy{to, from, bytes, kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice,
            kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice};
  if (kind == cudaMemcpyDefault) {
    copy.to_device = memory_kind(to) == MemoryKind::device;
    copy.from_device = memory_kind(from) == MemoryKind::device;
  } else if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) {
    throw Refusal{cudaErrorInvalidMemcpyDirection, "kind"};
  }
  require_memory(to, bytes, copy.to_device ? MemoryKind::device : MemoryKind::pageable, "the destination");
  require_memory(from, bytes, copy.from_device ? MemoryKind::device : MemoryKind::pageable, "the source");
  return copy;
}

/// Pinned memory is read and written when the stream comes to it. Pageable sources are read at once, and the call waits
/// until pageable destinations are written.
void copy_in_stream(const Copy& copy, const std::shared_ptr<Stream>& stream) {
  const bool pageable_from = memory_kind(copy.from) == MemoryKind::pageable;
  const bool pageable_to = memory_kind(copy.to) == MemoryKind::pageable;
  if (pageable_from || pageable_to) refuse_capture(stream);
  if (pageable_from) {
    const auto* begin = static_cast<const unsigned char*>(copy.from);
    auto staged = std::make_shared<std::vector<unsigned char>>(begin, begin + copy.bytes);
    submit(stream, [copy, staged] { std::memcpy(copy.to, staged->data(), copy.bytes); });
  } else {
    submit(stream, [copy] { std::memcpy(copy.to, copy.from, copy.bytes); });
  }
  if (pageable_to) stream->wait(stream->last());
}

/// As cudaFree does. A lost device has nothing left to wait for.
void wait_before_free(int device) {
  refuse_unsafe_call();
  wait_for_streams(device);
}

}  // namespace
}  // namespace emulator

using namespace emulator;

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  return api_call("cudaMalloc", [&] {
    refuse_unsafe_call();
    *pointer = bytes == 0 ? nullptr : allocate_device(current_device(), bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaFree(void* pointer) {
  return release_call("cudaFree", [&] {
    if (pointer == nullptr) return cudaSuccess;
    wait_before_free(device_of(pointer));
    free_device(pointer);
    return cudaSuccess;
  });
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned int flags) {
  return api_call("cudaHostAlloc", [&] {
    if ((flags & ~7u) != 0) throw Refusal{cudaErrorInvalidValue, "flags"};
    refuse_unsafe_call();
    *pointer = bytes == 0 ? nullptr : allocate_pinned(bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaFreeHost(void* pointer) {
  return release_call("cudaFreeHost", [&] {
    if (pointer == nullptr) return cudaSuccess;
    wait_before_free(-1);
    free_pinned(pointer);
    return cudaSuccess;
  });
}

cudaError_t cudaHostRegister(void* pointer, std::size_t bytes, unsigned int flags) {
  return api_call("cudaHostRegister", [&] {
    if (pointer == nullptr || bytes == 0 || (flags & ~3u) != 0) throw Refusal{cudaErrorInvalidValue, "arguments"};
    refuse_unsafe_call();
    register_pinned(pointer, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaHostUnregister(void* pointer) {
  return release_call("cudaHostUnregister", [&] {
    wait_before_free(-1);
    unregister_pinned(pointer);
    return cudaSuccess;
  });
}

cudaError_t cudaHostGetDevicePointer(void** device_pointer, void* host_pointer, unsigned int flags) {
  return api_call("cudaHostGetDevicePointer", [&] {
    if (flags != 0) throw Refusal{cudaErrorInvalidValue, "flags"};
    if (memory_kind(host_pointer) != MemoryKind::pinned) throw Refusal{cudaErrorInvalidValue, "no pinned memory"};
    *device_pointer = host_pointer;
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return api_call("cudaPointerGetAttributes", [&] {
    if (pointer == nullptr) throw Refusal{cudaErrorInvalidValue, {}};
    const MemoryKind kind = memory_kind(pointer);
    void* const address = const_cast<void*>(pointer);
    *attributes = {};
    attributes->device = owner_of(pointer);
    attributes->type = kind == MemoryKind::device   ? cudaMemoryTypeDevice
                       : kind == MemoryKind::pinned ? cudaMemoryTypeHost
                                                    : cudaMemoryTypeUnregistered;
    attributes->devicePointer = kind == MemoryKind::pageable ? nullptr : address;
    attributes->hostPointer = kind == MemoryKind::pinned ? address : nullptr;
    return cudaSuccess;
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return api_call("cudaMemcpy", [&]() -> cudaError_t {
    if (bytes == 0) return cudaSuccess;
    refuse_unsafe_call();
    const Copy copy = checked_copy(to, from, bytes, kind);
    for (const auto& stream : streams_of(current_device())) {
      if ((stream->flags() & cudaStreamNonBlocking) == 0) stream->wait(stream->last());
    }
    if (sticky_error(current_device()) == cudaSuccess) std::memcpy(copy.to, copy.from, copy.bytes);
    return sticky_error(current_device());
  });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t handle) {
  return api_call("cudaMemcpyAsync", [&]() -> cudaError_t {
    const auto stream = working_stream(handle);
    if (bytes == 0) return cudaSuccess;
    copy_in_stream(checked_copy(to, from, bytes, kind), stream);
    return sticky_error(stream->device());
  });
}

cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t handle) {
  return api_call("cudaMemsetAsync", [&] {
    const auto stream = working_stream(handle);
    if (bytes == 0) return cudaSuccess;
    require_mapped(pointer, bytes, "the destination");
    submit(stream, [=] { std::memset(pointer, value, bytes); });
    return cudaSuccess;
  });
}
