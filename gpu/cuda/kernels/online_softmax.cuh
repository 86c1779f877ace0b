#pragma once

#include "gpu/cuda/kernels/platform.cuh"

namespace tandem::gpu::cuda {

/// Softmax of logits in base 2 that arrive a few at a time, and the weighted sum of N elements of V per logit.
/// Source: Milakov & Gimelshein, arXiv:1805.02867.
template <int N>
struct OnlineSoftmax {
  float largest;
  float sum;
  float out[N];

  __device__ void clear() {
    largest = -infinity();
    sum = 0.f;
#pragma unroll
    for (int i = 0; i < N; ++i) out[i] = 0.f;
  }

  /// Adds Count logits, which it turns into their weights, and their V. Logits of -infinity weigh nothing.
  template <int Count>
  __device__ void add(float (&logits)[Count], const float (&v)[Count][N]) {
    float most = largest;
#pragma unroll
    for (int k = 0; k < Count; ++k) most = fmaxf(most, logits[k]);
    if (most == -infinity()) return;
    const float kept = exp2f(largest - most);
    largest = most;
    sum *= kept;
#pragma unroll
    for (int k = 0; k < Count; ++k) {
      logits[k] = exp2f(logits[k] - most);
      sum += logits[k];
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
      out[i] *= kept;
#pragma unroll
      for (int k = 0; k < Count; ++k) out[i] = fmaf(logits[k], v[k][i], out[i]);
    }
  }
};

}  // namespace tandem::gpu::cuda
