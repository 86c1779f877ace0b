#include "gpu/cuda/cuda_device.h"

#include <algorithm>
#include <cassert>

#include "gpu/cuda/cuda_error.h"
#include "gpu/cuda/launchers.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace tandem::gpu::cuda {
namespace {

constexpr std::size_t kSubmissions = 3;  // one that is gathered while others are under way
constexpr std::int64_t kLargeCopyBytes = std::int64_t{1} << 16;

std::string version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

/// The device's name.
std::string checked_device(int ordinal) {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    (void)cudaGetLastError();
    TANDEM_CHECK(driver > 0, unsupported, "there is no CUDA driver on this machine");
    fail(ErrorCode::unsupported, "the driver knows CUDA ", version_text(driver), ", and this build needs CUDA ",
         version_text(runtime), "; update the driver, or build with an older toolkit");
  }
  if (status != cudaSuccess) (void)cudaGetLastError();
  TANDEM_CHECK(status == cudaSuccess || status == cudaErrorNoDevice, unsupported,
               "CUDA does not start: ", cudaGetErrorName(status), " (", cudaGetErrorString(status), ")");
  TANDEM_CHECK(devices > 0, unsupported, "there is no CUDA device on this machine");
  TANDEM_CHECK(ordinal >= 0 &&
                       ordinal<devices, invalid_argument, "device is cuda:", ordinal, "; allowed: cuda:0", devices> 1
                   ? concat(" to cuda:", devices - 1)
                   : "");
  cudaDeviceProp properties;
  TANDEM_CUDA_CHECK(cudaGetDeviceProperties(&properties, ordinal));
  return concat("cuda:", ordinal, " (", properties.name, ")");
}

}  // namespace

CudaDevice::Work::Work(HandOffKind kind) : hand_off(kind, stream.get()), codecs(stream.get()) {
  for (std::size_t i = 0; i < kSubmissions; ++i) idle.push_back(std::make_unique<Submission>());
  for (int i = 0; i < kCodingLanes; ++i) coding.push_back(std::make_unique<KeyCodingLane>());
}

CudaDevice::CudaDevice(int ordinal, const DeviceParams& params)
    : ordinal_(ordinal), params_(params), name_(checked_device(ordinal)) {
  const CurrentDevice current(ordinal_);
  work_ = std::make_unique<Work>(params.hand_off);
  try {
    launch_nothing(work_->stream.get());
  } catch (const Error& error) {
    fail(ErrorCode::unsupported, name_,
         " does not run the kernels of this build, see TANDEM_CUDA_ARCHS: ", error.what());
  }
}

CudaDevice::~CudaDevice() {
  try {
    if (lost_.empty()) wait(kWindowStream);
    if (lost_.empty() && work_->streaming != nullptr) wait(kHostRowsStream);
    const CurrentDevice current(ordinal_);
    for (const auto& lane : work_->lanes) {  // an engine's stream may not have come to its results
      HandOff& hand_off = lane->hand_off();
      if (lost_.empty() && !hand_off.wait(hand_off.signalled(), params_.timeout)) stuck_ = true;
    }
    if (!stuck_) work_.reset();
  } catch (const Error&) {
    // What is lost cannot be waited for, and a device that is lost is reported to whoever uses it.
  }
  if (!stuck_) return;
  log(LogLevel::warning, concat(name_, " does not finish its work; its memory is left to the end of the process"));
  leave_behind(std::move(work_));
}

/// Keeps what a device may still use, and what could not be given back without waiting for it.
void CudaDevice::leave_behind(std::unique_ptr<Work> work) {
  static std::mutex mutex;
  static auto& left = *new std::vector<std::unique_ptr<Work>>;
  const std::lock_guard lock(mutex);
  left.push_back(std::move(work));
}

/// Runs `call` on this device, and remembers that it is lost.
template <typename Call>
auto CudaDevice::guarded(Call&& call) {
  TANDEM_CHECK(lost_.empty(), device_lost, name_, " was lost: ", lost_);
  const CurrentDevice current(ordinal_);
  try {
    return call();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::device_lost) lost_ = error.what();
    throw;
  }
}

/// Another call may have lost the device meanwhile, and with it the results of this one.
void CudaDevice::check_not_lost() {
  const std::lock_guard lock(mutex_);
  TANDEM_CHECK(lost_.empty(), device_lost, name_, " was lost: ", lost_);
}

/// Runs `call` on streams of its own, so that others may use the device meanwhile. No result is handed over by a device
/// that is lost.
template <typename Call>
auto CudaDevice::beside(Call&& call) {
  {
    const std::lock_guard lock(mutex_);
    if (!lost_.empty()) work_->streaming->abandon();
    guarded([] {});
  }
  const CurrentDevice current(ordinal_);
  try {
    if constexpr (std::is_void_v<decltype(call(*work_->streaming))>) {
      call(*work_->streaming);
      check_not_lost();
    } else {
      const auto result = call(*work_->streaming);
      check_not_lost();
      return result;
    }
  } catch (const Error& error) {
    const std::lock_guard lock(mutex_);
    work_->streaming->abandon();
    if (lost_.empty()) lost_ = error.what();
    if (work_->streaming->stuck()) stuck_ = true;
    fail(ErrorCode::device_lost, error.what());  // half of it may have begun
  }
}

/// Adds work to the open submission; where that does not take it, to the next one.
template <typename Add>
void CudaDevice::add(Add&& add) {
  while (true) {
    if (work_->open == nullptr) {
      while (work_->idle.empty()) wait_for(work_->in_flight.front().epoch);  // not each of them is a submission
      work_->open = std::move(work_->idle.back());
      work_->idle.pop_back();
    }
    if (add(*work_->open)) return;
    assert(!work_->open->empty());  // an empty one takes every piece
    submit();
  }
}

/// Sends what was gathered to the device.
void CudaDevice::submit() {
  if (work_->open == nullptr || work_->open->empty()) return;
  try {
    work_->clock.begin(work_->open->attends() ? "window attention" : "rows", work_->stream.get());
    work_->open->launch(work_->scratch, params_.graphs, work_->stream.get());
    work_->clock.end(work_->stream.get());
  } catch (const Error& error) {  // half of it may have begun
    fail(ErrorCode::device_lost, error.what());
  }
  work_->in_flight.push_back({work_->hand_off.signal(), std::move(work_->open)});
}

/// Hands over the results of what is done.
void CudaDevice::finish_reached() {
  const std::uint64_t reached = work_->hand_off.reached();
  while (!work_->in_flight.empty() && work_->in_flight.front().epoch <= reached) {
    if (std::unique_ptr<Submission>& done = work_->in_flight.front().submission; done != nullptr) {
      done->finish();
      work_->idle.push_back(std::move(done));
    }
    work_->in_flight.pop_front();
  }
}

void CudaDevice::wait_for(std::uint64_t epoch) {
  if (!work_->hand_off.wait(epoch, params_.timeout)) fail_overdue(epoch, work_->hand_off);
  finish_reached();
}

void CudaDevice::fail_overdue(std::uint64_t epoch, HandOff& hand_off) {
  stuck_ = true;
  fail(ErrorCode::device_lost, "the device did not reach epoch ", epoch, " within ", params_.timeout.count(),
       " ms (device_timeout_ms): it is at ", hand_off.reached(), ", and the host has given it work up to ",
       hand_off.signalled());
}

void CudaDevice::prepare(const cpu::RowLayout& layout, const cpu::BlockCodec* codec) {
  const std::int32_t largest = std::max(layout.padded_k, layout.padded_v);
  TANDEM_CHECK(largest <= kMaxKernelDim, unsupported, "head_dim is ", std::max(layout.dim_k, layout.dim_v),
               "; CUDA devices have kernels for head_dim up to ", kMaxKernelDim);
  const std::lock_guard lock(mutex_);
  guarded([&] {
    if (codec != nullptr && *codec) work_->codecs.of(*codec);
  });
}

std::byte* CudaDevice::allocate(std::int64_t bytes, int /*node*/) {
  if (bytes == 0) return nullptr;
  const std::lock_guard lock(mutex_);
  return guarded([&] {
    DeviceMemory memory(bytes);
    std::byte* data = memory.data();
    TANDEM_CUDA_CHECK(cudaMemsetAsync(data, 0, static_cast<std::size_t>(bytes), work_->stream.get()));
    work_->memory.emplace(data, std::move(memory));
    return data;
  });
}

void CudaDevice::release(std::byte* data, std::int64_t /*bytes*/) noexcept {
  try {
    wait(kWindowStream);
    std::unordered_map<std::byte*, DeviceMemory>::node_type memory;  // given back outside the lock: it takes a while
    {
      const std::lock_guard lock(mutex_);
      memory = work_->memory.extract(data);
    }
    const CurrentDevice current(ordinal_);
    memory = {};
  } catch (const std::exception&) {
    // The device is lost, which the next call reports; its memory goes with everything else.
  }
}

void CudaDevice::copy(std::byte* target, const std::byte* source, std::int64_t bytes, Stream /*stream*/) {
  if (bytes == 0) return;
  const std::lock_guard lock(mutex_);
  guarded([&] {
    if (bytes < kLargeCopyBytes) {
      add([&](Submission& submission) { return submission.move(target, source, bytes); });
      return;
    }
    submit();
    TANDEM_CUDA_CHECK(cudaMemcpyAsync(target, source, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice,
                                      work_->stream.get()));
    work_->in_flight.push_back({work_->hand_off.signal(), nullptr});
  });
}

void CudaDevice::write_rows(const WindowView& window, std::int64_t first, const KvView& host_kv, std::int64_t head,
                            Stream /*stream*/) {
  const std::int64_t tokens = host_kv.k.tokens;
  if (tokens == 0) return;
  const bool is_coded = window.is_coded(first);
  const std::int64_t piece = is_coded ? window.format->block_rows : kPieceRows;
  const std::lock_guard lock(mutex_);
  guarded([&] {
    const DeviceCodec* codec = is_coded ? &work_->codecs.of(*window.codec) : nullptr;
    for (std::int64_t done = 0; done < tokens; done += piece) {
      const std::int64_t count = std::min(piece, tokens - done);
      const KvView part{host_kv.k.slice(done, count), host_kv.v.slice(done, count)};
      add([&](Submission& submission) {
        return is_coded ? submission.write_block(window, *codec, first + done, part, head)
                        : submission.write_rows(window, first + done, part, head);
      });
    }
  });
}

void CudaDevice::encode_block(const WindowView& window, std::int64_t first, Stream /*stream*/) {
  const std::lock_guard lock(mutex_);
  guarded([&] {
    const DeviceCodec& codec = work_->codecs.of(*window.codec);
    add([&](Submission& submission) { return submission.encode_block(window, codec, first); });
  });
}

void CudaDevice::read_rows(const WindowView& window, std::int64_t first, std::int64_t count,
                           const cpu::RowLayout& host_layout, std::byte* host_rows, Stream /*stream*/) {
  const std::lock_guard lock(mutex_);
  guarded([&] {
    const std::int64_t last = first + count;
    for (std::int64_t p = first, next = 0; p < last; p = next) {
      std::byte* target = host_rows + (p - first) * host_layout.row_bytes;
      if (window.is_coded(p)) {
        const DeviceCodec& codec = work_->codecs.of(*window.codec);
        next = std::min({last, window.raw_begin, window.block_begin(p) + window.format->block_rows});
        add([&](Submission& s) { return s.read_block(window, codec, p, next - p, host_layout, target); });
      } else {
        next = std::min(last, p + kPieceRows);
        if (p < window.local_begin) next = std::min(next, std::max(p + 1, window.local_begin));
        add([&](Submission& s) { return s.read_rows(window, p, next - p, host_layout, target); });
      }
    }
  });
}

void CudaDevice::window_attention(const WindowAttention* batch, std::int64_t count, Stream /*stream*/) {
  if (count == 0) return;
  const std::lock_guard lock(mutex_);
  guarded([&] {
    add([&](Submission& submission) { return submission.attend(batch, count, work_->codecs, work_->scratch); });
    submit();
  });
}

bool CudaDevice::prepare_host_attention(const cpu::RowLayout& layout) {
  if (!RowStreaming::takes(layout)) return false;
  const std::lock_guard lock(mutex_);
  return guarded([&] {
    if (work_->streaming != nullptr || no_streaming_) return !no_streaming_;
    try {
      work_->streaming = std::make_unique<RowStreaming>(params_.hand_off);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::out_of_memory) throw;
      no_streaming_ = true;
      log(LogLevel::warning,
          concat(name_, " attends no rows in host memory, which is left to the workers: ", error.what()));
    }
    return !no_streaming_;
  });
}

std::int64_t CudaDevice::host_attention(const HostRowsAttention* batch, std::int64_t count, Stream /*stream*/) {
  return beside([&](RowStreaming& streaming) { return streaming.attend(batch, count, params_.timeout); });
}

void CudaDevice::wait(Stream stream) {
  if (stream.id != kHostRowsStream.id) return wait_for_windows();
  {
    const std::lock_guard lock(mutex_);
    if (work_->streaming == nullptr) return;
  }
  beside([&](RowStreaming& streaming) { streaming.wait(params_.timeout); });
}

void CudaDevice::wait_for_windows() {
  std::uint64_t epoch = 0;
  {
    const std::lock_guard lock(mutex_);
    guarded([&] { submit(); });
    epoch = work_->hand_off.signalled();
  }
  wait_unlocked(epoch);
}

void CudaDevice::wait_unlocked(std::uint64_t epoch) {
  bool is_done = false;
  std::string failure;
  try {
    const CurrentDevice current(ordinal_);
    is_done = work_->hand_off.wait(epoch, params_.timeout);
  } catch (const Error& error) {
    failure = error.what();
  }
  const std::lock_guard lock(mutex_);
  guarded([&] {
    TANDEM_CHECK(failure.empty(), device_lost, failure);
    if (!is_done) fail_overdue(epoch, work_->hand_off);
    finish_reached();
  });
}

CudaDevice::TensorLease::TensorLease(CudaDevice& device) : device_(device) {
  const std::lock_guard lock(device.mutex_);
  device.guarded([&] {
    auto& lanes = device.work_->lanes;
    const auto idle = std::find_if(lanes.begin(), lanes.end(), [](const auto& lane) { return lane->is_idle(); });
    if (idle == lanes.end()) {
      lanes.reserve(++device.work_->num_lanes);  // so that giving back cannot fail
      lane_ = std::make_unique<TensorLane>(device.params_.hand_off);
    } else {
      lane_ = std::move(*idle);
      lanes.erase(idle);
    }
  });
}

CudaDevice::TensorLease::~TensorLease() {
  const std::lock_guard lock(device_.mutex_);
  device_.work_->lanes.push_back(std::move(lane_));
}

/// call(lane) on a lane of its own and without the lock: it may have to wait for its caller's stream.
template <typename Call>
void CudaDevice::exchange(const Call& call) {
  const TensorLease lane(*this);
  bool is_done = false;
  std::string failure;
  try {
    const CurrentDevice current(ordinal_);
    is_done = call(lane);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::device_lost) throw;
    failure = error.what();
  }
  const std::lock_guard lock(mutex_);
  guarded([&] {
    TANDEM_CHECK(failure.empty(), device_lost, failure);
    if (!is_done) fail_overdue(lane->hand_off().signalled(), lane->hand_off());
  });
}

void CudaDevice::keep_spans(bool on) {
  wait(kWindowStream);
  const std::lock_guard lock(mutex_);
  guarded([&] {
    work_->clock.stop();
    if (!on) return;
    using Clock = std::chrono::steady_clock;
    TimedEvent origin;
    const Clock::time_point before = Clock::now();
    TANDEM_CUDA_CHECK(cudaEventRecord(origin.get(), work_->stream.get()));
    work_->in_flight.push_back({work_->hand_off.signal(), nullptr});
    wait_for(work_->in_flight.back().epoch);
    work_->clock.start(std::move(origin), before + (Clock::now() - before) / 2);
  });
}

std::int64_t CudaDevice::take_spans(DeviceSpan* spans, std::int64_t most) {
  const std::lock_guard lock(mutex_);
  return guarded([&] {
    work_->clock.collect();
    return work_->clock.take(spans, most);
  });
}

void CudaDevice::check_tensor(const char* tensor, const void* data, CallerStream caller) const {
  const CurrentDevice current(ordinal_);
  check_tensor_memory(tensor, data, ordinal_, caller);
}

void CudaDevice::fetch(const TensorFetch* tensors, std::int64_t count, CallerStream caller) {
  exchange([&](const TensorLease& lane) { return lane->fetch(tensors, count, caller, {ordinal_, params_.timeout}); });
}

void CudaDevice::put(const TensorPut* tensors, std::int64_t count, CallerStream caller) {
  exchange([&](const TensorLease& lane) { return lane->put(tensors, count, caller, {ordinal_, params_.timeout}); });
}

/// One of the lanes, for the time of a call. Waits for one.
class CudaDevice::CodingLease {
 public:
  explicit CodingLease(CudaDevice& device) : device_(device) {
    std::unique_lock lock(device.mutex_);
    auto& lanes = device.work_->coding;
    device.lane_is_back_.wait(lock, [&] { return !lanes.empty(); });
    lane_ = std::move(lanes.back());
    lanes.pop_back();
  }
  ~CodingLease() {
    {
      const std::lock_guard lock(device_.mutex_);
      device_.work_->coding.push_back(std::move(lane_));  // there is room: it was here before
    }
    device_.lane_is_back_.notify_one();
  }
  CodingLease(const CodingLease&) = delete;
  CodingLease& operator=(const CodingLease&) = delete;
  KeyCodingLane* operator->() const noexcept { return lane_.get(); }
  KeyCodingLane& operator*() const noexcept { return *lane_; }

 private:
  CudaDevice& device_;
  std::unique_ptr<KeyCodingLane> lane_;
};

/// Returns the epoch at which the piece is done.
std::uint64_t CudaDevice::launch_piece(const KeyCodingLane& lane, std::int64_t piece) {
  const std::lock_guard lock(mutex_);
  return guarded([&] {
    try {
      lane.launch(piece, work_->stream.get());
    } catch (const Error& error) {  // half of it may have begun
      fail(ErrorCode::device_lost, error.what());
    }
    work_->in_flight.push_back({work_->hand_off.signal(), nullptr});
    return work_->hand_off.signalled();
  });
}

bool CudaDevice::code_keys(const cpu::KeyCoding& coding, Stream /*stream*/) {
  if (!can_code(coding)) return false;
  if (coding.count == 0) return true;
  const CodingLease lane(*this);
  {
    const std::lock_guard lock(mutex_);
    guarded([&] { lane->begin(coding, work_->stream.get()); });
  }
  std::uint64_t epochs[kCodingPieces] = {};
  const std::int64_t pieces = lane->num_pieces();
  for (std::int64_t next = 0; next < pieces + kCodingPieces; ++next) {
    std::uint64_t& epoch = epochs[next % kCodingPieces];
    if (const std::int64_t done = next - kCodingPieces; done >= 0 && done < pieces) {
      wait_unlocked(epoch);
      lane->take(done);
    }
    if (next >= pieces) continue;
    lane->stage(next);
    epoch = launch_piece(*lane, next);
  }
  return true;
}

}  // namespace tandem::gpu::cuda
