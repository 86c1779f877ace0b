#include "lsh/selector.h"

#include <type_traits>
#include <utility>

namespace tandem::lsh {
namespace {

void validate(const SelectAllParams&) {}

AllRows rows_of(const SelectAllParams&, const Selector&, const IndexMemory&, std::uint64_t) { return {}; }
TopKRows rows_of(const TopKParams& params, const Selector&, const IndexMemory&, std::uint64_t) {
  return TopKRows(params);
}
HashedRows rows_of(const LshParams& params, const Selector& selector, const IndexMemory& memory, std::uint64_t) {
  return {LshTables(params, selector.hash(), *memory.ledger, memory.coder)};
}
SketchedRows rows_of(const SketchParams& params, const Selector&, const IndexMemory& memory, std::uint64_t stream) {
  return {SketchIndex(params, memory, stream)};
}

}  // namespace

void validate(const SelectorParams& params) {
  std::visit([](const auto& p) { validate(p); }, params);
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
    : state_(std::visit([&](const auto& params) -> State { return rows_of(params, selector, memory, stream); },
                        selector.params())) {}

bool HeadIndex::lacks_rows_of(const cpu::KvStore& store, const QueryLog& queries) const noexcept {
  return std::visit([&](const auto& state) { return state.lacks_rows_of(store, queries); }, state_);
}

HeadIndex::Extension HeadIndex::prepare(const cpu::Kernels& kernels, const cpu::KvStore& store, const QueryLog& queries,
                                        SelectScratch& scratch) const {
  return std::visit([&](const auto& state) -> Extension { return state.prepare(kernels, store, queries, scratch); },
                    state_);
}

void HeadIndex::commit(Extension&& extension) noexcept {
  std::visit(
      [&](auto& state) {
        using Own = typename std::remove_reference_t<decltype(state)>::Extension;
        state.commit(std::move(*std::get_if<Own>(&extension)));
      },
      state_);
}

bool HeadIndex::can_select(double wanted_error) const noexcept {
  return std::visit([&](const auto& state) { return state.can_select(wanted_error); }, state_);
}

HeadIndex HeadIndex::fork(std::int64_t size) const {
  return HeadIndex(std::visit([&](const auto& state) -> State { return state.fork(size); }, state_));
}

std::int64_t HeadIndex::bytes() const noexcept {
  return std::visit([](const auto& state) { return state.bytes(); }, state_);
}

std::int64_t HeadIndex::calibrated_rows() const noexcept {
  return std::visit([](const auto& state) { return state.calibrated_rows(); }, state_);
}

void HeadIndex::select(const SelectRequest& request, SelectScratch& scratch, cpu::Selection& selection) const {
  std::visit([&](const auto& state) { state.select(request, scratch, selection); }, state_);
}

}  // namespace tandem::lsh
