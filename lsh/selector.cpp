#include "lsh/selector.h"

#include <type_traits>
#include <utility>

namespace tandem::lsh {
namespace {

template <typename T, typename Alternative>
constexpr bool kIs = std::is_same_v<std::remove_cvref_t<T>, Alternative>;

/// States that grow with the store.
template <typename T>
constexpr bool kHoldsRows = kIs<T, LshTables> || kIs<T, SketchIndex>;

TablesScratch& scratch_for(const LshTables&, SelectScratch& scratch) noexcept { return scratch.tables; }
SketchScratch& scratch_for(const SketchIndex&, SelectScratch& scratch) noexcept { return scratch.sketch; }

}  // namespace

void validate(const SelectorParams& params) {
  std::visit(
      [](const auto& p) {
        if constexpr (!kIs<decltype(p), SelectAllParams>) validate(p);
      },
      params);
}

Selector::Selector(const SelectorParams& params, int head_dim_k) : params_(params) {
  validate(params);
  if (const auto* lsh = std::get_if<LshParams>(&params)) {
    hash_ = std::make_shared<const cpu::SimHash>(lsh->seed, head_dim_k, hash_params(*lsh));
  }
}

bool Selector::estimates_error() const noexcept {
  if (const auto* sketch = std::get_if<SketchParams>(&params_)) return !sketch->top_k;
  return !std::holds_alternative<TopKParams>(params_);
}

double Selector::wanted_error() const noexcept {
  const auto* sketch = std::get_if<SketchParams>(&params_);
  return sketch == nullptr ? 0.0 : sketch->error;
}

HeadIndex::HeadIndex(const Selector& selector, const IndexMemory& memory, std::uint64_t stream)
    : state_(std::visit(
          [&](const auto& params) -> State {
            using Params = decltype(params);
            if constexpr (kIs<Params, LshParams>) {
              return LshTables(params, selector.hash(), *memory.ledger);
            } else if constexpr (kIs<Params, SketchParams>) {
              return SketchIndex(params, memory, stream);
            } else {
              return params;
            }
          },
          selector.params())) {}

bool HeadIndex::lacks_rows_of(const cpu::KvStore& store, const QueryLog& queries) const noexcept {
  if (const auto* sketch = std::get_if<SketchIndex>(&state_)) return sketch->lacks_rows_of(store, queries);
  const auto* tables = std::get_if<LshTables>(&state_);
  return tables != nullptr && tables->size() < store.size();
}

HeadIndex::Extension HeadIndex::prepare(const cpu::Kernels& kernels, const cpu::KvStore& store, const QueryLog& queries,
                                        SelectScratch& scratch) const {
  return std::visit(
      [&](const auto& state) -> Extension {
        if constexpr (kIs<decltype(state), SketchIndex>) {
          return state.prepare(kernels, store, queries, scratch.sketch);
        } else if constexpr (kIs<decltype(state), LshTables>) {
          return state.prepare(kernels, store, scratch.tables);
        } else {
          return {};
        }
      },
      state_);
}

void HeadIndex::commit(Extension&& extension) noexcept {
  if (auto* tables = std::get_if<LshTables>(&state_)) {
    tables->commit(std::move(*std::get_if<LshTables::Extension>(&extension)));
  }
  if (auto* sketch = std::get_if<SketchIndex>(&state_)) {
    sketch->commit(std::move(*std::get_if<SketchIndex::Extension>(&extension)));
  }
}

bool HeadIndex::can_select(double wanted_error) const noexcept {
  const auto* sketch = std::get_if<SketchIndex>(&state_);
  if (sketch == nullptr) return true;
  return sketch->map() != nullptr && (wanted_error <= 0 || sketch->sigma() <= kCertifiedSigma);
}

HeadIndex HeadIndex::fork(std::int64_t size) const {
  return HeadIndex(std::visit(
      [&](const auto& state) -> State {
        if constexpr (kHoldsRows<decltype(state)>) {
          return state.fork(size);
        } else {
          return state;
        }
      },
      state_));
}

std::int64_t HeadIndex::bytes() const noexcept {
  return std::visit(
      [](const auto& state) -> std::int64_t {
        if constexpr (kHoldsRows<decltype(state)>) {
          return state.bytes();
        } else {
          return 0;
        }
      },
      state_);
}

std::int64_t HeadIndex::calibrated_rows() const noexcept {
  const auto* sketch = std::get_if<SketchIndex>(&state_);
  return sketch == nullptr || sketch->map() == nullptr ? 0 : sketch->map()->rows;
}

void HeadIndex::select(const SelectRequest& request, SelectScratch& scratch, cpu::Selection& selection) const {
  std::visit(
      [&](const auto& state) {
        if constexpr (kIs<decltype(state), TopKParams>) {
          select_top_k(state, request, scratch.top_k, selection);
        } else if constexpr (kHoldsRows<decltype(state)>) {
          state.select(request, scratch_for(state, scratch), selection);
        }
      },
      state_);
}

}  // namespace tandem::lsh
