#include "bench/gpu/window_case.h"

#include <algorithm>
#include <cmath>

#include "gpu/cuda/cuda_error.h"
#include "runtime/base/random.h"
#include "tools/tandem/statistics.h"

namespace tandem::bench {

WindowCase::WindowCase(const TiledHead& head, std::int64_t windows, std::int32_t group, gpu::cuda::DeviceCodecs& codecs,
                       cudaStream_t stream)
    : head_(head), windows_(windows), group_(group), position_(head.tokens()), memory_(bytes(head, windows)) {
  const cpu::RowLayout& layout = head.layout();
  queries_.resize(static_cast<std::size_t>(group * layout.padded_k));
  CounterRandom random(2, 0);
  for (float& x : queries_) x = static_cast<float>(random.normal() / std::sqrt(static_cast<double>(layout.dim_k)));
  out_.resize(static_cast<std::size_t>(windows * group * layout.dim_v));
  lse_.resize(static_cast<std::size_t>(windows * group));
  for (std::int64_t w = 0; w < windows; ++w) pages_.push_back(memory_.data() + w * head.bytes());
  for (std::int64_t w = 0; w < windows; ++w) {
    gpu::WindowAttention task;
    task.window = head.view(&pages_[static_cast<std::size_t>(w)]);
    task.queries = {queries_.data(), &position_, 1, group};
    task.result = {out_.data() + w * group * layout.dim_v, lse_.data() + w * group, group, layout.dim_v};
    tasks_.push_back(task);
  }
  fill(stream);
  plan(codecs, stream);
}

/// One tile from the host, which then doubles.
void WindowCase::fill(cudaStream_t stream) const {
  const auto tile = static_cast<std::int64_t>(head_.tile().size());
  TANDEM_CUDA_CHECK(cudaMemcpyAsync(memory_.data(), head_.tile().data(), static_cast<std::size_t>(tile),
                                    cudaMemcpyHostToDevice, stream));
  for (std::int64_t filled = tile; filled < memory_.bytes(); filled *= 2) {
    const std::int64_t count = std::min(filled, memory_.bytes() - filled);
    TANDEM_CUDA_CHECK(cudaMemcpyAsync(memory_.data() + filled, memory_.data(), static_cast<std::size_t>(count),
                                      cudaMemcpyDeviceToDevice, stream));
  }
}

void WindowCase::plan(gpu::cuda::DeviceCodecs& codecs, cudaStream_t stream) {
  plan_.build(tasks_.data(), windows_, codecs, upload_, download_);
  upload_.settle();
  download_.settle();
  scratch_ = gpu::cuda::DeviceMemory(plan_.scratch_bytes());
  plan_.place(upload_, download_, scratch_.data());
  upload_.send(stream);
}

void WindowCase::attend(gpu::Device& device) const {
  device.window_attention(tasks_.data(), windows_, gpu::kWindowStream);
  device.wait(gpu::kWindowStream);
}

WindowCase::Error WindowCase::error(cudaStream_t stream) const {
  download_.fetch(stream);
  TANDEM_CUDA_CHECK(cudaStreamSynchronize(stream));
  const std::int32_t dim = head_.layout().dim_v;
  Error error;
  std::vector<double> errors;
  for (std::int32_t h = 0; h < group_; ++h) {
    const auto exact = head_.exact(queries_.data() + h * head_.layout().padded_k);
    for (const std::int64_t window : {std::int64_t{0}, windows_ - 1}) {
      const auto& result = plan_.result(window);
      errors.push_back(cli::relative_error(download_.host<float>(result.out) + h * dim, exact.out.data(), dim));
      error.lse = std::max(error.lse, std::abs(static_cast<double>(download_.host<float>(result.lse)[h]) - exact.lse));
    }
  }
  error.mean = cli::mean(errors);
  error.max = cli::quantile(errors, 1);
  return error;
}

}  // namespace tandem::bench
