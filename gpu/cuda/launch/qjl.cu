#include "gpu/cuda/kernels/qjl_attention.cuh"
#include "gpu/cuda/kernels/qjl_codes.cuh"
#include "gpu/cuda/launch.h"
#include "gpu/cuda/launch/qjl_launch.h"

namespace tandem::gpu::cuda {
namespace {

unsigned parts(std::int32_t count, std::int32_t of) { return static_cast<unsigned>((count + of - 1) / of); }

}  // namespace

void encode_qjl(const cpu::BlockFormat& format, const EncodeItem* items, std::int64_t num_items, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(num_items), kQjlGroups);
  launch(qjl_encode_keys, grid, dim3(kQjlCodeThreads), 0, stream, format, items);
  launch(qjl_encode_values, grid, dim3(kQjlCodeThreads), 0, stream, format, items);
}

void decode_qjl(const cpu::BlockFormat& format, const DecodeItem* items, std::int64_t num_items, cudaStream_t stream) {
  launch(qjl_decode, dim3(static_cast<unsigned>(num_items)), dim3(kQjlCodeThreads), 0, stream, format, items);
}

void attend_qjl(std::int32_t vectors, const CodedJob* jobs, const WorkItem* items, std::int64_t num_items,
                Partials partials, cudaStream_t stream) {
  // Lookups and not bytes are what takes time: for eight vectors, two blocks of threads read the same codes.
  const std::int32_t at_once = vectors == 1 ? 1 : 4;
  const dim3 grid(static_cast<unsigned>(num_items), parts(vectors, at_once));
  launch(vectors == 1 ? qjl_attention<1> : qjl_attention<4>, grid, dim3(kQjlThreads), 0, stream, jobs, items, partials);
}

std::int32_t prepared_dim_qjl(const cpu::BlockFormat& format) { return format.sketch_bits; }

void prepare_queries_qjl(const cpu::BlockFormat& format, const CodedJob* jobs, std::int64_t num_jobs,
                         std::int32_t most_vectors, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(num_jobs), parts(most_vectors, kSketchVectors),
                  parts(format.sketch_bits, kSketchThreads));
  launch(qjl_sketch, grid, dim3(kSketchThreads), 0, stream, jobs, format.projection, format.dim_k, format.padded_k,
         format.sketch_bits);
}

}  // namespace tandem::gpu::cuda
