#include "runtime/runtime.h"

#include <algorithm>
#include <utility>

#include "gpu/device_choice.h"
#include "runtime/base/error.h"
#include "runtime/key_coder.h"

namespace tandem {
namespace {

Config checked(Config config) {
  config.shape = resolved(config.shape);
  validate(config);
  return config;
}

numa::Topology topology_of(const Config& config) {
  return config.topology.empty() ? numa::Topology::detect() : numa::Topology::synthetic(config.topology);
}

std::int64_t memory_limit(const Config& config, const numa::Topology& topology) {
  return config.host_memory_bytes > 0 ? config.host_memory_bytes : topology.memory_limit_bytes() / 5 * 4;
}

/// Those of all layers and heads share what does not differ.
std::vector<cpu::BlockCodec> codecs_of(const Config& config) {
  std::vector<cpu::BlockCodec> codecs;
  const bool calibrated = config.window.codec.kind == cpu::CodecKind::nuq;
  for (std::int32_t layer = 0; layer < config.shape.num_layers; ++layer) {
    for (std::int32_t head = 0; head < config.shape.num_kv_heads; ++head) {
      codecs.push_back(codecs.empty() || calibrated
                           ? cpu::BlockCodec(config.window.codec, config.shape, config.rope, layer, head)
                           : codecs.front());
    }
  }
  return codecs;
}

/// The rows of an engine are what they are, and no window holds a copy.
Config config_of_rows(const Config& config) {
  Config rows = config;
  rows.host_dtype = DType::f32;
  rows.window = {};
  rows.window.dtype = config.window.dtype;
  rows.window.sink_tokens = config.window.sink_tokens;
  rows.window.local_tokens = config.window.local_tokens;
  rows.window.stays_empty = true;
  return rows;
}

/// A wanted error below what the rows' format alone costs cannot be met.
void check_wanted_error(const lsh::Selector& selector, DType host_dtype) {
  const double wanted = selector.wanted_error();
  const double least = cpu::typical_error(host_dtype);
  TANDEM_CHECK(wanted == 0 || wanted > least, invalid_argument, "error is ", wanted, "; host_dtype ",
               to_string(host_dtype), " alone is off by about ", least,
               ": allowed are larger errors, or a finer format");
}

}  // namespace

Runtime::Runtime(const Config& config)
    : Runtime(config, [&config](const cpu::Kernels& kernels, const numa::Topology& topology, numa::MemoryLedger& ledger,
                                const gpu::DeviceParams& params) {
        return gpu::make_device(config.device, kernels, topology, ledger, params);
      }) {}

Runtime::Runtime(const Config& config, const MakeDevice& make_device)
    : config_(checked(config)),
      topology_(topology_of(config_)),
      ledger_(memory_limit(config_, topology_)),
      kernels_(cpu::kernels_for(cpu::choose_isa(config_.isa))),
      workers_(topology_, config_.num_workers),
      timeline_(workers_.num_workers()),
      placement_{topology_.num_nodes(), config_.shape.num_kv_heads},
      device_(make_device(kernels_, topology_, ledger_,
                          {std::chrono::milliseconds(config_.device_timeout_ms), config_.hand_off, config_.graphs})),
      key_coder_(key_coder_of(*device_)),
      window_layout_(cpu::RowLayout::of(config_.shape, config_.window.dtype)),
      host_layout_(cpu::RowLayout::of(config_.shape, config_.host_dtype)),
      codecs_(codecs_of(config_)),
      page_pools_(topology_, ledger_),
      selector_(std::make_shared<const lsh::Selector>(config_.selector, config_.shape.head_dim_k)),
      rows_config_(config_of_rows(config_)) {
  check_wanted_error(*selector_, config_.host_dtype);
  for (const cpu::BlockCodec& codec : codecs_) device_->prepare(window_layout_, &codec);
}

std::int64_t Runtime::crossover_rows() const noexcept {
  const lsh::SelectionCost cost(config_.profile, config_.selector, host_layout_, config_.shape.group_size());
  if (!config_.never_slower) return selector_->selects_all() ? -1 : 0;
  return cost.crossover(config_.max_tokens, split().selecting_over_dense());
}

void Runtime::start_timeline(const std::string& path, std::int64_t max_spans) {
  timeline_.start(path, max_spans);
  try {
    device_->keep_spans(true);
  } catch (const Error&) {
    timeline_.stop(device_->name());
    throw;
  }
}

void Runtime::stop_timeline() {
  try {
    if (timeline_.is_on()) {
      device_->wait(gpu::kWindowStream);
      record_device_spans(*device_, timeline_, Span::Clock::time_point::max(), {});
      device_->keep_spans(false);
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::device_lost) throw;  // the file says what came before
  }
  timeline_.stop(device_->name());
}

lsh::HeadIndex Runtime::empty_index(const lsh::Selector& selector, std::int32_t layer, std::int32_t head, int node) {
  const auto stream = static_cast<std::uint64_t>(layer) * static_cast<std::uint64_t>(config_.shape.num_kv_heads) +
                      static_cast<std::uint64_t>(head);
  return {selector, {&ledger_, &page_pools_, node, &background_, &key_coder_}, stream};
}

std::vector<LayerState> Runtime::empty_layers(std::uint64_t id, const lsh::Selector& selector) {
  std::vector<LayerState> layers;
  for (std::int32_t l = 0; l < config_.shape.num_layers; ++l) {
    std::vector<HeadState> heads;
    for (std::int32_t head = 0; head < config_.shape.num_kv_heads; ++head) {
      const int node = placement_.node_of(l, static_cast<std::int64_t>(id), head);
      const cpu::BlockCodec& codec =
          codecs_[static_cast<std::size_t>(std::int64_t{l} * config_.shape.num_kv_heads + head)];
      heads.push_back({gpu::WindowCache(*device_, window_layout_, config_.window, &codec, node),
                       cpu::KvStore(host_layout_, page_pools_.of(node, host_layout_.page_bytes())),
                       empty_index(selector, l, head, node),
                       lsh::QueryLog(config_.shape.group_size(), host_layout_.padded_k, ledger_),
                       0,
                       {}});
      if (config_.window.merge) heads.back().merged.emplace(*config_.window.merge, config_.rope, window_layout_);
    }
    layers.push_back({std::move(heads)});
  }
  return layers;
}

std::uint64_t Runtime::insert(std::shared_ptr<const lsh::Selector> selector, std::uint64_t id,
                              std::vector<LayerState> layers) {
  auto sequence = std::make_shared<Sequence>(id, std::move(selector), std::move(layers));
  const std::lock_guard lock(mutex_);
  sequences_.emplace(id, std::move(sequence));
  return id;
}

void Runtime::check_open() const {
  TANDEM_CHECK(!closed_.load(std::memory_order_relaxed), invalid_state,
               "the runtime is closed, because its device was lost; sequences can only be destroyed");
}

StepStats Runtime::append(const AppendRequest& request) {
  return closing_if_lost([&](std::int64_t number) { return append_open(request, number); });
}

StepStats Runtime::attend(const AttendRequest& request) {
  return closing_if_lost([&](std::int64_t number) { return attend_open(request, number); });
}

void Runtime::find(std::span<const std::uint64_t> ids, std::vector<std::shared_ptr<Sequence>>& found) {
  found.clear();
  const std::lock_guard lock(mutex_);
  for (const std::uint64_t id : ids) {
    const auto it = sequences_.find(id);
    TANDEM_CHECK(it != sequences_.end(), invalid_state, "sequence ", id, " does not exist or was destroyed");
    found.push_back(it->second);
  }
}

void Runtime::check_layer(std::int32_t layer) const {
  TANDEM_CHECK(layer >= 0 && layer < config_.shape.num_layers, invalid_argument, "layer is ", layer, "; allowed: 0 to ",
               config_.shape.num_layers - 1);
}

std::uint64_t Runtime::create_sequence() {
  std::uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    id = next_id_++;
  }
  return insert(selector_, id, closing_if_lost([&](std::int64_t /*number*/) { return empty_layers(id, *selector_); }));
}

void Runtime::destroy_sequence(std::uint64_t id) {
  std::vector<std::shared_ptr<Sequence>> found;
  find({&id, 1}, found);
  const SequenceLock lock(found);  // refuses while another call uses it
  const std::lock_guard guard(mutex_);
  // Another call may have destroyed it between find() and the lock.
  TANDEM_CHECK(sequences_.erase(id) == 1, invalid_state, "sequence ", id, " does not exist or was destroyed");
}

void Runtime::check_cut(Sequence& sequence, std::int64_t length) const {
  for (std::int32_t l = 0; l < sequence.num_layers(); ++l) {
    for (const HeadState& head : sequence.layer(l).heads) {
      if (head.merged) check_entries(sequence, l, head, length);
    }
  }
  if (config_.host_tier || config_.window.merge) return;
  for (std::int32_t l = 0; l < sequence.num_layers(); ++l) {
    const gpu::WindowCache& window = sequence.layer(l).heads.front().window;
    TANDEM_CHECK(length <= window.sink_tokens() || length >= window.shortest_cut(), invalid_state, "num_tokens is ",
                 length, "; without a host tier, sequence ", sequence.id(), " has lost the tokens ",
                 window.sink_tokens(), " to ", window.shortest_cut() - 1, " of layer ", l, ": allowed are 0 to ",
                 window.sink_tokens(), " and ", window.shortest_cut(), " or more");
  }
}

void Runtime::check_entries(const Sequence& sequence, std::int32_t layer, const HeadState& head,
                            std::int64_t length) const {
  TANDEM_CHECK(head.merged->can_cut(length), invalid_state, "num_tokens is ", length, "; tokens of sequence ",
               sequence.id(), " are merged, and of layer ", layer, " no state is known before ",
               head.merged->shortest_cut(), " but 0");
  if (config_.host_tier) return;
  const std::int64_t entries = head.merged->finalised_at(length);
  TANDEM_CHECK(entries <= head.window.sink_tokens() || entries >= head.window.shortest_cut(), invalid_state,
               "num_tokens is ", length, "; without a host tier, sequence ", sequence.id(),
               " has lost entries of layer ", layer, " that it needs: allowed are 0, and lengths that leave ",
               head.window.shortest_cut(), " or more entries final, of which there would be ", entries);
}

std::uint64_t Runtime::fork_sequence(std::uint64_t id, std::int64_t length,
                                     const std::optional<lsh::SelectorParams>& selector) {
  std::vector<std::shared_ptr<Sequence>> found;
  find({&id, 1}, found);
  const SequenceLock lock(found);
  Sequence& source = lock[0];
  std::int64_t shortest = source.layer(0).length();
  for (std::int32_t l = 1; l < source.num_layers(); ++l) shortest = std::min(shortest, source.layer(l).length());
  if (length == -1) length = shortest;
  TANDEM_CHECK(length >= 0 && length <= shortest, invalid_argument, "num_tokens is ", length, "; allowed: 0 to ",
               shortest, " (the tokens that every layer of sequence ", id, " holds), or -1 for all");
  auto chosen =
      selector ? std::make_shared<const lsh::Selector>(*selector, config_.shape.head_dim_k) : source.shared_selector();
  check_wanted_error(*chosen, config_.host_dtype);
  Sequence::EmptyIndex fresh;
  if (selector) {
    fresh = [&](std::int32_t layer, std::int32_t head, int node) { return empty_index(*chosen, layer, head, node); };
  }
  check_cut(source, length);
  auto layers = closing_if_lost([&](std::int64_t /*number*/) { return source.fork_layers(length, fresh); });
  std::uint64_t copy = 0;
  {
    const std::lock_guard guard(mutex_);
    copy = next_id_++;
  }
  return insert(std::move(chosen), copy, std::move(layers));
}

void Runtime::truncate_sequence(std::uint64_t id, std::int64_t length) {
  std::vector<std::shared_ptr<Sequence>> found;
  find({&id, 1}, found);
  const SequenceLock lock(found);
  Sequence& sequence = lock[0];
  for (std::int32_t l = 0; l < sequence.num_layers(); ++l) {
    TANDEM_CHECK(length >= 0 && length <= sequence.layer(l).length(), invalid_argument, "num_tokens is ", length,
                 "; allowed: 0 to ", sequence.layer(l).length(), ", the length of sequence ", id, " in layer ", l);
  }
  check_cut(sequence, length);
  closing_if_lost([&](std::int64_t /*number*/) { sequence.truncate(length); });
}

SequenceInfo Runtime::query_sequence(std::uint64_t id, std::int32_t layer) {
  check_open();
  check_layer(layer);
  std::vector<std::shared_ptr<Sequence>> found;
  find({&id, 1}, found);
  const SequenceLock lock(found);
  const LayerState& state = lock[0].layer(layer);
  SequenceInfo info;
  info.calibrated_rows = state.heads.front().index.calibrated_rows();
  info.length = state.length();
  for (const HeadState& head : state.heads) {
    const gpu::WindowCache& window = head.window;
    const std::int64_t lost = config_.host_tier ? 0 : window.length() - window.held();
    info.window_entries += window.held() + (head.merged && head.merged->entries() > window.length() ? 1 : 0);
    info.window_rows = std::max(info.window_rows, window.held());
    info.coded_rows = std::max(info.coded_rows, window.left() - window.evicted());
    info.host_rows = std::max(info.host_rows, head.store.size() - static_cast<std::int64_t>(window.kept_rows().size()));
    info.dropped_rows = std::max(info.dropped_rows, lost);
    info.window_bytes += window.bytes();
    info.kv_bytes += head.store.stored() * head.store.layout().kv_bytes;
    info.index_bytes += head.index.bytes();
    info.calibrated_rows = std::min(info.calibrated_rows, head.index.calibrated_rows());
    info.index_us += head.index_us;
  }
  return info;
}

}  // namespace tandem
