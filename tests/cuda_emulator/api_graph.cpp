#include <memory>
#include <vector>

#include "capture.h"
#include "cuda_runtime_api.h"
#include "graph.h"
#include "handles.h"

struct CUgraph_st {
  std::vector<emulator::Operation> operations;
};

/// Its launches run one after the other, also in different streams.
struct CUgraphExec_st {
  std::vector<emulator::Operation> operations;
  std::shared_ptr<emulator::Stream> last_stream;  ///< of the last launch
  std::uint64_t last_number = 0;
};

namespace emulator {
namespace {

HandleSet<CUgraph_st>& graphs() {
  static auto& all = *new HandleSet<CUgraph_st>("a graph that does not exist or is destroyed");
  return all;
}

HandleSet<CUgraphExec_st>& executables() {
  static auto& all = *new HandleSet<CUgraphExec_st>("an executable graph that does not exist or is destroyed");
  return all;
}

void launch_graph(CUgraphExec_st& graph, const std::shared_ptr<Stream>& stream) {
  if (capture_status(stream) != cudaStreamCaptureStatusNone) {
    for (const Operation& operation : graph.operations) submit(stream, operation);
    return;
  }
  if (graph.last_stream && graph.last_stream != stream) {
    stream->enqueue([before = graph.last_stream, number = graph.last_number] { before->wait(number); });
  }
  for (const Operation& operation : graph.operations) stream->enqueue(operation);
  graph.last_stream = stream;
  graph.last_number = stream->last();
}

}  // namespace

int num_graphs() { return graphs().count() + executables().count(); }

}  // namespace emulator

using namespace emulator;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return api_call("cudaStreamBeginCapture", [&] {
    begin_capture(working_stream(stream), mode);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return api_call("cudaStreamEndCapture", [&] {
    *graph = nullptr;
    *graph = graphs().create({end_capture(working_stream(stream))});
    return cudaSuccess;
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return api_call("cudaStreamIsCapturing", [&] {
    *status = is_default(stream) ? cudaStreamCaptureStatusNone : capture_status(working_stream(stream));
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  return api_call("cudaGraphInstantiateWithFlags", [&] {
    if (flags != 0) throw Refusal{cudaErrorInvalidValue, "flags are not emulated"};
    *executable = executables().create({graphs().require(graph).operations, nullptr});
    return cudaSuccess;
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return api_call("cudaGraphLaunch", [&] {
    launch_graph(executables().require(executable), working_stream(stream));
    return cudaSuccess;
  });
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return api_call("cudaThreadExchangeStreamCaptureMode", [&] {
    *mode = exchange_thread_mode(*mode);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return release_call("cudaGraphExecDestroy", [&] {
    executables().destroy(executable);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return release_call("cudaGraphDestroy", [&] {
    graphs().destroy(graph);
    return cudaSuccess;
  });
}
