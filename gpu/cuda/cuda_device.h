#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "gpu/cuda/hand_off.h"
#include "gpu/cuda/key_coding_lane.h"
#include "gpu/cuda/submission.h"
#include "gpu/device.h"

namespace tandem::gpu::cuda {

/// A GPU. Operations are gathered on the host and go to the device together, with the next attention or wait(): one
/// copy to it, a few kernels, one copy back. Works on a stream of its own and leaves the thread's current device as it
/// was; several devices, and several objects of one, may be in use at once.
///
/// Memory that operations need besides windows is taken at construction and, for codecs, by prepare(); only that of
/// attention and of coding keys grows to the largest batch. So allocate(), prepare(), window_attention() and
/// code_keys() alone throw Error(out_of_memory), and have then done nothing.
class CudaDevice final : public Device {
 public:
  /// Throws Error(invalid_argument) naming the devices that there are, Error(unsupported) where there is none or its
  /// driver is too old, Error(out_of_memory).
  CudaDevice(int ordinal, const DeviceParams& params);
  /// Waits for what the device is doing. Memory of a device that is stuck is left to the end of the process.
  ~CudaDevice() override;

  [[nodiscard]] std::string name() const override { return name_; }
  [[nodiscard]] bool is_asynchronous() const noexcept override { return true; }
  void prepare(const cpu::RowLayout& layout, const cpu::BlockCodec* codec) override;
  std::byte* allocate(std::int64_t bytes, int node) override;
  void release(std::byte* data, std::int64_t bytes) noexcept override;
  void copy(std::byte* target, const std::byte* source, std::int64_t bytes, Stream stream) override;
  void write_rows(const WindowView& window, std::int64_t first, const KvView& host_kv, std::int64_t head,
                  Stream stream) override;
  void encode_block(const WindowView& window, std::int64_t first, Stream stream) override;
  void read_rows(const WindowView& window, std::int64_t first, std::int64_t count, const cpu::RowLayout& host_layout,
                 std::byte* host_rows, Stream stream) override;
  void window_attention(const WindowAttention* batch, std::int64_t count, Stream stream) override;
  void wait(Stream stream) override;
  [[nodiscard]] bool codes_keys() const noexcept override { return true; }
  bool code_keys(const cpu::KeyCoding& coding, Stream stream) override;

  [[nodiscard]] HandOffKind hand_off() const noexcept { return work_->hand_off.kind(); }

 private:
  struct InFlight {
    std::uint64_t epoch;
    std::unique_ptr<Submission> submission;  ///< nullptr: a copy that was sent by itself
  };
  /// Everything that the driver knows of, in one place that can be left behind. Guarded by mutex_, but for hand_off.
  struct Work {
    explicit Work(HandOffKind kind);
    CudaStream stream;
    HandOff hand_off;
    DeviceCodecs codecs;
    DeviceMemory scratch;
    std::unordered_map<std::byte*, DeviceMemory> memory;
    std::unique_ptr<Submission> open;
    std::deque<InFlight> in_flight;
    std::vector<std::unique_ptr<Submission>> idle;
    std::vector<std::unique_ptr<KeyCodingLane>> coding;  ///< lanes that nobody uses; each is its user's otherwise
  };
  class LaneLease;

  static void leave_behind(std::unique_ptr<Work> work);
  template <typename Call>
  auto guarded(Call&& call);
  template <typename Add>
  void add(Add&& add);
  void submit();
  void finish_reached();
  void wait_for(std::uint64_t epoch);
  /// Waits without the lock, so that others may give the device work meanwhile.
  void wait_unlocked(std::uint64_t epoch);
  std::uint64_t launch_piece(const KeyCodingLane& lane, std::int64_t piece);
  [[noreturn]] void fail_overdue(std::uint64_t epoch);

  const int ordinal_;
  const DeviceParams params_;
  std::string name_;
  std::mutex mutex_;
  std::string lost_;  ///< why; empty: not
  bool stuck_ = false;
  std::condition_variable lane_is_back_;
  std::unique_ptr<Work> work_;
};

}  // namespace tandem::gpu::cuda
