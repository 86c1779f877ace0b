#include "runtime/exact_queries.h"

#include "runtime/step_context.h"

namespace tandem {
ExactQueries::ExactQueries(const AttendRequest& request, const lsh::Selector& selector, const QueriedLayer& layer,
                           const Config& config, const Split& split)
    : masks_{0.f, nullptr, request.sliding_window},
      store_(layer.store),
      first_position_(layer.first_position),
      all_(request.use_host && (request.exact || selector.selects_all())),
      none_(!request.use_host || (!all_ && !config.never_slower)),
      cost_(config.profile, selector.params(), store_.layout(), config.shape.group_size()),
      splits_(config.auto_split && !all_ && !none_ && selector.params() == config.selector),
      layer_(request.layer),
      num_layers_(config.shape.num_layers),
      probe_tokens_(splits_ ? split.probe_tokens() : kProbeTokens),
      taken_(layer.split),
      next_(layer.split) {
  const std::int64_t block = TakenSplit::block_of(layer.length - 1);
  if (!splits_ || block <= taken_.block) return;
  figures_ = split.figures();
  const double measured = figures_.selecting_over_dense();
  next_ = {next_quotient(taken_.selecting_over_dense, measured, cost_, config.max_tokens), block};
}

std::int64_t ExactQueries::visible_at(std::int64_t position) const noexcept {
  return visible_rows(store_, first_position_, masks_, position).count();
}

bool ExactQueries::pays_at(std::int64_t position) const noexcept {
  const TakenSplit& decides = TakenSplit::block_of(position) > taken_.block ? next_ : taken_;
  return cost_.pays(visible_at(position), decides.selecting_over_dense);
}

bool ExactQueries::at(std::int64_t position) const noexcept {
  if (all_ || none_) return all_;
  return pays_at(position) == is_probe(position);
}

bool ExactQueries::has_turn(std::int64_t position) const noexcept {
  return position % probe_tokens_ == 0 && position / probe_tokens_ % num_layers_ == layer_;
}

bool ExactQueries::is_probe(std::int64_t position) const noexcept {
  return splits_ && has_turn(position) && visible_at(position) >= kLeastMeasuredRows;
}

bool ExactQueries::is_measured(std::int64_t position) const noexcept {
  return splits_ && (has_turn(position) || has_turn(position + 1)) && visible_at(position) >= kLeastMeasuredRows;
}

std::int64_t ExactQueries::run_from(std::int64_t position, std::int64_t most) const noexcept {
  if (all_ || none_) return most;
  std::int64_t count = 1;
  if (is_measured(position)) return count;
  while (count < most && !is_measured(position + count) && at(position + count) == at(position)) ++count;
  return count;
}

}  // namespace tandem
