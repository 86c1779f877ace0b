#include "gpu/cuda/attention_plan.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "gpu/cuda/codec_launchers.h"
#include "gpu/cuda/launchers.h"
#include "gpu/window_policy/kept_tokens.h"
#include "runtime/base/error.h"

namespace tandem::gpu::cuda {
namespace {

constexpr std::int64_t kFloatAlignment = 16;  // elements: kernels read queries in vectors of four
constexpr std::int64_t kFloatBytes = sizeof(float);
constexpr std::int32_t kOnePage = 30;  // log2 of more slots than there are

/// Where a query's view of a window ends. Entries that it does not see yet are the last ones, and rows.
std::int64_t end_of_visible(const WindowView& window, std::int64_t position) noexcept {
  if (window.visible_from == nullptr) return std::min(window.end, position + 1);
  std::int64_t end = window.end;
  while (end > 0 && window.visible_from[window.slot(end - 1)] > position) --end;
  return end;
}

Queries rule_of(const WindowAttention& task) {
  Queries queries{};
  queries.softcap = task.logits.softcap;
  queries.num_vectors = task.queries.num_vectors();
  queries.group_size = task.queries.group_size;
  return queries;
}

template <typename T>
const T* element(const Upload& upload, std::int64_t array, std::int64_t index) {
  return index < 0 ? nullptr : upload.device<T>(array) + index;
}

template <typename T>
std::int64_t room_for(Upload& upload, const std::vector<T>& values) {
  return upload.add(static_cast<std::int64_t>(values.size() * sizeof(T)));
}

template <typename T>
void write(const Upload& upload, std::int64_t offset, const std::vector<T>& values) {
  if (!values.empty()) std::memcpy(upload.host(offset), values.data(), values.size() * sizeof(T));
}

template <typename T>
std::int64_t size_of(const std::vector<T>& values) {
  return static_cast<std::int64_t>(values.size());
}

}  // namespace

std::int64_t tokens_per_item(std::int64_t least, std::int64_t tokens, std::int64_t vectors) noexcept {
  constexpr std::int64_t kPartials = 512;
  std::int64_t length = least;
  while (length < tokens && (tokens + length - 1) / length * vectors > kPartials) length *= 2;
  return length;
}

void AttentionPlan::clear() {
  row_jobs_.clear();
  coded_jobs_.clear();
  row_items_.clear();
  coded_items_.clear();
  merges_.clear();
  masses_.clear();
  pages_.clear();
  spans_.clear();
  floats_.clear();
  slots_.clear();
  positions_.clear();
  results_.clear();
  format_ = nullptr;
  partial_rows_ = prepared_floats_ = 0;
}

void AttentionPlan::build(const WindowAttention* batch, std::int64_t count, DeviceCodecs& codecs, Upload& upload,
                          Download& download) {
  clear();
  const cpu::RowLayout& layout = batch[0].window.layout;
  padded_k_ = layout.padded_k;
  padded_dim_ = std::max(layout.padded_k, layout.padded_v);
  dim_v_ = layout.dim_v;
  row_type_ = row_type_of(layout.dtype);
  most_vectors_ = 0;
  for (std::int64_t i = 0; i < count; ++i) most_vectors_ = std::max(most_vectors_, batch[i].queries.num_vectors());
  row_vectors_ = row_vectors_per_item(row_type_, padded_dim_, most_vectors_);
  coded_vectors_ = coded_vectors_per_item(most_vectors_);
  for (std::int64_t i = 0; i < count; ++i) add_window(batch[i], codecs, download);
  places_.pages = room_for(upload, pages_);
  places_.spans = room_for(upload, spans_);
  places_.floats = room_for(upload, floats_);
  places_.slots = room_for(upload, slots_);
  places_.positions = room_for(upload, positions_);
  places_.row_jobs = upload.add(size_of(row_jobs_) * static_cast<std::int64_t>(sizeof(RowJob)));
  places_.coded_jobs = upload.add(size_of(coded_jobs_) * static_cast<std::int64_t>(sizeof(CodedJob)));
  places_.row_items = room_for(upload, row_items_);
  places_.coded_items = room_for(upload, coded_items_);
  places_.merges = upload.add(size_of(merges_) * static_cast<std::int64_t>(sizeof(MergeItem)));
  places_.masses = upload.add(size_of(masses_) * static_cast<std::int64_t>(sizeof(MassItem)));
  scratch_bytes_ = (partial_rows_ * (dim_v_ + 1) + prepared_floats_) * kFloatBytes;
}

AttentionPlan::Index AttentionPlan::add_floats(const float* values, std::int64_t count) {
  const Index first = size_of(floats_);
  floats_.insert(floats_.end(), values, values + count);
  floats_.resize(static_cast<std::size_t>((first + count + kFloatAlignment - 1) / kFloatAlignment * kFloatAlignment));
  return first;
}

AttentionPlan::QueryPlaces AttentionPlan::add_queries(const WindowAttention& task) {
  const cpu::QueryBlock& queries = task.queries;
  const QueryPlaces places{add_floats(queries.q, std::int64_t{queries.num_vectors()} * task.window.layout.padded_k),
                           size_of(spans_),
                           task.logits.alibi == nullptr ? kNone : add_floats(task.logits.alibi, queries.group_size)};
  for (int i = 0; i < queries.num_queries; ++i) {
    const std::int64_t position = queries.positions[i];
    spans_.push_back({position, task.logits.first_visible(position), end_of_visible(task.window, position)});
  }
  return places;
}

/// The queries turned back for the sinks.
AttentionPlan::Index AttentionPlan::add_turned(const WindowAttention& task) {
  const cpu::RowLayout& layout = task.window.layout;
  const std::int64_t vectors = task.queries.num_vectors();
  const Index first = add_floats(task.queries.q, vectors * layout.padded_k);
  cpu::rotate(task.rope, layout.dim_k, -task.sink_turn, floats_.data() + first, vectors, layout.padded_k);
  return first;
}

/// The pages of the first `slots` slots.
AttentionPlan::Index AttentionPlan::add_pages(const SlotTable& table, std::int64_t slots, Slots& target) {
  const auto page_slots = static_cast<std::uint64_t>(table.page_slots);
  const std::int64_t pages = (slots + table.page_slots - 1) / table.page_slots;
  target.slot_bytes = table.slot_bytes;
  target.page_shift = pages <= 1 ? kOnePage : std::countr_zero(page_slots);
  const Index first = size_of(pages_);
  pages_.insert(pages_.end(), table.pages, table.pages + pages);
  return first;
}

AttentionPlan::Visible AttentionPlan::visible(const WindowAttention& task, const QueryPlaces& queries) const {
  const auto first = static_cast<std::size_t>(queries.spans);
  return {spans_[first].first, spans_[first + static_cast<std::size_t>(task.queries.num_queries) - 1].end};
}

/// A partial of every vector of the task, `vectors` of them an item, over the tokens [begin, end) of a job.
void AttentionPlan::add_partial(std::vector<WorkItem>& items, const WindowAttention& task, WorkItem item,
                                std::int32_t vectors) {
  for (std::int32_t v = 0; v < task.queries.num_vectors(); v += vectors)
    items.push_back({item.job, v, item.begin, item.end, partial_rows_ + v});
  partial_rows_ += task.queries.num_vectors();
}

void AttentionPlan::add_rows(const WindowAttention& task, const QueryPlaces& queries, bool sinks, bool others) {
  const WindowView& window = task.window;
  const cpu::RowLayout& layout = window.layout;
  RowPlan plan{};
  RowJob& job = plan.job;
  plan.queries = queries;
  plan.pages = add_pages(window.rows, std::min(window.end, window.sinks + window.ring), job.rows);
  plan.kept_pages = plan.kept = kNone;
  job.queries = rule_of(task);
  job.padded_k = layout.padded_k;
  job.padded_v = layout.padded_v;
  job.dim_v = layout.dim_v;
  job.v_offset = static_cast<std::int32_t>(layout.v_offset);
  job.num_sinks = sinks ? static_cast<std::int32_t>(std::min(window.sinks, window.end)) : 0;
  job.ring = static_cast<std::int32_t>(window.ring);
  job.ring_begin = static_cast<std::int32_t>(window.sinks);
  if (others) {
    job.first_recent = std::max(window.raw_begin, window.sinks);
    job.first_recent_slot = static_cast<std::int32_t>((job.first_recent - window.sinks) % window.ring);
    job.num_recent = static_cast<std::int32_t>(std::max<std::int64_t>(0, window.end - job.first_recent));
  }
  if (others && window.kept != nullptr && !window.kept->slots().empty()) {
    const auto slots = window.kept->slots();
    plan.kept = size_of(slots_);
    slots_.insert(slots_.end(), slots.begin(), slots.end());
    for (const std::int32_t slot : slots) positions_.push_back(window.kept->position(slot));
    job.num_kept = static_cast<std::int32_t>(slots.size());
    plan.kept_pages = add_pages(window.kept_rows, *std::max_element(slots.begin(), slots.end()) + 1, job.kept_rows);
  }
  row_jobs_.push_back(plan);
  add_row_items(task, row_jobs_.back());
}

/// Of the rows of the last job: those parts that hold rows which some query sees. They begin at multiples of their
/// length, so that results do not depend on what is visible to others.
void AttentionPlan::add_row_items(const WindowAttention& task, const RowPlan& plan) {
  const RowJob& job = plan.job;
  const Visible seen = visible(task, plan.queries);
  const std::int64_t sinks = job.num_sinks, recents = sinks + job.num_recent, rows = recents + job.num_kept;
  const std::int64_t to_position = job.first_recent - sinks;
  const std::int64_t length = tokens_per_item(kRowsPerItem, rows, task.queries.num_vectors());
  const auto number = static_cast<std::int32_t>(row_jobs_.size() - 1);
  for (std::int64_t begin = 0; begin < rows; begin += length) {
    const std::int64_t end = std::min(rows, begin + length);
    const bool sees_sinks = std::max(begin, seen.first) < std::min({end, sinks, seen.end});
    const bool sees_recents =
        std::max({begin, sinks, seen.first - to_position}) < std::min({end, recents, seen.end - to_position});
    if (sees_sinks || sees_recents || end > recents)
      add_partial(row_items_, task, {number, 0, begin, end, 0}, row_vectors_);
  }
}

void AttentionPlan::add_coded(const WindowAttention& task, const QueryPlaces& queries, DeviceCodecs& codecs) {
  const WindowView& window = task.window;
  const Visible seen = visible(task, queries);
  const std::int64_t begin = std::max(window.local_begin, seen.first), end = std::min(window.raw_begin, seen.end);
  if (begin >= end) return;
  const DeviceCodec& codec = codecs.of(*window.codec);
  format_ = &codec.format;
  CodedPlan plan{};
  CodedJob& job = plan.job;
  plan.queries = queries;
  const std::int64_t blocks = (window.raw_begin - window.sinks) / window.format->block_rows;
  plan.pages = add_pages(window.blocks, std::min(window.ring_blocks, blocks), job.blocks);
  plan.prepared = kNone;
  if (const std::int32_t dim = prepared_dim(codec.format); dim > 0) {
    plan.prepared = prepared_floats_;
    prepared_floats_ += std::int64_t{task.queries.num_vectors()} * dim;
  }
  job.queries = rule_of(task);
  job.format = codec.on_device;
  job.origin = window.sinks;
  job.begin = window.local_begin;
  job.end = window.raw_begin;
  job.ring_blocks = static_cast<std::int32_t>(window.ring_blocks);
  coded_jobs_.push_back(plan);
  // Items begin at multiples of their length, so that results do not depend on what is visible to others.
  const std::int64_t last = end - window.sinks;
  const std::int64_t length =
      tokens_per_item(kCodedPerItem, window.raw_begin - window.local_begin, task.queries.num_vectors());
  const auto number = static_cast<std::int32_t>(coded_jobs_.size() - 1);
  for (std::int64_t first = (begin - window.sinks) / length * length; first < last; first += length) {
    const std::int64_t item_begin = std::max(first, window.local_begin - window.sinks);
    const std::int64_t item_end = std::min(first + length, window.raw_begin - window.sinks);
    add_partial(coded_items_, task, {number, 0, item_begin, item_end, 0}, coded_vectors_);
  }
}

void AttentionPlan::add_window(const WindowAttention& task, DeviceCodecs& codecs, Download& download) {
  const std::int64_t vectors = task.queries.num_vectors();
  const Result result{download.add(vectors * dim_v_ * kFloatBytes), download.add(vectors * kFloatBytes), 0};
  const std::int64_t first_partial = partial_rows_;
  const QueryPlaces queries = add_queries(task);
  add_rows(task, queries, task.sink_turn == 0, true);
  const auto main_job = static_cast<std::int32_t>(row_jobs_.size() - 1);
  if (task.sink_turn != 0) {
    QueryPlaces turned = queries;
    turned.q = add_turned(task);
    add_rows(task, turned, true, false);
  }
  if (task.window.codec != nullptr && task.window.local_begin < task.window.raw_begin) add_coded(task, queries, codecs);
  add_merges(task, queries, first_partial, result);
  results_.push_back(result);
  if (task.mass.raw != nullptr) add_mass(main_job, download);
}

void AttentionPlan::add_merges(const WindowAttention& task, const QueryPlaces& queries, std::int64_t first_partial,
                               const Result& result) {
  const cpu::RowLayout& layout = task.window.layout;
  const auto vectors = task.queries.num_vectors();
  const std::int64_t entry = layout.padded_k + layout.padded_v;
  const Index own =
      task.own_entries == nullptr ? kNone : add_floats(task.own_entries, task.queries.num_queries * entry);
  for (std::int32_t v = 0; v < vectors; ++v) {
    MergePlan merge{};
    merge.item.first_row = first_partial + v;
    merge.item.stride = vectors;
    merge.item.count = static_cast<std::int32_t>((partial_rows_ - first_partial) / vectors);
    merge.item.softcap = task.logits.softcap;
    merge.item.padded_k = layout.padded_k;
    merge.own_query = queries.q + std::int64_t{v} * layout.padded_k;
    merge.own_entry = own == kNone ? kNone : own + v / task.queries.group_size * entry;
    merge.out = result.out + std::int64_t{v} * dim_v_ * kFloatBytes;
    merge.lse = result.lse + v * kFloatBytes;
    merges_.push_back(merge);
  }
}

/// Of all rows of a job but its sinks.
void AttentionPlan::add_mass(std::int32_t job, Download& download) {
  const RowJob& rows = row_jobs_[static_cast<std::size_t>(job)].job;
  const std::int64_t end = std::int64_t{rows.num_sinks} + rows.num_recent + rows.num_kept;
  Result& result = results_.back();
  result.mass = download.add((end - rows.num_sinks) * kFloatBytes);
  for (std::int64_t begin = rows.num_sinks; begin < end; begin += kRowsPerItem)
    masses_.push_back({{job, begin, std::min(end, begin + kRowsPerItem), nullptr, nullptr}, result.lse, result.mass});
}

Queries AttentionPlan::located(Queries queries, const QueryPlaces& places, const Upload& upload) const {
  queries.q = element<float>(upload, places_.floats, places.q);
  queries.spans = element<QuerySpan>(upload, places_.spans, places.spans);
  queries.alibi = element<float>(upload, places_.floats, places.alibi);
  return queries;
}

void AttentionPlan::place(const Upload& upload, const Download& download, std::byte* scratch) {
  partials_ = {reinterpret_cast<float*>(scratch), reinterpret_cast<float*>(scratch) + partial_rows_ * dim_v_};
  float* prepared = partials_.lse + partial_rows_;
  write(upload, places_.pages, pages_);
  write(upload, places_.spans, spans_);
  write(upload, places_.floats, floats_);
  write(upload, places_.slots, slots_);
  write(upload, places_.positions, positions_);
  write(upload, places_.row_items, row_items_);
  write(upload, places_.coded_items, coded_items_);
  std::byte* const* pages = upload.device<std::byte*>(places_.pages);
  auto* row_job = upload.host<RowJob>(places_.row_jobs);
  for (const RowPlan& plan : row_jobs_) {
    *row_job = plan.job;
    row_job->queries = located(plan.job.queries, plan.queries, upload);
    row_job->rows.pages = pages + plan.pages;
    if (plan.kept != kNone) {
      row_job->kept_rows.pages = pages + plan.kept_pages;
      row_job->kept_slots = element<std::int32_t>(upload, places_.slots, plan.kept);
      row_job->kept_positions = element<std::int64_t>(upload, places_.positions, plan.kept);
    }
    ++row_job;
  }
  auto* coded_job = upload.host<CodedJob>(places_.coded_jobs);
  for (const CodedPlan& plan : coded_jobs_) {
    *coded_job = plan.job;
    coded_job->queries = located(plan.job.queries, plan.queries, upload);
    coded_job->blocks.pages = pages + plan.pages;
    coded_job->prepared = plan.prepared == kNone ? nullptr : prepared + plan.prepared;
    ++coded_job;
  }
  auto* merge = upload.host<MergeItem>(places_.merges);
  for (const MergePlan& plan : merges_) {
    *merge = plan.item;
    merge->own_query = element<float>(upload, places_.floats, plan.own_query);
    merge->own_entry = element<float>(upload, places_.floats, plan.own_entry);
    merge->out = download.device<float>(plan.out);
    merge->lse = download.device<float>(plan.lse);
    ++merge;
  }
  auto* mass = upload.host<MassItem>(places_.masses);
  for (const MassPlan& plan : masses_) {
    *mass = plan.item;
    mass->lse = download.device<float>(plan.lse);
    mass->mass = download.device<float>(plan.mass);
    ++mass;
  }
}

void AttentionPlan::add_to(LaunchGraph::Key& key) const {
  const Places& p = places_;
  key.insert(key.end(), {static_cast<std::int64_t>(row_type_),
                         padded_dim_,
                         padded_k_,
                         dim_v_,
                         row_vectors_,
                         most_vectors_,
                         reinterpret_cast<std::intptr_t>(format_),
                         reinterpret_cast<std::intptr_t>(partials_.out),
                         reinterpret_cast<std::intptr_t>(partials_.lse),
                         prepared_floats_,
                         size_of(row_items_),
                         size_of(coded_jobs_),
                         size_of(coded_items_),
                         size_of(merges_),
                         size_of(masses_),
                         p.row_jobs,
                         p.coded_jobs,
                         p.row_items,
                         p.coded_items,
                         p.merges,
                         p.masses});
}

void AttentionPlan::launch(const Upload& upload, cudaStream_t stream) const {
  launch_row_attention(row_type_, padded_dim_, row_vectors_, upload.device<RowJob>(places_.row_jobs),
                       upload.device<WorkItem>(places_.row_items), size_of(row_items_), partials_, stream);
  if (format_ != nullptr) {
    const auto* jobs = upload.device<CodedJob>(places_.coded_jobs);
    if (prepared_floats_ > 0) launch_prepare_queries(*format_, jobs, size_of(coded_jobs_), most_vectors_, stream);
    launch_coded_attention(*format_, coded_vectors_, jobs, upload.device<WorkItem>(places_.coded_items),
                           size_of(coded_items_), partials_, stream);
  }
  launch_merge_partials(upload.device<MergeItem>(places_.merges), size_of(merges_), partials_, dim_v_, stream);
  launch_attention_mass(row_type_, padded_k_, upload.device<RowJob>(places_.row_jobs),
                        upload.device<MassItem>(places_.masses), size_of(masses_), stream);
}

}  // namespace tandem::gpu::cuda
