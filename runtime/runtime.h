#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "gpu/device.h"
#include "numa/placement.h"
#include "numa/worker_pool.h"
#include "runtime/base/background.h"
#include "runtime/base/error.h"
#include "runtime/base/lease_pool.h"
#include "runtime/base/timeline.h"
#include "runtime/borrowed/row_pool.h"
#include "runtime/borrowed/rows_buffers.h"
#include "runtime/config.h"
#include "runtime/requests.h"
#include "runtime/sequence.h"
#include "runtime/split.h"
#include "runtime/step_context.h"
#include "runtime/step_plan.h"
#include "runtime/step_stats.h"
#include "runtime/worker_scratch.h"

namespace tandem {

/// The one owning object: machine, memory, device and sequences. Sequences are handles.
///
/// Thread-safe: calls on different sequences run in parallel; a call on a busy sequence throws Error(invalid_state).
/// A call that throws changed nothing, but for one that loses the device: it throws Error(device_lost) and closes the
/// runtime, whose sequences can then only be destroyed; every other call throws Error(invalid_state).
class Runtime {
 public:
  /// Makes the device that holds the windows. What it is given outlives the device.
  using MakeDevice =
      std::function<std::unique_ptr<gpu::Device>(const cpu::Kernels& kernels, const numa::Topology& topology,
                                                 numa::MemoryLedger& ledger, const gpu::DeviceParams& params)>;

  explicit Runtime(const Config& config);
  Runtime(const Config& config, const MakeDevice& make_device);

  std::uint64_t create_sequence();
  void destroy_sequence(std::uint64_t id);
  /// `length` -1: all tokens; `selector` none: that of the source, sharing its index.
  std::uint64_t fork_sequence(std::uint64_t id, std::int64_t length,
                              const std::optional<lsh::SelectorParams>& selector);
  void truncate_sequence(std::uint64_t id, std::int64_t length);
  /// Forgets `count` tokens from `first` on; those after them move up.
  void evict_tokens(std::uint64_t id, std::int64_t first, std::int64_t count);
  [[nodiscard]] SequenceInfo query_sequence(std::uint64_t id, std::int32_t layer);

  /// New tokens of one layer enter the windows of their sequences, and what leaves these goes to the host tier.
  /// Throws Error(invalid_argument | out_of_memory | invalid_state).
  StepStats append(const AppendRequest& request);
  /// Attention of the latest tokens' queries over both tiers; writes request.out and what else it asks for. Errors as
  /// above.
  StepStats attend(const AttendRequest& request);

  /// Rows of one layer that an engine keeps; see td_pool. `probes` -1: nothing is compared. Throws
  /// Error(invalid_argument | unsupported).
  std::uint64_t bind_pool(std::int32_t layer, const KvView& rows, std::int64_t probes);
  void unbind_pool(std::uint64_t id);
  /// Throws Error(invalid_argument) naming a row that the pool does not have.
  void rows_written(std::uint64_t pool, std::span<const std::int64_t> rows);
  void forget_rows(std::uint64_t pool);
  /// The number of rows of indexes that had been written.
  std::int64_t verify_rows(std::uint64_t pool);
  [[nodiscard]] PoolInfo query_pool(std::uint64_t pool);
  /// Attention of queries over the rows that each sees. Errors as above; only out, lse and the like are written before
  /// one, and what an index needs in memory is no error: queries that find none attend to every row.
  StepStats attend_rows(const AttendRowsRequest& request);

  [[nodiscard]] const Config& config() const noexcept { return config_; }
  [[nodiscard]] const numa::Topology& topology() const noexcept { return topology_; }
  [[nodiscard]] const numa::MemoryLedger& ledger() const noexcept { return ledger_; }
  [[nodiscard]] const numa::WorkerPool& workers() const noexcept { return workers_; }
  [[nodiscard]] const cpu::Kernels& kernels() const noexcept { return kernels_; }
  [[nodiscard]] const gpu::Device& device() const noexcept { return *device_; }
  /// What has been measured with Config::auto_split.
  [[nodiscard]] SplitFigures split() const noexcept { return split_.figures(); }
  /// The fewest rows of the host tier for which a query selects, by the configured selector and what has been measured;
  /// -1: never.
  [[nodiscard]] std::int64_t crossover_rows() const noexcept;
  [[nodiscard]] Timeline& timeline() noexcept { return timeline_; }
  /// Timeline::start(), and the device's spans with it. Throws Error(device_lost), too.
  void start_timeline(const std::string& path, std::int64_t max_spans);
  /// Timeline::stop(); also once the device is lost.
  void stop_timeline();

 private:
  /// call(number), with the number of the call. Where it loses the device, the error says which one did.
  template <typename Call>
  auto closing_if_lost(Call&& call);
  void check_open() const;
  /// The tokens [first, length) of every layer of `source`, at the end of `target`.
  void append_later_tokens(Sequence& source, std::int64_t first, std::int64_t length, std::uint64_t target);
  StepStats append_open(const AppendRequest& given, std::int64_t call);
  StepStats attend_open(const AttendRequest& given, std::int64_t call);
  /// The sequences of `ids`, into `found`. Throws Error(invalid_state) naming one that does not exist.
  void find(std::span<const std::uint64_t> ids, std::vector<std::shared_ptr<Sequence>>& found);
  std::uint64_t insert(std::shared_ptr<const lsh::Selector> selector, std::uint64_t id, std::vector<LayerState> layers);
  [[nodiscard]] lsh::HeadIndex empty_index(const lsh::Selector& selector, std::int32_t layer, std::int32_t head,
                                           int node);
  std::vector<LayerState> empty_layers(std::uint64_t id, const lsh::Selector& selector);
  void check_layer(std::int32_t layer) const;
  /// Throws Error(invalid_state) where a cut needs tokens that were lost for want of a host tier.
  void check_cut(Sequence& sequence, std::int64_t length) const;
  /// Likewise for one head whose tokens are merged, also where the state of its entries is no longer known.
  void check_entries(const Sequence& sequence, std::int32_t layer, const HeadState& head, std::int64_t length) const;
  /// Indexes the rows that reached the host tier since the last step, for the tasks that select; returns worker
  /// microseconds.
  double extend_indexes(const StepContext& step, StepBuffers& buffers);
  /// The same, but for probes that would need memory which there is not: these become exact.
  double extend_probed_indexes(const StepContext& step, StepBuffers& buffers);
  using TaskStage = void (*)(const StepContext& step, std::int64_t task, StepBuffers& buffers);
  /// `stage` of every planned task, on its head's node; a short one on this thread.
  void run_tasks(const StepContext& step, StepBuffers& buffers, TaskStage stage);
  void launch_windows(const StepContext& step, StepBuffers& buffers);
  [[nodiscard]] std::shared_ptr<RowPool> find_pool(std::uint64_t id);
  std::unique_ptr<RowList> empty_list(const RowTensors& rows, std::int32_t layer, std::int64_t probes);
  /// The tasks of queries that have a list, with indexes that have all their rows; returns worker microseconds.
  double plan_lists(RowPool& pool, const StepContext& step, const AttendRowsRequest& request, StepBuffers& buffers,
                    RowsBuffers& rows);
  /// The pieces that have been planned of both kinds of tasks.
  void run_rows(const RowPool& pool, const StepContext& step, const AttendRowsRequest& request, StepBuffers& buffers,
                RowsBuffers& rows);
  /// One attempt: false where rows turned out to have been written, and what was known about them has been forgotten.
  bool attend_lists(RowPool& pool, const StepContext& step, const AttendRowsRequest& request, bool may_select,
                    StepBuffers& buffers, RowsBuffers& rows, StepStats& total);
  /// Stages 8' and 4 to 6, and 3 and 7 where step.window is nullptr; returns the worker microseconds of 8'.
  double attend_host(const StepContext& step, StepBuffers& buffers);

  // In the order of construction: what comes later uses what comes earlier.
  const Config config_;
  const numa::Topology topology_;
  numa::MemoryLedger ledger_;
  const cpu::Kernels& kernels_;
  numa::WorkerPool workers_;
  Timeline timeline_;
  const numa::PlacementPolicy placement_;
  std::unique_ptr<gpu::Device> device_;
  const cpu::KeyCoder key_coder_;  ///< of the indexes; empty: they code by themselves
  const cpu::RowLayout window_layout_;
  const cpu::RowLayout host_layout_;
  const std::vector<cpu::BlockCodec> codecs_;  ///< of the windows, (layer, KV head)
  cpu::PagePools page_pools_;
  const std::shared_ptr<const lsh::Selector> selector_;
  const Config rows_config_;     ///< of what borrows its rows
  BackgroundThread background_;  // ends after all sequences and before the memory that its tasks write
  LeasePool<WorkerScratch> scratch_;
  LeasePool<cpu::AttentionScratch> attention_scratch_;
  LeasePool<StepBuffers> step_buffers_;
  LeasePool<RowsBuffers> rows_buffers_;

  Split split_;
  std::mutex streaming_;  ///< of the calls whose host rows the device attends: one sends at a time
  std::atomic<bool> closed_ = false;
  std::atomic<std::int64_t> calls_ = 0;  ///< that may need the device
  std::mutex mutex_;                     // of what follows
  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, std::shared_ptr<Sequence>> sequences_;
  std::unordered_map<std::uint64_t, std::shared_ptr<RowPool>> pools_;
};

template <typename Call>
auto Runtime::closing_if_lost(Call&& call) {
  check_open();
  const std::int64_t number = ++calls_;
  try {
    return call(number);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::device_lost) throw;
    closed_.store(true, std::memory_order_relaxed);
    fail(ErrorCode::device_lost, "call ", number, " of this runtime: ", error.what());
  }
}

}  // namespace tandem
