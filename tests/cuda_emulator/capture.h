#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "stream.h"

namespace emulator {

/// Per stream: how many of its captured operations something comes after.
using Clock = std::map<const Stream*, std::uint64_t>;

/// The operations of the streams that take part in a capture, in the order in which they were called for. That is one
/// of the orders that a graph allows; the emulator replays this one.
struct Capture {
  struct Member {
    std::shared_ptr<Stream> stream;
    std::uint64_t operations = 0;
    Clock after;  ///< what its next operation comes after
  };

  std::shared_ptr<Stream> origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  bool invalid = false;
  std::vector<Operation> operations;
  std::map<const Stream*, Member> members;
};

/// Guards captures, Stream::capture and events.
std::mutex& capture_mutex();

/// The operation goes into the stream or, while it is captured, into the capture. Throws Refusal.
void submit(const std::shared_ptr<Stream>& stream, Operation operation);
/// Throws Refusal, and invalidates the capture, if the stream is captured: one cannot wait for it.
void refuse_capture(const std::shared_ptr<Stream>& stream);
/// Throws Refusal, and invalidates the capture, if a capture forbids the calling thread what might wait for a device.
void refuse_unsafe_call();
/// How captures see the calls of this thread. Returns what it was before.
cudaStreamCaptureMode exchange_thread_mode(cudaStreamCaptureMode mode);

void begin_capture(const std::shared_ptr<Stream>& stream, cudaStreamCaptureMode mode);  ///< throws Refusal
std::vector<Operation> end_capture(const std::shared_ptr<Stream>& stream);              ///< throws Refusal
cudaStreamCaptureStatus capture_status(const std::shared_ptr<Stream>& stream);
void forget_captures();
/// `stream` takes part in `capture`, and goes on after the operations `after`. Throws Refusal. capture_mutex() is held.
void join_capture(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Capture>& capture, const Clock& after);

}  // namespace emulator
