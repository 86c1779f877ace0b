#pragma once

#include "gpu/cuda/kernels/nuq_keys.cuh"
#include "gpu/cuda/kernels/nuq_values.cuh"

namespace tandem::gpu::cuda {

/// Of kernels for up to Threads padded elements of K and of V.
template <int Threads, int Vectors>
struct NuqShared {
  static constexpr int kWarps = Threads / 32;
  static constexpr int kDims = Threads;
  static constexpr int kCodeBytes = cpu::kNuqBlockRows * kDims / 2;  ///< of 4 bits

  SharedSoftmax<Vectors, kWarps> softmax;
  union {
    TurnedQueries<Vectors> turned[kWarps];
    uint4 value_codes[kCodeBytes / 16];  ///< once scores are there
    float parts[2 * Threads];
  };
  uint4 key_codes[kCodeBytes / 16];
  float levels[kDims * cpu::kNuqLevels];
  PairRotations rotations[kDims / 2];
  float value_levels[cpu::kNuqLevels];
  QueryPair<Vectors> queries[kDims / 2];
  Floats<Vectors> scaled[kTileTokens];  ///< weights times scales of V
  OutlierMasks<kDims> masks;
  float offsets[Vectors];
};

/// Split-KV attention over blocks of codec nuq: one item a block, Vectors query vectors of it: those from blockIdx.y *
/// Vectors on of what the item has. padded_k, padded_v <= Threads.
template <int Threads, int Vectors>
__global__ void __launch_bounds__(Threads, 512 / Threads)
    nuq_attention(const CodedJob* __restrict__ jobs, const WorkItem* __restrict__ items, Partials partials) {
  using Shared = NuqShared<Threads, Vectors>;
  using Ahead = BytesAhead<Shared::kCodeBytes, Threads>;
  TANDEM_DYNAMIC_SHARED(memory);
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  const WorkItem item = items[blockIdx.x];
  const CodedJob& job = jobs[item.job];
  const cpu::BlockFormat& f = *job.format;
  const int skipped = static_cast<int>(blockIdx.y) * Vectors;
  const std::int32_t first = item.first_vector + skipped;
  if (first >= job.queries.num_vectors) return;
  const int count = min(Vectors, job.queries.num_vectors - first);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  shared.softmax.clear(job.queries, first, count);
  for (int i = thread; i < f.padded_k * cpu::kNuqLevels; i += Threads) shared.levels[i] = f.levels_k[i];
  if (thread < cpu::kNuqLevels) shared.value_levels[thread] = f.levels_v[thread];
  for (int i = thread; i < f.padded_k / 2 * Vectors; i += Threads) {
    const int pair = i / Vectors, v = i % Vectors;
    const float* query = job.queries.q + static_cast<std::int64_t>(first + min(v, count - 1)) * f.padded_k;
    const PairElements elements = pair_elements(f, pair);
    shared.queries[pair].first.x[v] = query[elements.first];
    shared.queries[pair].second.x[v] = query[elements.second];
  }
  make_rotations<Threads>(f, shared.rotations);
  const NuqKeys<Vectors, Shared::kWarps> keys{f, shared.queries, shared.levels, shared.rotations};
  NuqValues<Vectors, Threads> values(f.padded_v);
  float offset = 0.f;  // of the warp's vector, over the lane's tokens
  const int key_bytes = cpu::kNuqBlockRows * f.padded_k * f.bits / 8;
  const int value_bytes = cpu::kNuqBlockRows * f.padded_v * f.bits / 8;
  const TokenSpan span = span_of(job, item);
  if (item.begin < item.end)
    Ahead(tile_of(job, item.begin).block + f.k_codes, key_bytes).store(key_bytes, shared.key_codes);
  for (std::int64_t index = item.begin; index < item.end; index += kTileTokens) {
    const std::byte* block = tile_of(job, index).block;
    const std::int64_t position = job.origin + index;
    const NuqValueSide side(f, block);
    const Ahead ahead(block + f.v_codes, value_bytes);
    __syncthreads();
    shared.masks.template clear<Threads>(f.padded_v);
    float sums[2][Vectors] = {};
    keys.add_residuals(block, position, sums);
    const auto* key_codes = reinterpret_cast<const std::byte*>(shared.key_codes);
    if (f.bits == 4) keys.template score<true>(key_codes, position, shared.turned[warp], sums);
    if (f.bits != 4) keys.template score<false>(key_codes, position, shared.turned[warp], sums);
#pragma unroll
    for (int v = 0; v < Vectors; ++v) {
#pragma unroll
      for (int u = 0; u < 2; ++u) shared.softmax.scores[warp][v][keys.token() + u * cpu::kNuqLanes] = sums[u][v];
    }
    __syncthreads();
    ahead.store(value_bytes, shared.value_codes);
    shared.softmax.weigh(position, span);
    __syncwarp();
    if (warp < Vectors) {  // which has weighed the vector of its number
      offset *= shared.softmax.kept[warp];
      for (int token = lane; token < kTileTokens; token += 32) {
        const float weight = shared.softmax.weights[token].x[warp];
        shared.scaled[token].x[warp] = weight * side.scales[token];
        offset = fmaf(weight, side.offsets[token], offset);
      }
    }
    shared.masks.template set<Threads>(side.residuals, f.outliers_v);
    __syncthreads();
    const std::int64_t next = index + kTileTokens;
    const Ahead upcoming(tile_of(job, next).block + f.k_codes, next < item.end ? key_bytes : 0);
    const auto* value_codes = reinterpret_cast<const std::byte*>(shared.value_codes);
    values.rescale(shared.softmax.kept);
    if (f.bits == 4) values.template add<true>(value_codes, 4, f.padded_v, shared.value_levels, shared.scaled);
    if (f.bits != 4) values.template add<false>(value_codes, f.bits, f.padded_v, shared.value_levels, shared.scaled);
    values.add_residuals(side.residuals, f.outliers_v, f.padded_v, shared.masks, shared.softmax.weights);
    upcoming.store(next < item.end ? key_bytes : 0, shared.key_codes);
  }
#pragma unroll
  for (int delta = 16; delta > 0; delta /= 2) offset += __shfl_xor_sync(kWholeWarp, offset, delta, 32);
  if (warp < Vectors && lane == 0) shared.offsets[warp] = offset;
  __syncthreads();
#pragma unroll
  for (int v = 0; v < Vectors; ++v) {
    const std::int64_t row = item.partial_row + skipped + v;
    float* out = v < count ? partials.out + row * f.dim_v : nullptr;
    values.write(v, f.dim_v, shared.offsets[v], shared.softmax.normaliser(v), shared.parts, out);
    if (out != nullptr && thread == 0) partials.lse[row] = shared.softmax.lse(v);
  }
}

}  // namespace tandem::gpu::cuda
