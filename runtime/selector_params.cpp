#include "runtime/selector_params.h"

#include "runtime/base/error.h"
#include "runtime/selector_json.h"

namespace tandem {
namespace {

lsh::LshParams lsh_params_of(const td_selector& s) {
  lsh::LshParams params;
  if (s.lsh_bits != 0) params.bits_per_table = s.lsh_bits;
  if (s.lsh_tables != 0) params.num_tables = s.lsh_tables;
  if (s.lsh_min_collisions != 0) params.min_collisions = s.lsh_min_collisions;
  if (s.seed != 0) params.seed = s.seed;
  params.planes = static_cast<cpu::HashPlanes>(s.lsh_planes);  // validate() refuses what is none
  return params;
}

lsh::SketchParams sketch_params_of(const td_selector& s) {
  lsh::SketchParams params;
  if (s.budget != 0) params.budget = s.budget;
  params.error = s.error;
  params.bits_per_dim = s.sketch_bits;
  params.top_k = s.kind == TD_SELECT_SKETCH_TOP_K;
  params.unbiased = s.unbiased != 0;
  if (s.seed != 0) params.seed = s.seed;
  return params;
}

struct ToTdSelector {
  td_selector& s;

  void operator()(const lsh::SelectAllParams&) const { s.kind = TD_SELECT_ALL; }
  void operator()(const lsh::TopKParams& p) const {
    s.kind = TD_SELECT_TOP_K;
    s.budget = p.budget;
  }
  void operator()(const lsh::LshParams& p) const {
    s.kind = TD_SELECT_LSH;
    s.lsh_bits = p.bits_per_table;
    s.lsh_tables = p.num_tables;
    s.lsh_min_collisions = p.min_collisions;
    s.lsh_planes = static_cast<std::int32_t>(p.planes);
    s.seed = p.seed;
  }
  void operator()(const lsh::SketchParams& p) const {
    s.kind = p.top_k ? TD_SELECT_SKETCH_TOP_K : TD_SELECT_SKETCH;
    s.budget = p.error > 0 ? 0 : p.budget;
    s.error = p.error;
    s.sketch_bits = p.bits_per_dim;
    s.unbiased = p.unbiased ? 1 : 0;
    s.seed = p.seed;
  }
};

}  // namespace

lsh::SelectorParams params_of(const td_selector& selector) {
  TANDEM_CHECK(selector.kind >= 0 && selector.kind < static_cast<std::int32_t>(kSelectorKinds.size()), invalid_argument,
               "selector.kind is ", selector.kind,
               "; allowed: 0 (all), 1 (top-k), 2 (lsh), 3 (sketch), 4 (sketch top-k)");
  check_amount(selector);
  switch (selector.kind) {
    case TD_SELECT_ALL:
      return lsh::SelectAllParams{};
    case TD_SELECT_TOP_K:
      return lsh::TopKParams{selector.budget};
    case TD_SELECT_LSH:
      return lsh_params_of(selector);
    default:
      return sketch_params_of(selector);
  }
}

td_selector to_td_selector(const lsh::SelectorParams& params) {
  td_selector selector;
  TD_INIT(selector);
  std::visit(ToTdSelector{selector}, params);
  return selector;
}

}  // namespace tandem
