#include "gpu/cuda/launch_graph.h"

#include "gpu/cuda/cuda_error.h"

namespace tandem::gpu::cuda {

void LaunchGraph::begin_capture() {
  if (!capturing_) capturing_.emplace();
  // Relaxed: what other threads do meanwhile is no part of it, and is not forbidden.
  TANDEM_CUDA_CHECK(cudaStreamBeginCapture(capturing_->get(), cudaStreamCaptureModeRelaxed));
}

void LaunchGraph::end_capture() {
  cudaGraph_t graph = nullptr;
  TANDEM_CUDA_CHECK(cudaStreamEndCapture(capturing_->get(), &graph));
  const cudaError_t status = cudaGraphInstantiateWithFlags(&executable_, graph, 0);
  (void)cudaGraphDestroy(graph);
  refused_ = status == cudaErrorMemoryAllocation;
  if (refused_) {
    executable_ = nullptr;
    (void)cudaGetLastError();
  } else {
    TANDEM_CUDA_CHECK(status);
  }
}

void LaunchGraph::drop_capture() const noexcept {
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(capturing_->get(), &graph) == cudaSuccess) (void)cudaGraphDestroy(graph);
  (void)cudaGetLastError();
}

void LaunchGraph::forget() noexcept {
  if (executable_ != nullptr) (void)cudaGraphExecDestroy(executable_);  // once it has run, where it is running
  executable_ = nullptr;
  refused_ = false;
  key_.clear();
}

}  // namespace tandem::gpu::cuda
