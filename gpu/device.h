#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "cpu/codec/block_format.h"
#include "cpu/kv_store.h"
#include "cpu/logit_rule.h"
#include "cpu/rope.h"
#include "cpu/row_layout.h"
#include "gpu/slot_table.h"
#include "numa/worker_pool.h"
#include "runtime/base/partial.h"
#include "runtime/base/view.h"

namespace tandem::cpu {
class BlockCodec;
struct KeyCoding;
}  // namespace tandem::cpu

namespace tandem::gpu {

class KeptTokens;

/// The window of one (sequence, layer, kv_head) in a device's memory.
///
/// Positions [0, min(sinks, end)) and [local_begin, end) are held, and the tokens that `kept` lists; the others are in
/// the host tier. Sinks and the positions from raw_begin on are rows: those before `sinks` in slots of the same number,
/// any other position p in slot sinks + (p - sinks) % ring. The positions [local_begin, raw_begin) are coded, in whole
/// blocks: block b holds the block_rows positions from sinks + b * block_rows on and lies in slot b % ring_blocks.
/// Without a codec there are none. Where tokens are merged into entries, positions are the numbers of entries, and
/// `visible_from` says who sees one.
struct WindowView {
  SlotTable rows;
  cpu::RowLayout layout;
  std::int64_t sinks = 0;
  std::int64_t ring = 0;
  std::int64_t local_begin = 0;
  std::int64_t raw_begin = 0;
  std::int64_t end = 0;
  SlotTable blocks = {};
  std::int64_t ring_blocks = 0;
  const cpu::BlockCodec* codec = nullptr;    ///< outlives the window; nullptr without one
  const cpu::BlockFormat* format = nullptr;  ///< of the codec
  SlotTable kept_rows = {};
  const KeptTokens* kept = nullptr;            ///< older tokens, each in a slot of kept_rows; nullptr: none
  const std::int64_t* visible_from = nullptr;  ///< by slot of rows: the first query that sees it; nullptr: its own

  [[nodiscard]] std::int64_t slot(std::int64_t position) const noexcept {
    return position < sinks ? position : sinks + (position - sinks) % ring;
  }
  [[nodiscard]] std::byte* row(std::int64_t position) const noexcept { return rows[slot(position)]; }
  /// The first position of the block that holds a coded position.
  [[nodiscard]] std::int64_t block_begin(std::int64_t position) const noexcept {
    return position - (position - sinks) % format->block_rows;
  }
  /// The block that holds the coded `position`.
  [[nodiscard]] std::byte* block(std::int64_t position) const noexcept {
    return blocks[(position - sinks) / format->block_rows % ring_blocks];
  }
  [[nodiscard]] bool is_coded(std::int64_t position) const noexcept {
    return position >= local_begin && position < raw_begin;
  }
};

/// Attention that a window's tokens got: softmax probabilities within the window, summed over all query vectors.
struct AttentionMass {
  float* kept = nullptr;  ///< by slot of kept_rows
  float* raw = nullptr;   ///< of the positions from raw_begin on
};

/// Attention of one QueryBlock over one window. `result` is (num_vectors, dim_v). Queries, positions, slopes, own
/// entries, mass and result are host memory and belong to the device until wait(), and so does what `window` points to.
struct WindowAttention {
  WindowView window;
  cpu::QueryBlock queries;
  cpu::LogitRule logits;
  PartialAttention result;
  cpu::RopeParams rope = {};           ///< for sink_turn
  std::int64_t sink_turn = 0;          ///< positions that queries are turned back for the sinks; see sink_rotation()
  const float* own_entries = nullptr;  ///< (num_queries, padded K then padded V): what each query sees besides
  AttentionMass mass = {};             ///< added to where not nullptr
};

/// Rows of a store, ascending, which somebody else holds: a std::span, which CUDA sources cannot include.
class RowList {
 public:
  RowList() = default;
  template <typename Rows>
  RowList(const Rows& rows) : data_(rows.data()), size_(rows.size()) {}  // NOLINT: as a span

  [[nodiscard]] const std::uint32_t* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] const std::uint32_t* begin() const noexcept { return data_; }
  [[nodiscard]] const std::uint32_t* end() const noexcept { return data_ + size_; }

 private:
  const std::uint32_t* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Exact attention of one QueryBlock over those rows of a store in host memory that its queries see; row r is the token
/// at first_position + r. `result` is (num_vectors, dim_v). All of it, and the pages of the store, are host memory that
/// belongs to the device until wait().
struct HostRowsAttention {
  const cpu::KvStore* store = nullptr;
  std::int64_t first_position = 0;
  RowList left_out = {};  ///< rows that take no part
  cpu::QueryBlock queries;
  cpu::LogitRule logits;
  PartialAttention result;
  numa::NodeWorkers helpers = {};  ///< who may share the copying of the store's rows
};

/// What a device did by itself, on the host's clock.
struct DeviceSpan {
  const char* name;  ///< outlives the device
  std::chrono::steady_clock::time_point begin, end;
};

/// A caller's own work on a device: a cudaStream_t; nullptr is the default stream.
struct CallerStream {
  void* handle = nullptr;
};

/// One copy between a caller's tensor in a device's memory and host memory, which is dense.
struct TensorFetch {
  TensorView source;
  std::byte* target;
};
struct TensorPut {
  const std::byte* source;
  MutableTensorView target;
};

/// How the host learns how far an asynchronous device has come.
enum class HandOffKind {
  flag,       ///< the device writes to host memory (cuStreamWriteValue32), which the host reads
  host_call,  ///< the device's driver calls a function of the host (cudaLaunchHostFunc)
  event,      ///< the host asks the driver for the state of events
};
const char* to_string(HandOffKind kind) noexcept;

/// How a runtime wants its device.
struct DeviceParams {
  std::chrono::milliseconds timeout{10'000};  ///< wait() gives up on a device that takes longer
  HandOffKind hand_off = HandOffKind::flag;
  bool graphs = false;  ///< work of the same shape as before is replayed as a CUDA graph
};

class Device;

/// Memory of one device, zeroed. Move-only; the device must outlive it.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  /// `node` is a hint: the NUMA node whose workers will use the memory. Throws Error(out_of_memory) with the figures.
  DeviceBuffer(Device& device, std::int64_t bytes, int node);
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : device_(std::exchange(other.device_, nullptr)),
        data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }

 private:
  Device* device_ = nullptr;
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

/// Order of work on a device: operations on one stream run one after the other.
struct Stream {
  std::int64_t id = 0;
};

/// Of everything that touches windows, so that reads, writes and attention need no other order among them.
inline constexpr Stream kWindowStream{};
/// Of host_attention(), which touches no window.
inline constexpr Stream kHostRowsStream{1};

/// What holds and attends over the window: a GPU, or the host itself. The only virtual class of the project.
///
/// Operations on a stream may return before they are done; they take effect in order, and wait() returns when all of
/// them have. Views, with their tables of slots, and tokens to be written are read before the call returns; the host
/// memory that results go to belongs to the device until wait(). Thread-safe: several threads may use one stream, and
/// each waits for what it began. A device that fails throws Error(device_lost) from any operation, and from then on
/// leaves the host memory that it was given alone (one that cannot stop what it began works on copies); allocate()
/// throws Error(out_of_memory) with the figures.
class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  [[nodiscard]] virtual std::string name() const = 0;
  /// Operations run beside the host, so that it pays to launch them early and to wait late. Otherwise they take the
  /// time of whoever calls.
  [[nodiscard]] virtual bool is_asynchronous() const noexcept = 0;
  /// Makes ready what windows of this layout need; `codec` is theirs, or nullptr. Throws Error(unsupported) where the
  /// device has no code for them, naming what there is; Error(out_of_memory).
  virtual void prepare(const cpu::RowLayout& layout, const cpu::BlockCodec* codec) = 0;
  /// Zeroed device memory; nullptr for 0 bytes. `node` is a hint. Returns when the memory can be used.
  virtual std::byte* allocate(std::int64_t bytes, int node) = 0;
  /// Operations that still use the memory are done first; those of a lost device are not waited for.
  virtual void release(std::byte* data, std::int64_t bytes) noexcept = 0;
  /// From device memory to device memory; they do not overlap.
  virtual void copy(std::byte* target, const std::byte* source, std::int64_t bytes, Stream stream) = 0;

  /// Writes tokens of one head, (tokens, heads, dim) in host memory, to the positions from `first` on: all of them
  /// rows, or whole blocks, which are encoded. `host_kv` is read before the call returns.
  virtual void write_rows(const WindowView& window, std::int64_t first, const KvView& host_kv, std::int64_t head,
                          Stream stream) = 0;
  /// Encodes the block of positions from `first` on, which are coded in `window` and whose rows still lie in the ring.
  virtual void encode_block(const WindowView& window, std::int64_t first, Stream stream) = 0;
  /// Copies `count` rows from position `first` on to host memory, in `host_layout`, back to back; coded ones decoded.
  virtual void read_rows(const WindowView& window, std::int64_t first, std::int64_t count,
                         const cpu::RowLayout& host_layout, std::byte* host_rows, Stream stream) = 0;
  /// Exact attention over each of `count` windows; a GPU launches once for all of them. `batch` itself is read before
  /// the call returns.
  virtual void window_attention(const WindowAttention* batch, std::int64_t count, Stream stream) = 0;
  /// Makes ready what host_attention() over rows of this layout needs: its memory does not grow with rows or queries.
  /// False where the device does not do that, has no code for such rows, or lacked the memory once, which is logged:
  /// the host attends then. Throws Error(device_lost).
  virtual bool prepare_host_attention(const cpu::RowLayout& /*layout*/) { return false; }
  /// Exact attention over rows in host memory, which come to the device piece by piece and are not kept there. The
  /// tasks are of layouts that were prepared. Tasks of one store that follow each other share the passage of its rows;
  /// the bits of a query's result depend on its own task alone. Returns when the last pieces are on their way, which
  /// takes about as long as the attention does. `batch` itself is read before the call returns. Returns the bytes of
  /// rows that it sent.
  virtual std::int64_t host_attention(const HostRowsAttention* /*batch*/, std::int64_t /*count*/, Stream /*stream*/) {
    return 0;
  }
  /// Returns when everything on the stream is done. Throws Error(device_lost) when that takes longer than the device
  /// was told to wait (DeviceParams::timeout): the text says how many operations of each stream were launched, and how
  /// many of them have finished.
  virtual void wait(Stream stream) = 0;
  /// Whether keys can be given to code_keys().
  [[nodiscard]] virtual bool codes_keys() const noexcept { return false; }
  /// Codes keys of the host tier for an index, to the bytes that the host's kernels make. Other than the rest, it
  /// returns when the codes are there; operations that others launch meanwhile wait for a few pieces of it at most.
  /// False for keys that the device has no code for. Throws Error(out_of_memory); codes are undefined where it throws.
  virtual bool code_keys(const cpu::KeyCoding& /*coding*/, Stream /*stream*/) { return false; }

  /// Whether callers may have tensors in this device's memory: throws Error(invalid_argument) naming `tensor` and what
  /// is allowed where they may not, or where `data` is not memory of this device; Error(unsupported) while `caller` is
  /// captured in a graph. This device by itself has no memory that callers could know.
  virtual void check_tensor(const char* tensor, const void* data, CallerStream caller) const;
  /// Copies checked tensors to host memory, as they are when `caller` has done what it has been given so far, which is
  /// waited for as long as it takes. They are there when the call returns. Of one dtype each. Throws
  /// Error(out_of_memory).
  virtual void fetch(const TensorFetch* tensors, std::int64_t count, CallerStream caller);
  /// Copies host memory, which is read before the call returns, to checked tensors; whatever `caller` is given from
  /// then on sees them written. Throws Error(out_of_memory).
  virtual void put(const TensorPut* tensors, std::int64_t count, CallerStream caller);

  /// Whether spans are kept, which they are not at first: it costs the device's time. Forgets those that it has.
  virtual void keep_spans(bool /*on*/) {}
  /// Takes the oldest spans that nobody has taken, `most` at most, and returns how many. A device keeps a bounded
  /// number of them; one that does not know when it worked has none.
  virtual std::int64_t take_spans(DeviceSpan* /*spans*/, std::int64_t /*most*/) { return 0; }
};

}  // namespace tandem::gpu
