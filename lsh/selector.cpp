#include "lsh/selector.h"

#include <utility>

namespace tandem::lsh {

void validate(const SelectorParams& params) {
  if (const auto* top_k = std::get_if<TopKParams>(&params)) validate(*top_k);
  if (const auto* lsh = std::get_if<LshParams>(&params)) validate(*lsh);
}

Selector::Selector(const SelectorParams& params, int head_dim_k) : params_(params) {
  validate(params);
  if (const auto* lsh = std::get_if<LshParams>(&params)) {
    hash_ = std::make_shared<const cpu::SimHash>(lsh->seed, head_dim_k, hash_params(*lsh));
  }
}

HeadIndex::HeadIndex(const Selector& selector, numa::MemoryLedger& ledger) {
  if (const auto* top_k = std::get_if<TopKParams>(&selector.params())) state_ = *top_k;
  if (const auto* lsh = std::get_if<LshParams>(&selector.params())) state_ = LshTables(*lsh, selector.hash(), ledger);
}

bool HeadIndex::lacks_rows_of(const cpu::KvStore& store) const noexcept {
  const auto* tables = std::get_if<LshTables>(&state_);
  return tables != nullptr && tables->size() < store.size();
}

HeadIndex::Extension HeadIndex::prepare(const cpu::Kernels& kernels, const cpu::KvStore& store,
                                        SelectScratch& scratch) const {
  const auto* tables = std::get_if<LshTables>(&state_);
  return tables == nullptr ? Extension() : tables->prepare(kernels, store, scratch.tables);
}

void HeadIndex::commit(Extension&& extension) noexcept {
  if (auto* tables = std::get_if<LshTables>(&state_)) tables->commit(std::move(extension));
}

HeadIndex HeadIndex::fork(std::int64_t size) const {
  if (const auto* tables = std::get_if<LshTables>(&state_)) return HeadIndex(State(tables->fork(size)));
  if (const auto* top_k = std::get_if<TopKParams>(&state_)) return HeadIndex(State(*top_k));
  return HeadIndex(State(SelectAllParams{}));
}

std::int64_t HeadIndex::bytes() const noexcept {
  const auto* tables = std::get_if<LshTables>(&state_);
  return tables == nullptr ? 0 : tables->bytes();
}

void HeadIndex::select(const SelectRequest& request, SelectScratch& scratch, cpu::Selection& selection) const {
  if (const auto* top_k = std::get_if<TopKParams>(&state_)) select_top_k(*top_k, request, scratch.top_k, selection);
  if (const auto* tables = std::get_if<LshTables>(&state_)) tables->select(request, scratch.tables, selection);
}

}  // namespace tandem::lsh
