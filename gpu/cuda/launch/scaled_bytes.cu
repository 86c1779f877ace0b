#include "gpu/cuda/kernels/coded_attention.cuh"
#include "gpu/cuda/kernels/scaled_bytes.cuh"
#include "gpu/cuda/kernels/scaled_bytes_coding.cuh"
#include "gpu/cuda/launch.h"
#include "gpu/cuda/launch/coded_kernel.h"
#include "gpu/cuda/launch/scaled_bytes_launch.h"

namespace tandem::gpu::cuda {
namespace {

dim3 coding_grid(std::int64_t num_items) { return dim3(static_cast<unsigned>(num_items * kCodingSlices)); }

}  // namespace

void encode_scaled_bytes(const cpu::BlockFormat& format, const EncodeItem* items, std::int64_t num_items,
                         cudaStream_t stream) {
  const auto kernel = format.kind == cpu::CodecKind::int8 ? encode_bytes<Int8Coding> : encode_bytes<Fp8Coding>;
  launch(kernel, coding_grid(num_items), dim3(kCodingThreads), 0, stream, format, items);
}

void decode_scaled_bytes(const cpu::BlockFormat& format, const DecodeItem* items, std::int64_t num_items,
                         cudaStream_t stream) {
  const auto kernel = format.kind == cpu::CodecKind::int8 ? decode_bytes<Int8Coding> : decode_bytes<Fp8Coding>;
  launch(kernel, coding_grid(num_items), dim3(kCodingThreads), 0, stream, format, items);
}

void attend_scaled_bytes(const cpu::BlockFormat& format, std::int32_t vectors, const CodedJob* jobs,
                         const WorkItem* items, std::int64_t num_items, Partials partials, cudaStream_t stream) {
  const auto attend = format.kind == cpu::CodecKind::int8 ? launch_coded<ScaledBytes<Int8Coding>>
                                                          : launch_coded<ScaledBytes<Fp8Coding>>;
  attend(format, vectors, jobs, items, num_items, partials, stream);
}

}  // namespace tandem::gpu::cuda
