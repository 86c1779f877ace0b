#include "bench/gpu/merges.h"

#include <algorithm>

#include "gpu/cuda/attention_plan.h"
#include "tools/probes/gpu/stream_timer.h"

namespace tandem::bench {
namespace {

using namespace gpu::cuda;

constexpr std::int64_t kFloatBytes = sizeof(float);

/// Vectors, each with `parts` partials of zeros, as the attention of windows of parts * kRowsPerItem rows writes them.
class Merge {
 public:
  Merge(std::int64_t vectors, std::int64_t parts, std::int32_t dim, cudaStream_t stream)
      : vectors_(vectors),
        dim_(dim),
        stream_(stream),
        partials_((vectors * parts * (dim + 1)) * kFloatBytes),
        results_(vectors * (dim + 1) * kFloatBytes) {
    TANDEM_CUDA_CHECK(cudaMemsetAsync(partials_.data(), 0, static_cast<std::size_t>(partials_.bytes()), stream));
    auto* out = reinterpret_cast<float*>(results_.data());
    items_at_ = items_.add(vectors * static_cast<std::int64_t>(sizeof(MergeItem)));
    items_.settle();
    auto* items = items_.host<MergeItem>(items_at_);
    for (std::int64_t v = 0; v < vectors; ++v) {
      items[v] = {v,
                  static_cast<std::int32_t>(vectors),
                  static_cast<std::int32_t>(parts),
                  nullptr,
                  nullptr,
                  0.f,
                  0,
                  out + v * dim,
                  out + vectors * dim + v};
    }
    items_.send(stream);
    rows_ = {reinterpret_cast<float*>(partials_.data()),
             reinterpret_cast<float*>(partials_.data()) + vectors * parts * dim};
  }
  void launch() const { launch_merge_partials(items_.device<MergeItem>(items_at_), vectors_, rows_, dim_, stream_); }

 private:
  std::int64_t vectors_;
  std::int32_t dim_;
  cudaStream_t stream_;
  DeviceMemory partials_, results_;
  Upload items_;
  std::int64_t items_at_ = 0;
  Partials rows_{};
};

}  // namespace

Json measure_merges(cudaStream_t stream, const GpuOptions& options) {
  Json result = Json::array();
  const probes::StreamTimer timer(stream);
  const std::int64_t longest = *std::max_element(options.contexts.begin(), options.contexts.end());
  for (const std::int64_t batch : options.batches) {
    const std::int64_t vectors = batch * options.kv_heads * options.group;
    for (std::int64_t parts = 1; parts * kRowsPerItem <= longest; parts *= 4) {
      const Merge merge(vectors, parts, options.head_dim, stream);
      merge.launch();
      std::vector<double> us;
      for (std::int64_t i = 0; i < options.plan.repetitions; ++i) us.push_back(timer.us([&] { merge.launch(); }));
      result.push_back({{"vectors", vectors}, {"partials", parts}, {"us", quartiles_of(us)}});
    }
  }
  return result;
}

}  // namespace tandem::bench
