#include <utility>

#include "cuda_runtime_api.h"
#include "event.h"
#include "handles.h"

namespace emulator {
namespace {

HandleSet<CUevent_st>& events() {
  static auto& all = *new HandleSet<CUevent_st>("an event that does not exist or is destroyed");
  return all;
}

/// Of an event that the host asks for; null if it was never recorded. Throws Refusal if it was captured.
std::shared_ptr<Record> record_of(cudaEvent_t handle) {
  const CUevent_st& event = events().require(handle);
  const std::lock_guard lock(capture_mutex());
  if (event.capture) {
    event.capture->invalid = true;
    throw Refusal{cudaErrorStreamCaptureUnsupported, "the event belongs to a capture"};
  }
  return event.record;
}

/// What the default stream had to do is over.
cudaError_t record_done(cudaEvent_t handle) {
  CUevent_st& event = events().require(handle);
  const std::lock_guard lock(capture_mutex());
  event.capture = nullptr;
  event.record = nullptr;
  return cudaSuccess;
}

cudaError_t record_event(cudaEvent_t handle, const std::shared_ptr<Stream>& stream) {
  CUevent_st& event = events().require(handle);
  if (event.device != stream->device()) {
    throw Refusal{cudaErrorInvalidResourceHandle, "event and stream belong to different devices"};
  }
  const std::lock_guard lock(capture_mutex());
  event.capture = stream->capture;
  event.record = nullptr;
  if (event.capture) {
    event.after = event.capture->members.at(stream.get()).after;
    return event.capture->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
  }
  auto record = std::make_shared<Record>();
  record->stream = stream;
  record->number = stream->enqueue([record] { record->time = std::chrono::steady_clock::now(); });
  event.record = std::move(record);
  return cudaSuccess;
}

cudaError_t wait_for_event(const std::shared_ptr<Stream>& stream, cudaEvent_t handle) {
  const CUevent_st& event = events().require(handle);
  const std::lock_guard lock(capture_mutex());
  if (event.capture || (stream->capture && event.record)) {
    join_capture(stream, event.capture, event.after);
  } else if (event.record) {
    stream->enqueue([record = event.record] { record->stream->wait(record->number); });
  }
  return cudaSuccess;
}

}  // namespace

int num_events() { return events().count(); }

}  // namespace emulator

using namespace emulator;

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  return api_call("cudaEventCreateWithFlags", [&] {
    CUevent_st made;
    made.device = current_device();
    made.flags = flags;
    *event = events().create(std::move(made));
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return api_call("cudaEventRecord", [&] {
    return is_default(stream) ? record_done(event) : record_event(event, working_stream(stream));
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags) {
  return api_call("cudaStreamWaitEvent", [&] {
    if (flags != 0) throw Refusal{cudaErrorInvalidValue, "flags"};
    if (!is_default(stream)) return wait_for_event(working_stream(stream), event);
    events().require(event);
    return cudaSuccess;
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return api_call("cudaEventQuery", [&] {
    const auto record = record_of(event);
    if (record && !record->stream->done(record->number)) return cudaErrorNotReady;
    return record ? sticky_error(record->stream->device()).load() : cudaSuccess;
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return api_call("cudaEventSynchronize", [&]() -> cudaError_t {
    const auto record = record_of(event);
    if (!record) return cudaSuccess;
    record->stream->wait(record->number);
    return sticky_error(record->stream->device());
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return api_call("cudaEventElapsedTime", [&] {
    if (((events().require(start).flags | events().require(end).flags) & cudaEventDisableTiming) != 0) {
      throw Refusal{cudaErrorInvalidResourceHandle, "an event without timing"};
    }
    const auto first = record_of(start);
    const auto last = record_of(end);
    if (!first || !last) throw Refusal{cudaErrorInvalidResourceHandle, "an event that was never recorded"};
    if (!first->stream->done(first->number) || !last->stream->done(last->number)) return cudaErrorNotReady;
    *milliseconds = std::chrono::duration<float, std::milli>(last->time - first->time).count();
    return cudaSuccess;
  });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return release_call("cudaEventDestroy", [&] {
    events().destroy(event);
    return cudaSuccess;
  });
}
