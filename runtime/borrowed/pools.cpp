// Binding and unbinding of pools, and what engines say about their rows.
#include <algorithm>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/borrowed/row_pool.h"
#include "runtime/runtime.h"

namespace tandem {

std::unique_ptr<RowList> Runtime::empty_list(const RowTensors& rows, std::int32_t layer, std::int64_t probes) {
  std::uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    id = next_id_++;
  }
  const auto empty_layer = [&](const RowList::Places& places) {
    LayerState state;
    for (std::int32_t head = 0; head < config_.shape.num_kv_heads; ++head) {
      const int node = placement_.node_of(layer, static_cast<std::int64_t>(id), head);
      // Nobody may read rows after the call, and the device has no copy of them.
      const lsh::IndexMemory memory{&ledger_, &page_pools_, node, nullptr, nullptr, true};
      const auto stream = static_cast<std::uint64_t>(layer) * static_cast<std::uint64_t>(config_.shape.num_kv_heads) +
                          static_cast<std::uint64_t>(head);
      state.heads.push_back({gpu::WindowCache(*device_, window_layout_, rows_config_.window, nullptr, node),
                             cpu::KvStore(rows.layout, {rows.base(head), places, rows_config_.window.sink_tokens}),
                             lsh::HeadIndex(*selector_, memory, stream),
                             lsh::QueryLog(config_.shape.group_size(), rows.layout.padded_k, ledger_),
                             0,
                             {},
                             std::make_unique<BorrowedHead>()});
      state.heads.back().borrowed->probes = probes;
    }
    return state;
  };
  return std::make_unique<RowList>(id, empty_layer, rows_config_.window.local_tokens, ledger_);
}

std::uint64_t Runtime::bind_pool(std::int32_t layer, const KvView& rows, std::int64_t probes) {
  check_open();
  check_layer(layer);
  const RowTensors tensors = RowTensors::of(rows.k, rows.v, config_.shape);
  const std::lock_guard lock(mutex_);
  const std::uint64_t id = next_id_++;
  pools_.emplace(id, std::make_shared<RowPool>(id, layer, tensors, [this, layer, probes](const RowTensors& all) {
                   return empty_list(all, layer, probes);
                 }));
  return id;
}

std::shared_ptr<RowPool> Runtime::find_pool(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  const auto it = pools_.find(id);
  TANDEM_CHECK(it != pools_.end(), invalid_state, "pool ", id, " does not exist or was unbound");
  return it->second;
}

void Runtime::unbind_pool(std::uint64_t id) {
  const std::shared_ptr<RowPool> pool = find_pool(id);
  const RowPoolLock lock(*pool);  // refuses while another call uses it
  const std::lock_guard guard(mutex_);
  pools_.erase(id);
  pool->unbind();
}

void Runtime::rows_written(std::uint64_t id, std::span<const std::int64_t> rows) {
  const std::shared_ptr<RowPool> pool = find_pool(id);
  const RowPoolLock lock(*pool);
  const std::int64_t num_rows = pool->rows().num_rows();
  std::vector<std::int64_t> sorted(rows.begin(), rows.end());
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    TANDEM_CHECK(sorted[i] >= 0 && sorted[i] < num_rows, invalid_argument, "rows[", i, "] is ", sorted[i],
                 "; allowed: 0 to ", num_rows - 1, ", the rows of pool ", id);
  }
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  cpu::RowRuns runs;
  for (const std::int64_t row : sorted) runs.add(row, 1);
  pool->forget(runs);
}

void Runtime::forget_rows(std::uint64_t id) {
  const std::shared_ptr<RowPool> pool = find_pool(id);
  const RowPoolLock lock(*pool);
  pool->forget_all();
}

std::int64_t Runtime::verify_rows(std::uint64_t id) {
  const std::shared_ptr<RowPool> pool = find_pool(id);
  const RowPoolLock lock(*pool);
  return pool->forget_stale();
}

PoolInfo Runtime::query_pool(std::uint64_t id) {
  const std::shared_ptr<RowPool> pool = find_pool(id);
  const RowPoolLock lock(*pool);
  PoolInfo info;
  info.num_lists = static_cast<std::int64_t>(pool->lists().size());
  for (const auto& list : pool->lists()) {
    info.indexed_rows += list->indexed_rows();
    info.index_bytes += list->bytes();
  }
  info.rows_reindexed = pool->rows_forgotten();
  info.rows_found = pool->rows_found();
  return info;
}

}  // namespace tandem
