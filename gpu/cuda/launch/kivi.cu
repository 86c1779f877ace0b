#include "gpu/cuda/kernels/kivi.cuh"
#include "gpu/cuda/kernels/kivi_coding.cuh"
#include "gpu/cuda/launch.h"
#include "gpu/cuda/launch/coded_kernel.h"
#include "gpu/cuda/launch/kivi_launch.h"

namespace tandem::gpu::cuda {
namespace {

dim3 coding_grid(std::int64_t num_items) { return dim3(static_cast<unsigned>(num_items * kKiviSlices)); }

}  // namespace

void encode_kivi(const cpu::BlockFormat& format, const EncodeItem* items, std::int64_t num_items, cudaStream_t stream) {
  const auto kernel = format.bits == 2 ? encode_groups<2> : encode_groups<4>;
  launch(kernel, coding_grid(num_items), dim3(kKiviThreads), 0, stream, format, items);
}

void decode_kivi(const cpu::BlockFormat& format, const DecodeItem* items, std::int64_t num_items, cudaStream_t stream) {
  const auto kernel = format.bits == 2 ? decode_groups<2> : decode_groups<4>;
  launch(kernel, coding_grid(num_items), dim3(kKiviThreads), 0, stream, format, items);
}

void attend_kivi(const cpu::BlockFormat& format, std::int32_t vectors, const CodedJob* jobs, const WorkItem* items,
                 std::int64_t num_items, Partials partials, cudaStream_t stream) {
  const auto attend = format.bits == 2 ? launch_coded<Kivi<2>> : launch_coded<Kivi<4>>;
  attend(format, vectors, jobs, items, num_items, partials, stream);
}

}  // namespace tandem::gpu::cuda
