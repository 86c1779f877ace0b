#include "gpu/cuda/kernels/nuq_attention.cuh"
#include "gpu/cuda/kernels/nuq_codes.cuh"
#include "gpu/cuda/launch.h"
#include "gpu/cuda/launch/nuq_launch.h"

namespace tandem::gpu::cuda {
namespace {

template <int Threads, int Vectors>
void attend(std::int32_t vectors, const CodedJob* jobs, const WorkItem* items, std::int64_t num_items,
            Partials partials, cudaStream_t stream) {
  constexpr std::size_t kBytes = sizeof(NuqShared<Threads, Vectors>);
  constexpr std::size_t kEverywhere = 48 * 1024, kAsked = 64 * 1024;  // what every device has, and has when it is asked
  static_assert(kBytes <= kAsked);
  const auto kernel = nuq_attention<Threads, Vectors>;
  if (kBytes > kEverywhere) {
    TANDEM_CUDA_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kBytes)));
  }
  const dim3 grid(static_cast<unsigned>(num_items), static_cast<unsigned>((vectors + Vectors - 1) / Vectors));
  launch(kernel, grid, dim3(Threads), kBytes, stream, jobs, items, partials);
}

}  // namespace

void encode_nuq(const cpu::BlockFormat& format, const EncodeItem* items, std::int64_t num_items, cudaStream_t stream) {
  for (const auto kernel : {nuq_encode_keys, nuq_encode_outliers, nuq_encode_values})
    launch(kernel, dim3(static_cast<unsigned>(num_items)), dim3(kNuqCodeThreads), 0, stream, format, items);
}

void decode_nuq(const cpu::BlockFormat& format, const DecodeItem* items, std::int64_t num_items, cudaStream_t stream) {
  launch(nuq_decode, dim3(static_cast<unsigned>(num_items)), dim3(kNuqCodeThreads), 0, stream, format, items);
}

void attend_nuq(const cpu::BlockFormat& format, std::int32_t vectors, const CodedJob* jobs, const WorkItem* items,
                std::int64_t num_items, Partials partials, cudaStream_t stream) {
  const bool is_wide = format.padded_k > 128 || format.padded_v > 128;
  // Lookups and not bytes are what takes time: for more vectors, blocks of threads read the same codes.
  const auto kernels = is_wide ? attend<256, 2> : vectors == 1 ? attend<128, 1> : attend<128, 4>;
  kernels(vectors, jobs, items, num_items, partials, stream);
}

}  // namespace tandem::gpu::cuda
