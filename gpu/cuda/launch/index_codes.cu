#include <algorithm>

#include "gpu/cuda/coding_launchers.h"
#include "gpu/cuda/kernels/simhash_codes.cuh"
#include "gpu/cuda/kernels/sketch_codes.cuh"
#include "gpu/cuda/launch.h"

namespace tandem::gpu::cuda {
namespace {

/// Two for each block of codes that has rows.
dim3 grid_for(const KeyRows& keys) {
  constexpr int kBlockRows = 2 * kCodingRows;
  return dim3(static_cast<unsigned>((keys.count + kBlockRows - 1) / kBlockRows * 2));
}

std::size_t words(int count) { return static_cast<std::size_t>(count) * 4; }

template <bool kFused>
auto sketch_kernel(std::int32_t padded_dims) {
  return padded_dims <= 64    ? sketch_codes<kFused, 1>
         : padded_dims <= 128 ? sketch_codes<kFused, 2>
         : padded_dims <= 192 ? sketch_codes<kFused, 3>
                              : sketch_codes<kFused, 4>;
}

auto hadamard_kernel(std::int32_t block) {
  return block <= 32    ? hadamard_codes<1>
         : block == 64  ? hadamard_codes<2>
         : block == 128 ? hadamard_codes<4>
                        : hadamard_codes<8>;
}

}  // namespace

void launch_sketch_codes(const KeyRows& keys, const SketchCoding& sketch, bool fused, std::byte* blocks,
                         cudaStream_t stream) {
  if (keys.count == 0) return;
  const std::size_t shared = words(sketch_floats(keys.padded_k, sketch.padded_dims)) +
                             static_cast<std::size_t>(sketch.padded_dims * kCodingRows);
  launch(fused ? sketch_kernel<true>(sketch.padded_dims) : sketch_kernel<false>(sketch.padded_dims), grid_for(keys),
         dim3(kCodingThreads), shared, stream, keys, sketch, blocks);
}

void launch_hash_codes(const KeyRows& keys, const HashCoding& hash, bool fused, std::uint16_t* codes,
                       float* inverse_norms, cudaStream_t stream) {
  if (keys.count == 0) return;
  const bool is_gaussian = hash.block == 0;
  const std::size_t shared =
      words(keys.padded_k * (is_gaussian ? kCodingRows : kHadamardStride)) + words(kCodingRows * (hash.num_bits / 32));
  launch(is_gaussian ? fused ? gaussian_codes<true> : gaussian_codes<false> : hadamard_kernel(hash.block),
         grid_for(keys), dim3(kCodingThreads), shared, stream, keys, hash, codes, inverse_norms);
}

}  // namespace tandem::gpu::cuda
