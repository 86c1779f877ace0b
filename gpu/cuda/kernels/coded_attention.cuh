#pragma once

#include "gpu/cuda/kernels/coded_tile.cuh"

namespace tandem::gpu::cuda {

/// The work of coded_attention().
template <typename Codec, int Lanes, int Vectors>
__device__ void attend_item(const CodedJob& job, const WorkItem& item, const Partials& partials) {
  struct Shared {
    TileScores<Vectors> scores[kCodedWarps];
    typename Codec::template Keys<Lanes, Vectors> keys;
    WarpOutputs<Lanes * 8> outputs;
    LogitRule rules[Vectors];
  };
  TANDEM_SHARED(Shared, shared);
  const int first_of_block = Vectors * static_cast<int>(blockIdx.y), first_vector = item.first_vector + first_of_block;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int count = min(Vectors, job.queries.num_vectors - first_vector);
  if (count <= 0) return;
  if (static_cast<int>(threadIdx.x) < Vectors) {
    // Vectors that are not there see nothing.
    shared.rules[threadIdx.x] = static_cast<int>(threadIdx.x) < count
                                    ? logit_rule(job.queries, first_vector + static_cast<int>(threadIdx.x))
                                    : LogitRule{};
  }
  Codec::template load<Lanes, Vectors>(job, first_vector, count, shared.keys);
  __syncthreads();
  const TokenSpan span = span_of(job, item);
  TileSoftmax<Vectors> softmax;
  softmax.clear();
  float out[Vectors][8] = {};
  for (std::int64_t first = item.begin + warp * kTileTokens; first < item.end; first += kCodedWarps * kTileTokens) {
    const CodedTile tile = tile_of(job, first);
    TileScores<Vectors>& scores = shared.scores[warp];
    Codec::template scores<Lanes, Vectors>(tile, shared.keys, scores);
    __syncwarp();
    softmax.template weigh<Codec>(tile, span, shared.rules, scores, out);
    __syncwarp();
    Codec::template accumulate<Lanes, Vectors>(tile, scores, out);
    __syncwarp();
  }
  write_partials<Codec, Lanes>(softmax, out, shared.outputs, job.format->dim_v, count, partials,
                               item.partial_row + first_of_block);
}

/// Split-KV attention over coded tokens: one item a block, of its query vectors `Vectors` from Vectors * blockIdx.y
/// on, at most 8 Lanes padded elements of K and of V. A Codec has
///
///   Keys<Lanes, Vectors>              what lies in shared memory for its scores
///   load(job, first, count, keys)     query vectors [first, first + count), by all threads of the block
///   scores(tile, keys, scores)        <q, k> up to key_factor() of the token, by one warp
///   key_factor, value_factor          of a token
///   kHasCode                          whether this compilation is for devices that use it
///   accumulate(tile, weights, out)    adds weighted values; out[x][i] of a lane is a part of element(lane, i).
///
/// Source: Dao et al., Flash-Decoding (2023).
template <typename Codec, int Lanes, int Vectors>
__global__ void __launch_bounds__(kCodedThreads)
    coded_attention(const CodedJob* __restrict__ jobs, const WorkItem* __restrict__ items, Partials partials) {
  const WorkItem item = items[blockIdx.x];
  if constexpr (Codec::kHasCode) attend_item<Codec, Lanes, Vectors>(jobs[item.job], item, partials);
}

}  // namespace tandem::gpu::cuda
