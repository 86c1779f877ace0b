#pragma once

#include <cstdint>

#include "cpu/kv_store.h"
#include "cpu/logit_rule.h"
#include "lsh/selection_cost.h"
#include "lsh/selector.h"
#include "runtime/config.h"
#include "runtime/requests.h"
#include "runtime/split.h"

namespace tandem {

/// What queries of one layer of a sequence may see, and what it decides by.
struct QueriedLayer {
  const cpu::KvStore& store;    ///< of the head with most rows
  std::int64_t first_position;  ///< of its row 0
  std::int64_t length;          ///< tokens, in window and store
  TakenSplit split;
};

/// Which queries of one sequence attend to every host row that they see, in one layer: by the request and the selector,
/// with Config::never_slower by the cost model, with Config::auto_split by what it is corrected by. Borrows all that it
/// is given.
class ExactQueries {
 public:
  /// `split`: what the runtime has measured; read with Config::auto_split alone, for sequences with the runtime's own
  /// selector.
  ExactQueries(const AttendRequest& request, const lsh::Selector& selector, const QueriedLayer& layer,
               const Config& config, const Split& split);

  [[nodiscard]] bool at(std::int64_t position) const noexcept;
  /// How many of the `most` queries from `position` on are alike; a measured one is alone.
  [[nodiscard]] std::int64_t run_from(std::int64_t position, std::int64_t most) const noexcept;
  /// The query at `position` runs the other way than what is decided.
  [[nodiscard]] bool is_probe(std::int64_t position) const noexcept;
  /// It is a probe, or the query before one.
  [[nodiscard]] bool is_measured(std::int64_t position) const noexcept;

  [[nodiscard]] const lsh::SelectionCost& cost() const noexcept { return cost_; }
  /// What the layer decides by once these queries have attended, and what it was decided on.
  [[nodiscard]] const TakenSplit& next() const noexcept { return next_; }
  [[nodiscard]] const SplitFigures& figures() const noexcept { return figures_; }

 private:
  [[nodiscard]] std::int64_t visible_at(std::int64_t position) const noexcept;
  [[nodiscard]] bool pays_at(std::int64_t position) const noexcept;
  [[nodiscard]] bool has_turn(std::int64_t position) const noexcept;

  cpu::LogitRule masks_;
  const cpu::KvStore& store_;
  std::int64_t first_position_;
  bool all_, none_;
  lsh::SelectionCost cost_;
  bool splits_;
  std::int32_t layer_;
  std::int32_t num_layers_;
  std::int64_t probe_tokens_;
  TakenSplit taken_;
  TakenSplit next_;
  SplitFigures figures_;
};

}  // namespace tandem
