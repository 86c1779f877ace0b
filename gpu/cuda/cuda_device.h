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
#include "gpu/cuda/row_streaming.h"
#include "gpu/cuda/submission.h"
#include "gpu/cuda/tensor_lane.h"
#include "gpu/cuda/work_clock.h"
#include "gpu/device.h"

namespace tandem::gpu::cuda {

/// A GPU. Operations are gathered on the host and go to the device together, with the next attention or wait(): one
/// copy to it, a few kernels, one copy back. Works on a stream of its own and leaves the thread's current device as it
/// was; several devices, and several objects of one, may be in use at once.
///
/// Memory that operations need besides windows is taken at construction and, for codecs, by prepare(); only that of
/// attention and of coding keys grows to the largest batch, and what fetch() and put() copy through: 8 MiB of
/// pinned memory for each call under way, and as much of the device's for tensors that are not dense. So these,
/// allocate(), prepare(), window_attention() and code_keys() alone throw Error(out_of_memory), and have then done
/// nothing. prepare_host_attention() takes 33 MiB, and 25 MiB of pinned memory, at its first call.
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
  bool prepare_host_attention(const cpu::RowLayout& layout) override;
  std::int64_t host_attention(const HostRowsAttention* batch, std::int64_t count, Stream stream) override;
  void wait(Stream stream) override;
  [[nodiscard]] bool codes_keys() const noexcept override { return true; }
  bool code_keys(const cpu::KeyCoding& coding, Stream stream) override;
  void check_tensor(const char* tensor, const void* data, CallerStream caller) const override;
  void fetch(const TensorFetch* tensors, std::int64_t count, CallerStream caller) override;
  void put(const TensorPut* tensors, std::int64_t count, CallerStream caller) override;
  void keep_spans(bool on) override;
  std::int64_t take_spans(DeviceSpan* spans, std::int64_t most) override;

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
    WorkClock clock;
    DeviceCodecs codecs;
    DeviceMemory scratch;
    std::unique_ptr<RowStreaming> streaming;  ///< nullptr until it is asked for; then used without mutex_
    std::unordered_map<std::byte*, DeviceMemory> memory;
    std::unique_ptr<Submission> open;
    std::deque<InFlight> in_flight;
    std::vector<std::unique_ptr<Submission>> idle;
    std::vector<std::unique_ptr<TensorLane>> lanes;  ///< those that no call uses
    std::size_t num_lanes = 0;
    std::vector<std::unique_ptr<KeyCodingLane>> coding;  ///< lanes that nobody uses; each is its user's otherwise
  };
  /// A lane for one call, which is given back, or left behind with everything else.
  class TensorLease {
   public:
    explicit TensorLease(CudaDevice& device);
    ~TensorLease();
    TensorLease(const TensorLease&) = delete;
    TensorLease& operator=(const TensorLease&) = delete;
    TensorLane* operator->() const noexcept { return lane_.get(); }

   private:
    CudaDevice& device_;
    std::unique_ptr<TensorLane> lane_;
  };
  class CodingLease;

  static void leave_behind(std::unique_ptr<Work> work);
  template <typename Call>
  auto guarded(Call&& call);
  template <typename Call>
  void exchange(const Call& call);
  template <typename Call>
  auto beside(Call&& call);
  void check_not_lost();
  void wait_for_windows();
  template <typename Add>
  void add(Add&& add);
  void submit();
  void finish_reached();
  void wait_for(std::uint64_t epoch);
  /// Waits without the lock, so that others may give the device work meanwhile.
  void wait_unlocked(std::uint64_t epoch);
  std::uint64_t launch_piece(const KeyCodingLane& lane, std::int64_t piece);
  [[noreturn]] void fail_overdue(std::uint64_t epoch, HandOff& hand_off);

  const int ordinal_;
  const DeviceParams params_;
  std::string name_;
  std::mutex mutex_;
  std::string lost_;  ///< why; empty: not
  bool stuck_ = false;
  bool no_streaming_ = false;  ///< for want of memory
  std::condition_variable lane_is_back_;
  std::unique_ptr<Work> work_;
};

}  // namespace tandem::gpu::cuda
