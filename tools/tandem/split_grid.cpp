#include "tools/tandem/split_grid.h"

#include <algorithm>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "numa/topology.h"
#include "runtime/base/error.h"
#include "tools/probes/host_probes.h"

namespace tandem::cli {
namespace {

/// The splits by what they have in common but for the selector, in their order: each group shares a runtime.
std::vector<std::vector<Split>> by_runtime(const std::vector<Split>& splits) {
  std::vector<std::vector<Split>> groups;
  for (const Split& split : splits) {
    const auto group = std::find_if(groups.begin(), groups.end(), [&split](const std::vector<Split>& each) {
      Split like = each.front();
      like.selector = split.selector;
      return like == split;
    });
    if (group == groups.end()) {
      groups.push_back({split});
    } else {
      group->push_back(split);
    }
  }
  return groups;
}

// Of contests that take turns: the fit's take part in each, and need that many steps.
constexpr std::int64_t kMostGroups = 8;

/// One contest that is not built yet.
struct Planned {
  std::int64_t tokens = 0;
  int batch = 1;
  std::vector<Split> splits;
  std::int64_t bytes = 0;  ///< of rows and indexes, about
  bool recorded = false;   ///< over the sweep's trace
};

std::vector<Planned> planned(const SplitSweep& sweep, const SplitGrid& grid, bool recorded) {
  constexpr std::int64_t kIndexBytes = 40;  // of a token and KV head in a sketch, generously
  std::vector<Planned> plan;
  for (const std::int64_t tokens : grid.contexts) {
    for (const int batch : grid.batches) {
      for (const auto& splits : by_runtime(grid.splits)) {
        const std::int64_t per_token =
            row_bytes(splits.front().host_dtype, sweep.shape) + kIndexBytes * std::ssize(splits);
        plan.push_back({tokens, batch, splits, batch * tokens * sweep.shape.num_kv_heads * per_token, recorded});
      }
    }
  }
  return plan;
}

/// The contests of a sweep, as they are built, and the texts that they share.
class Contests {
 public:
  explicit Contests(const SplitSweep& sweep)
      : sweep_(sweep),
        topology_(numa::Topology::detect()),
        wash_{probes::MemoryReader(topology_, sweep.cache_bytes + sweep.cache_bytes / 4), sweep.threads} {}

  [[nodiscard]] std::int64_t free_bytes() const { return probes::available_memory_bytes(topology_); }

  /// Whether there is room for it, about.
  [[nodiscard]] bool has_room(const Planned& plan) const {
    constexpr double kReserve = 1.3;
    const double text =
        plan.recorded || texts_.contains(plan.tokens) ? 0 : static_cast<double>(text_bytes(plan.tokens));
    return kReserve * (static_cast<double>(plan.bytes) + text) < static_cast<double>(free_bytes());
  }
  std::unique_ptr<SplitContest> build(const Planned& plan) {
    const auto text = plan.recorded ? recorded_text() : text_of(plan.tokens);
    Progress progress(fmt::format("{} tokens, batch {}: building", plan.tokens, plan.batch),
                      SplitContest::work(plan.tokens, plan.batch));
    return std::make_unique<SplitContest>(sweep_.shape, sweep_.isa, text, plan.splits, plan.batch, wash_, progress);
  }
  /// Forgets the texts that no contest has.
  void forget_texts() {
    std::erase_if(texts_, [](const auto& text) { return text.second.use_count() == 1; });
  }

 private:
  [[nodiscard]] std::int64_t text_bytes(std::int64_t tokens) const noexcept {
    return tokens * sweep_.shape.num_kv_heads * sweep_.shape.head_dim * 4;
  }
  std::shared_ptr<const SplitText> text_of(std::int64_t tokens) {
    auto& text = texts_[tokens];
    if (text) return text;
    SyntheticShape shape;
    shape.tokens = tokens;
    shape.steps = (sweep_.steps + 1) * kMostGroups;
    shape.num_kv_heads = sweep_.shape.num_kv_heads;
    shape.num_q_heads = sweep_.shape.num_q_heads;
    shape.head_dim = sweep_.shape.head_dim;
    shape.seed = sweep_.seed;
    text = made_up_text(shape, sweep_.exact_steps, sweep_.threads);
    return text;
  }
  std::shared_ptr<const SplitText> recorded_text() {
    if (!recorded_) recorded_ = std::make_shared<const SplitText>(*sweep_.trace, sweep_.steps + 1, sweep_.threads);
    return recorded_;
  }

  const SplitSweep& sweep_;
  const numa::Topology topology_;
  const CacheWash wash_;
  std::map<std::int64_t, std::shared_ptr<const SplitText>> texts_;  // made-up ones by tokens
  std::shared_ptr<const SplitText> recorded_;
};

using Group = std::vector<std::unique_ptr<SplitContest>>;

/// Rounds of all contests in turn.
void take_turns(const SplitSweep& sweep, const Group& fit, const Group& others) {
  std::size_t splits = 0;
  for (const Group* group : {&fit, &others})
    for (const auto& contest : *group) splits += contest->size();
  Progress progress(fmt::format("steps of {} splits in turn", splits),
                    (sweep.steps + 1) * static_cast<std::int64_t>(splits));
  for (std::int64_t step = 0; step <= sweep.steps; ++step)
    for (const Group* group : {&fit, &others})
      for (const auto& contest : *group) contest->round(progress);
}

void add_samples(const Group& group, std::vector<SplitSample>& all) {
  for (const auto& contest : group) {
    const auto samples = contest->samples();
    all.insert(all.end(), samples.begin(), samples.end());
  }
}

/// Builds planned contests from `next` on while there is room; those for which there is none even alone are refused.
Group build_some(Contests& contests, const std::vector<Planned>& plan, std::size_t& next,
                 std::vector<SplitRefusal>& refused) {
  Group group;
  for (; next < plan.size(); ++next) {
    const Planned& each = plan[next];
    const bool has_room = contests.has_room(each);
    if (!has_room && !group.empty()) break;
    std::string why = fmt::format("{} tokens, batch {} take about {} MiB, of which {} are free", each.tokens,
                                  each.batch, each.bytes >> 20, contests.free_bytes() >> 20);
    if (has_room) {
      try {
        group.push_back(contests.build(each));
        continue;
      } catch (const td::Error& error) {
        if (error.status() != TD_ENOMEM) throw;
        why = error.what();
      }
    }
    for (const Split& split : each.splits) refused.push_back({{split, each.tokens, each.batch}, why});
  }
  return group;
}

}  // namespace

SplitMeasurements measure_grids(const SplitSweep& sweep, const SplitGrid& fit, const SplitGrid& asked) {
  Contests contests(sweep);
  SplitMeasurements all;
  std::vector<SplitRefusal> unfit;
  std::size_t next = 0;
  const auto fit_plan = planned(sweep, fit, false);
  const Group fit_group = build_some(contests, fit_plan, next, unfit);
  TANDEM_CHECK(unfit.empty() && next == fit_plan.size(), out_of_memory,
               "--fit-context: there is no memory for all that predictions are made from: ",
               unfit.empty() ? "shorter contexts would fit" : unfit.front().why);
  const auto plan = planned(sweep, asked, sweep.trace != nullptr);
  for (next = 0; next < plan.size();) {
    Group group = build_some(contests, plan, next, all.refused);
    take_turns(sweep, fit_group, group);
    add_samples(group, all.asked);
    group.clear();
    contests.forget_texts();
  }
  add_samples(fit_group, all.fit);
  return all;
}

}  // namespace tandem::cli
