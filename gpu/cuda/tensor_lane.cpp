#include "gpu/cuda/tensor_lane.h"

#include <algorithm>
#include <cstring>

#include "gpu/cuda/cuda_error.h"
#include "gpu/cuda/kernels/work.cuh"
#include "gpu/cuda/launchers.h"
#include "runtime/base/error.h"

namespace tandem::gpu::cuda {
namespace {

// Of one piece: enough for PCIe to run at full speed, little enough to be pinned twice for every call under way.
constexpr std::int64_t kPieceBytes = std::int64_t{4} << 20;

std::int64_t row_bytes_of(DType dtype, std::int64_t dim) { return dim * static_cast<std::int64_t>(bytes_of(dtype)); }

template <typename Byte>
std::int64_t token_bytes(const BasicTensorView<Byte>& tensor) {
  return tensor.heads * row_bytes_of(tensor.dtype, tensor.dim);
}

template <typename Byte>
std::int64_t bytes_in(const BasicTensorView<Byte>& tensor) {
  return tensor.tokens * token_bytes(tensor);
}

template <typename Byte>
bool is_dense(const BasicTensorView<Byte>& tensor) {
  return (tensor.heads == 1 || tensor.head_stride == row_bytes_of(tensor.dtype, tensor.dim)) &&
         (tensor.tokens == 1 || tensor.token_stride == token_bytes(tensor));
}

template <typename Byte>
std::int64_t tokens_of_piece(const BasicTensorView<Byte>& tensor) {
  return std::clamp<std::int64_t>(kPieceBytes / std::max<std::int64_t>(1, token_bytes(tensor)), 1,
                                  std::max<std::int64_t>(1, tensor.tokens));
}

template <typename Byte>
TensorCopy copy_of(const BasicTensorView<Byte>& tensor) {
  TensorCopy copy{};
  copy.num_rows = tensor.tokens * tensor.heads;
  copy.heads = static_cast<std::int32_t>(tensor.heads);
  copy.row_bytes = static_cast<std::int32_t>(row_bytes_of(tensor.dtype, tensor.dim));
  return copy;
}

/// What the other side of a copy looks like: one row after the other.
template <typename Byte>
void set_dense(const BasicTensorView<Byte>& tensor, std::int64_t (&strides)[2]) {
  strides[0] = token_bytes(tensor);
  strides[1] = row_bytes_of(tensor.dtype, tensor.dim);
}

template <typename Byte>
void set_strides(const BasicTensorView<Byte>& tensor, std::int64_t (&strides)[2]) {
  strides[0] = tensor.token_stride;
  strides[1] = tensor.head_stride;
}

cudaStream_t native(CallerStream caller) { return static_cast<cudaStream_t>(caller.handle); }

/// Of a call that takes the caller's stream: a handle that is none is the caller's mistake.
void check_stream(cudaError_t status, int ordinal) {
  if (status == cudaErrorInvalidResourceHandle) {
    (void)cudaGetLastError();
    fail(ErrorCode::invalid_argument, "stream is not a stream of cuda:", ordinal);
  }
  TANDEM_CUDA_CHECK(status);
}

/// Copies that have begun are not taken back: whatever fails then loses the device.
template <typename Copies>
bool begun(const Copies& copies) {
  try {
    return copies();
  } catch (const Error& error) {
    fail(ErrorCode::device_lost, error.what());
  }
}

}  // namespace

void check_tensor_memory(const char* tensor, const void* data, int ordinal, CallerStream caller) {
  cudaPointerAttributes attributes{};
  const cudaError_t status = cudaPointerGetAttributes(&attributes, data);
  if (status == cudaErrorInvalidValue) {
    (void)cudaGetLastError();
    attributes.type = cudaMemoryTypeUnregistered;
  } else {
    TANDEM_CUDA_CHECK(status);
  }
  const bool is_device = attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  TANDEM_CHECK(is_device, invalid_argument, tensor,
               ".memory is 1 (TD_MEMORY_DEVICE), but its data is host memory; allowed: memory of cuda:", ordinal);
  TANDEM_CHECK(attributes.type == cudaMemoryTypeManaged || attributes.device == ordinal, invalid_argument, tensor,
               ".data is memory of cuda:", attributes.device, "; allowed: memory of cuda:", ordinal);
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  const cudaError_t state = cudaStreamIsCapturing(native(caller), &capture);
  // The default stream would become part of any capture that waits for it.
  const bool is_captured = capture != cudaStreamCaptureStatusNone || state == cudaErrorStreamCaptureImplicit;
  if (state == cudaErrorStreamCaptureImplicit) (void)cudaGetLastError();
  TANDEM_CHECK(!is_captured, unsupported, "the stream of ", tensor,
               " is being captured in a graph, in which a call that waits cannot be");
  check_stream(state, ordinal);
}

/// The lane comes after what the caller's stream has been given.
void TensorLane::follow(CallerStream caller, int ordinal) {
  check_stream(cudaEventRecord(caller_.get(), native(caller)), ordinal);
  TANDEM_CUDA_CHECK(cudaStreamWaitEvent(stream_.get(), caller_.get(), 0));
}

/// All-or-nothing: before anything is begun. Whole pieces at once, for to give memory back waits for all streams of the
/// device, and so for what other engines do there.
void TensorLane::reserve(std::int64_t bytes, bool is_dense) {
  for (Slot& slot : slots_) {
    if (slot.host.bytes() < bytes) slot.host = StagingMemory(std::max(bytes, kPieceBytes));
    if (!is_dense && slot.device.bytes() < bytes) slot.device = DeviceMemory(std::max(bytes, kPieceBytes));
  }
}

bool TensorLane::reaches(std::uint64_t epoch, std::chrono::milliseconds timeout) {
  for (bool caller_is_done = false;;) {  // the time counts from when the caller's stream has come to the copies
    if (hand_off_.wait(epoch, timeout)) return true;
    if (caller_is_done) return false;
    const cudaError_t status = cudaEventQuery(caller_.get());
    if (status != cudaErrorNotReady) TANDEM_CUDA_CHECK(status);
    caller_is_done = status == cudaSuccess;
  }
}

/// What the slot was used for is over, and what it fetched is where it belongs.
bool TensorLane::free_slot(Slot& slot, std::chrono::milliseconds timeout) {
  if (slot.epoch == 0) return true;
  if (!reaches(slot.epoch, timeout)) return false;
  if (slot.target != nullptr) std::memcpy(slot.target, slot.host.data(), static_cast<std::size_t>(slot.bytes));
  slot.epoch = 0;
  slot.target = nullptr;
  return true;
}

void TensorLane::begin_fetch(Slot& slot, const TensorView& part, std::byte* target) {
  slot.bytes = bytes_in(part);
  slot.target = target;
  const std::byte* source = part.data;
  if (!is_dense(part)) {
    TensorCopy copy = copy_of(part);
    copy.source = part.data;
    copy.target = slot.device.data();
    set_strides(part, copy.source_strides);
    set_dense(part, copy.target_strides);
    launch_copy_tensor(copy, stream_.get());
    source = slot.device.data();
  }
  TANDEM_CUDA_CHECK(cudaMemcpyAsync(slot.host.data(), source, static_cast<std::size_t>(slot.bytes),
                                    cudaMemcpyDeviceToHost, stream_.get()));
  slot.epoch = hand_off_.signal();
}

void TensorLane::begin_put(Slot& slot, const std::byte* source, const MutableTensorView& part) {
  slot.bytes = bytes_in(part);
  std::memcpy(slot.host.data(), source, static_cast<std::size_t>(slot.bytes));
  const bool dense = is_dense(part);
  TANDEM_CUDA_CHECK(cudaMemcpyAsync(dense ? part.data : slot.device.data(), slot.host.data(),
                                    static_cast<std::size_t>(slot.bytes), cudaMemcpyHostToDevice, stream_.get()));
  if (!dense) {
    TensorCopy copy = copy_of(part);
    copy.source = slot.device.data();
    copy.target = part.data;
    set_dense(part, copy.source_strides);
    set_strides(part, copy.target_strides);
    launch_copy_tensor(copy, stream_.get());
  }
  slot.epoch = hand_off_.signal();
}

/// begin(slot, some tokens, bytes of those before) for each piece, once its slot is free.
template <typename View, typename Begin>
bool TensorLane::in_pieces(const View& tensor, std::chrono::milliseconds timeout, const Begin& begin) {
  const std::int64_t piece = tokens_of_piece(tensor);
  for (std::int64_t first = 0; first < tensor.tokens; first += piece) {
    Slot& slot = slots_[next_slot_++ % slots_.size()];
    if (!free_slot(slot, timeout)) return false;
    begin(slot, tensor.slice(first, std::min(piece, tensor.tokens - first)), first * token_bytes(tensor));
  }
  return true;
}

bool TensorLane::fetch(const TensorFetch* tensors, std::int64_t count, CallerStream caller, const Limits& limits) {
  for (std::int64_t i = 0; i < count; ++i)
    reserve(tokens_of_piece(tensors[i].source) * token_bytes(tensors[i].source), is_dense(tensors[i].source));
  follow(caller, limits.ordinal);
  return begun([&] {
    const auto fetch_one = [&](const TensorFetch& tensor) {
      return in_pieces(tensor.source, limits.timeout, [&](Slot& slot, const TensorView& part, std::int64_t before) {
        begin_fetch(slot, part, tensor.target + before);
      });
    };
    return std::all_of(tensors, tensors + count, fetch_one) &&
           std::all_of(slots_.begin(), slots_.end(), [&](Slot& slot) { return free_slot(slot, limits.timeout); });
  });
}

bool TensorLane::put(const TensorPut* tensors, std::int64_t count, CallerStream caller, const Limits& limits) {
  for (std::int64_t i = 0; i < count; ++i)
    reserve(tokens_of_piece(tensors[i].target) * token_bytes(tensors[i].target), is_dense(tensors[i].target));
  follow(caller, limits.ordinal);  // what it still does with the tensors comes first
  return begun([&] {
    const auto put_one = [&](const TensorPut& tensor) {
      return in_pieces(tensor.target, limits.timeout,
                       [&](Slot& slot, const MutableTensorView& part, std::int64_t before) {
                         begin_put(slot, tensor.source + before, part);
                       });
    };
    if (!std::all_of(tensors, tensors + count, put_one)) return false;
    TANDEM_CUDA_CHECK(cudaEventRecord(done_.get(), stream_.get()));
    TANDEM_CUDA_CHECK(cudaStreamWaitEvent(native(caller), done_.get(), 0));
    return true;
  });
}

}  // namespace tandem::gpu::cuda
