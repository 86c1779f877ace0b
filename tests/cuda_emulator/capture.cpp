#include "capture.h"

#include <set>
#include <utility>

namespace emulator {
namespace {

/// Captures under way. Guarded by capture_mutex().
std::set<std::shared_ptr<Capture>>& captures() {
  static auto& all = *new std::set<std::shared_ptr<Capture>>;
  return all;
}

[[noreturn]] void invalidate(Capture& capture, cudaError_t code, const char* text) {
  capture.invalid = true;
  throw Refusal{code, text};
}

thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

}  // namespace

std::mutex& capture_mutex() {
  static auto& mutex = *new std::mutex;
  return mutex;
}

void submit(const std::shared_ptr<Stream>& stream, Operation operation) {
  {
    const std::lock_guard lock(capture_mutex());
    if (Capture* const capture = stream->capture.get(); capture != nullptr) {
      if (capture->invalid) throw Refusal{cudaErrorStreamCaptureInvalidated, {}};
      capture->operations.push_back(std::move(operation));
      Capture::Member& member = capture->members.at(stream.get());
      member.after[stream.get()] = ++member.operations;
      return;
    }
  }
  stream->enqueue(std::move(operation));
}

void refuse_capture(const std::shared_ptr<Stream>& stream) {
  const std::lock_guard lock(capture_mutex());
  if (stream->capture) invalidate(*stream->capture, cudaErrorStreamCaptureUnsupported, "the stream is being captured");
}

cudaStreamCaptureMode exchange_thread_mode(cudaStreamCaptureMode mode) { return std::exchange(thread_mode, mode); }

void refuse_unsafe_call() {
  if (thread_mode == cudaStreamCaptureModeRelaxed) return;
  const std::lock_guard lock(capture_mutex());
  for (const auto& capture : captures()) {
    const bool own = capture->thread == std::this_thread::get_id();
    if (capture->mode == cudaStreamCaptureModeGlobal || (own && capture->mode == cudaStreamCaptureModeThreadLocal)) {
      invalidate(*capture, cudaErrorStreamCaptureUnsupported, "a capture in this mode forbids the call");
    }
  }
}

void begin_capture(const std::shared_ptr<Stream>& stream, cudaStreamCaptureMode mode) {
  const std::lock_guard lock(capture_mutex());
  if (stream->capture) throw Refusal{cudaErrorInvalidValue, "the stream is being captured already"};
  auto capture = std::make_shared<Capture>();
  capture->origin = stream;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->members[stream.get()].stream = stream;
  stream->capture = capture;
  captures().insert(std::move(capture));
}

std::vector<Operation> end_capture(const std::shared_ptr<Stream>& stream) {
  const std::lock_guard lock(capture_mutex());
  const std::shared_ptr<Capture> capture = stream->capture;
  if (!capture) throw Refusal{cudaErrorInvalidValue, "the stream is not being captured"};
  if (capture->origin != stream) invalidate(*capture, cudaErrorStreamCaptureUnmatched, "the capture began elsewhere");
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id()) {
    throw Refusal{cudaErrorStreamCaptureWrongThread, "the capture was begun by another thread"};
  }
  Clock joined = capture->members.at(stream.get()).after;
  bool all_joined = true;
  for (const auto& [member, state] : capture->members) {
    all_joined = all_joined && (member == stream.get() || joined[member] >= state.operations);
    state.stream->capture = nullptr;
  }
  captures().erase(capture);
  if (capture->invalid) throw Refusal{cudaErrorStreamCaptureInvalidated, {}};
  if (!all_joined) throw Refusal{cudaErrorStreamCaptureUnjoined, "the first stream does not wait for another one"};
  return std::move(capture->operations);
}

cudaStreamCaptureStatus capture_status(const std::shared_ptr<Stream>& stream) {
  const std::lock_guard lock(capture_mutex());
  if (!stream->capture) return cudaStreamCaptureStatusNone;
  return stream->capture->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
}

void forget_captures() {
  const std::lock_guard lock(capture_mutex());
  for (const auto& capture : captures()) {
    for (const auto& [member, state] : capture->members) state.stream->capture = nullptr;
  }
  captures().clear();
}

void join_capture(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Capture>& capture, const Clock& after) {
  if (!capture) invalidate(*stream->capture, cudaErrorStreamCaptureIsolation, "an event from outside of the capture");
  if (capture->invalid) throw Refusal{cudaErrorStreamCaptureInvalidated, {}};
  if (stream->capture && stream->capture != capture) {
    capture->invalid = true;
    invalidate(*stream->capture, cudaErrorStreamCaptureMerge, "an event of another capture");
  }
  if (!captures().contains(capture)) throw Refusal{cudaErrorInvalidValue, "the event's capture has ended"};
  stream->capture = capture;
  Capture::Member& member = capture->members[stream.get()];
  member.stream = stream;
  for (const auto& [other, count] : after) member.after[other] = std::max(member.after[other], count);
}

}  // namespace emulator
