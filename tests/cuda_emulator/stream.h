#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "machine.h"
#include "random.h"

namespace emulator {

struct Capture;
/// May throw Fault or DeviceFailure: then the device is lost.
using Operation = std::function<void()>;

/// Operations that a thread of its own works off one after the other, see Progress. Thread-safe.
class Stream {
 public:
  Stream(int device, unsigned flags, std::uint64_t seed) : device_(device), flags_(flags), random_(seed) {}

  /// Puts an operation at the end; returns its number.
  std::uint64_t enqueue(Operation operation);
  /// Blocks until the operation of that number has ended.
  void wait(std::uint64_t number);
  /// Whether it has. A late stream takes this as a wish.
  bool done(std::uint64_t number);
  [[nodiscard]] std::uint64_t last();  ///< number of the last operation
  void close();                        ///< the thread ends after the last operation
  void wake();                         ///< the device is lost
  void work();                         ///< the thread

  [[nodiscard]] int device() const noexcept { return device_; }
  [[nodiscard]] unsigned flags() const noexcept { return flags_; }

  std::shared_ptr<Capture> capture;  ///< guarded by capture_mutex()

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    Operation operation;
    Clock::time_point since;
  };

  [[nodiscard]] bool due(const Config& now) const;
  void execute(Operation& operation);
  void delay(int max_us);

  const int device_;
  const unsigned flags_;
  Random random_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Entry> queue_;
  std::uint64_t enqueued_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t wanted_ = 0;
  bool closed_ = false;
};

// The streams that exist, and those that were destroyed and still work.

cudaStream_t create_stream(int device, unsigned flags);
/// Throws Refusal for the default stream and for what is no stream.
std::shared_ptr<Stream> find_stream(cudaStream_t handle);
/// Throws Refusal where its device is lost, too.
std::shared_ptr<Stream> working_stream(cudaStream_t handle);
/// The default stream, which has nothing to do here.
inline bool is_default(cudaStream_t handle) { return handle == nullptr || handle == cudaStreamLegacy; }
void destroy_stream(cudaStream_t handle);
/// All that work for `device`, destroyed ones as well; -1: for any.
std::vector<std::shared_ptr<Stream>> streams_of(int device);
/// Waits for what is in the streams of `device` (-1: of all) now.
void wait_for_streams(int device);
void wait_for_destroyed_streams();
int num_streams();

}  // namespace emulator
