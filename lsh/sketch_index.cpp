#include "lsh/sketch_index.h"

#include <algorithm>
#include <numeric>

#include "runtime/base/random.h"

namespace tandem::lsh {
namespace {

constexpr std::int64_t kLeastDelay = 1024;  // rows from the start of a calibration to its effect
constexpr std::int64_t kDelayShare = 32;    // of the rows, at least
constexpr std::int64_t kRowsInStep = 128;   // that are left to code when a calibration takes effect

std::int64_t whole_blocks(std::int64_t rows) noexcept {
  return (rows + cpu::kSketchBlockRows - 1) / cpu::kSketchBlockRows * cpu::kSketchBlockRows;
}

/// A truncation may take logged queries away again; a map fitted to a few of them would serve long after.
bool enough(const QueryLog& queries) noexcept { return queries.num_vectors() >= SketchIndex::kFewestObserved; }

/// Rows to which the calibration that follows one on `rows` is fitted, unless drift brings it forward.
std::int64_t grown(std::int64_t rows) noexcept { return whole_blocks(SketchIndex::kGrowth * rows); }

}  // namespace

std::int64_t SketchIndex::effect_at(std::int64_t rows) noexcept {
  return rows + std::max(kLeastDelay, whole_blocks(rows / kDelayShare));
}

bool SketchIndex::lacks_rows_of(const cpu::KvStore& store, const QueryLog& queries) const noexcept {
  if (map() == nullptr) return store.size() >= kFewestRows && enough(queries);
  return size() < store.size();
}

SketchIndex::Extension SketchIndex::prepare(const cpu::Kernels& kernels, const cpu::KvStore& store,
                                            const QueryLog& queries, SketchScratch& scratch) const {
  Extension extension;
  State& next = extension.state;
  next = state_;
  if (next.rows.map == nullptr) {
    next.calibrated = store.size();
    next.rows.map = fit_map(kernels, store, store.size(), params_, queries.halves(), memory_);
    next.drift = DriftProbe(*next.rows.map);
  } else if (memory_.background != nullptr || memory_.calibrates_in_steps) {
    take_due(kernels, store, queries, scratch, next);
  }
  // Rows from size() on are written in place: nobody reads them before commit(), and forks have pages of their own.
  const std::int64_t seen = std::max(next.rows.size, next.rows.map->rows);
  code_rows(kernels, store, store.size(), memory_, scratch, next.rows);
  next.drift.observe(kernels, store, next.rows, seen, queries, scratch);
  if (memory_.background != nullptr) start_due(kernels, store, queries, next);
  return extension;
}

/// Puts the codes in place that take effect at or before store.size().
void SketchIndex::take_due(const cpu::Kernels& kernels, const cpu::KvStore& store, const QueryLog& queries,
                           SketchScratch& scratch, State& next) const {
  std::int64_t due = 0;
  std::int64_t rows = next.pending != nullptr ? next.pending->rows() : grown(next.calibrated);
  for (; effect_at(rows) <= store.size(); rows = grown(rows)) due = rows;
  if (due == 0) return;
  const bool started = next.pending != nullptr && next.pending->rows() == due;
  if (!started && !enough(queries)) return;
  CodedRows fresh = unless_refused([&] {
    CodedRows coded;
    if (started) {
      const CodedRows& result = (next.rest != nullptr ? next.rest : next.pending)->result();
      if (result.map == nullptr) return coded;
      coded = result.cut(result.size, memory_);
    } else {
      coded.map = fit_map(kernels, store, due, params_, queries.halves(), memory_);
    }
    code_rows(kernels, store, store.size(), memory_, scratch, coded);
    return coded;
  });
  next.calibrated = due;
  next.pending = nullptr;
  next.rest = nullptr;
  if (fresh.map == nullptr) return;
  next.rows = std::move(fresh);
  next.drift = DriftProbe(*next.rows.map);
}

/// Starts what has become due by store.size() and takes effect later.
void SketchIndex::start_due(const cpu::Kernels& kernels, const cpu::KvStore& store, const QueryLog& queries,
                            State& next) const {
  if (next.pending == nullptr) {
    if (!enough(queries)) return;
    std::int64_t rows = grown(next.calibrated);
    if (store.size() < rows) {
      if (store.size() < kGrowthAfterDrift * next.calibrated || !next.drift.drifted(*next.rows.map)) return;
      rows = store.size() / cpu::kSketchBlockRows * cpu::kSketchBlockRows;
    }
    next.pending = CodingJob::submit(
        *memory_.background, rows,
        [&kernels, rows, store = store.fork(rows), queries = queries.halves(), params = params_, memory = memory_] {
          CodedRows coded;
          coded.map = fit_map(kernels, store, rows, params, queries, memory);
          SketchScratch scratch;
          code_rows(kernels, store, rows, memory, scratch, coded);
          return coded;
        });
  }
  const std::int64_t rows = effect_at(next.pending->rows()) - kRowsInStep;
  if (next.rest != nullptr || store.size() < rows) return;
  next.rest = CodingJob::submit(*memory_.background, rows,
                                [&kernels, rows, store = store.fork(rows), first = next.pending, memory = memory_] {
                                  const CodedRows& result = first->result();
                                  if (result.map == nullptr) return CodedRows{};
                                  CodedRows coded = result.cut(result.size, memory);
                                  SketchScratch scratch;
                                  code_rows(kernels, store, rows, memory, scratch, coded);
                                  return coded;
                                });
}

SketchIndex SketchIndex::fork(std::int64_t size) const {
  SketchIndex copy(params_, memory_, stream_);
  size = std::min(size, this->size());
  if (size == 0 || map() == nullptr) return copy;  // the next rows are a first build again, with a map of their own
  copy.state_.rows = state_.rows.cut(size, memory_);
  copy.state_.drift = state_.drift;
  copy.state_.calibrated = state_.calibrated;
  if (state_.pending != nullptr && state_.pending->rows() <= size) copy.state_.pending = state_.pending;
  if (state_.rest != nullptr && state_.rest->rows() <= size) copy.state_.rest = state_.rest;
  return copy;
}

void SketchIndex::select(const SelectRequest& request, SketchScratch& scratch, cpu::Selection& selection) const {
  selection.clear();
  const std::int64_t visible = request.end - request.begin;
  const std::int64_t wanted = params_.error > 0 ? pilot_rows(visible) : drawn_rows(params_.budget, visible);
  const std::int64_t budget = request.budget > 0 ? request.budget : wanted;
  const bool known = map() != nullptr && sigma() <= kCertifiedSigma;
  const bool dense = map() == nullptr || (params_.error > 0 && !known);
  // Blocks cut by a mask at both ends would leave nothing for the pilot.
  if (dense || visible <= std::max(budget, 4 * std::int64_t{cpu::kSketchBlockRows})) {
    selection.rows.resize(static_cast<std::size_t>(std::max<std::int64_t>(0, visible)));
    std::iota(selection.rows.begin(), selection.rows.end(), static_cast<std::uint32_t>(request.begin));
    return;
  }
  const auto position = static_cast<std::uint64_t>(request.queries.positions[0]);
  const std::uint64_t key = CounterRandom(params_.seed ^ stream_, position).next();
  draw_sketched_rows(params_, state_.rows, request, budget, key, scratch, selection);
  selection.certified = selection.certified && known;
}

std::int64_t SketchIndex::bytes() const noexcept {
  if (map() == nullptr) return 0;
  return static_cast<std::int64_t>(state_.rows.pages.size()) * state_.rows.page_bytes() + map()->bytes();
}

}  // namespace tandem::lsh
