#include "tools/tandem/split_case.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "cpu/row_layout.h"
#include "lsh/cost_profile.h"
#include "lsh/sketch_sampling.h"
#include "runtime/codec_json.h"
#include "tools/tandem/codec_text.h"
#include "tools/tandem/options.h"
#include "tools/tandem/selector_text.h"

namespace tandem::cli {
namespace {

/// Of rows that the window holds as they are.
std::string window_dtype_of(const Split& split) {
  return split.host_dtype == "int8" || split.host_dtype == "k8v4" ? "bf16" : split.host_dtype;
}

std::string window_work(const Split& split) {
  return "window_row." + (split.codec == "none" ? window_dtype_of(split) : split.codec);
}

/// The work of selecting, by name: per selection, per host row, and per gathered row. Whatever differs by more than the
/// number of rows has names, and costs, of its own.
struct SelectionWork {
  std::string once, row, gathered_row;
};

SelectionWork selection_work(const Split& split) {
  const td_selector selector = selector_of(split);
  const std::string gathered_row = "gathered_row." + split.host_dtype;
  if (selector.kind == TD_SELECT_TOP_K) return {"selection.topk", "scored_row.topk", gathered_row};
  const std::string name = describe(selector);
  if (!is_sketch(selector)) return {"selection." + name, "scored_row." + name, gathered_row};
  // A pilot comes first, and heads whose error nobody can estimate attend to every row.
  if (selector.error > 0) return {"selection." + name, "scanned_row." + name, gathered_row + "." + name};
  return {"selection", fmt::format("scanned_row.{}bit", selector.sketch_bits), gathered_row};
}

/// What the built-in profile expects of the same, in nanoseconds of one worker for the reference shape's rows.
struct SelectionNs {
  double once, row;
};

SelectionNs expected_ns(const td_selector& selector, const lsh::CostProfile& profile, double group) {
  if (selector.kind == TD_SELECT_TOP_K) return {profile.selection_ns, profile.scored_row_ns};
  if (selector.kind == TD_SELECT_LSH) {
    constexpr int kBits = 10, kTables = 150;  // td_selector's defaults
    const double lists = (selector.lsh_tables > 0 ? selector.lsh_tables : kTables) * group;
    const double found = std::pow(profile.lsh_bit_agreement, selector.lsh_bits > 0 ? selector.lsh_bits : kBits);
    return {profile.selection_ns + profile.table_read_ns * lists,
            profile.table_row_ns + profile.table_id_ns * lists * found};
  }
  return {profile.selection_ns, selector.sketch_bits == 1 ? profile.scanned_row_1bit_ns : profile.scanned_row_2bit_ns};
}

}  // namespace

td_selector selector_of(const Split& split) {
  auto selector = td::make<td_selector>();
  selector.budget = 0.02;
  read_selector("--selectors", parse_selector("--selectors", split.selector), selector);
  return selector;
}

bool is_sketch(const td_selector& selector) noexcept {
  return selector.kind == TD_SELECT_SKETCH || selector.kind == TD_SELECT_SKETCH_TOP_K;
}

bool reads_all(const Split& split) { return selector_of(split).kind == TD_SELECT_ALL; }

bool gathers_by_data(const td_selector& selector) noexcept {
  return selector.kind == TD_SELECT_LSH || (is_sketch(selector) && selector.error > 0);
}

std::string name_of(const Split& split) {
  std::string name = split.selector;
  if (split.host_dtype != "bf16") name += ", " + split.host_dtype;
  name += fmt::format(", window {}", split.local);
  if (split.codec != "none") name += " " + split.codec;
  return name + fmt::format(", {} {}", split.threads, split.threads == 1 ? "thread" : "threads");
}

std::int64_t row_bytes(const std::string& host_dtype, const SplitShape& shape) {
  const auto whole = resolved({1, 1, 1, shape.head_dim, shape.head_dim, 0.f, 0.f});
  return cpu::RowLayout::of(whole, parse_row_format("--host-dtypes", host_dtype)).kv_bytes;
}

Json config_of(const Split& split, const SplitShape& shape, std::int32_t layers) {
  Json config = {{"num_layers", layers},
                 {"num_q_heads", shape.num_q_heads},
                 {"num_kv_heads", shape.num_kv_heads},
                 {"head_dim_k", shape.head_dim},
                 {"head_dim_v", shape.head_dim},
                 {"sink_tokens", split.sinks},
                 {"local_tokens", split.local},
                 {"window_dtype", window_dtype_of(split)},
                 {"host_dtype", split.host_dtype},
                 {"device", split.device},
                 {"num_threads", split.threads},
                 {"selector", to_json(selector_of(split))},
                 {"never_slower", false}};
  if (shape.scale > 0) config["scale"] = shape.scale;
  if (split.codec != "none")
    config["window_codec"] = codec_to_json<Json>(parse_codec("--window-codecs", split.codec, "").get());
  return config;
}

SplitRows rows_of(const SplitCase& at, double gathered_share) {
  constexpr double kHalfPage = 32;  // by which a window exceeds its local tokens, on average
  const auto tokens = static_cast<double>(at.tokens);
  SplitRows rows;
  rows.window = std::min(tokens, at.split.sinks + at.split.local + kHalfPage);
  rows.host = tokens - rows.window;
  const td_selector selector = selector_of(at.split);
  if (selector.kind == TD_SELECT_ALL) return rows;
  const double share = gathered_share >= 0 ? gathered_share : selector.budget;
  const double fewest = is_sketch(selector) ? static_cast<double>(lsh::kFewestDrawn) : 1;
  rows.gathered = std::min(rows.host, std::max(fewest, share * rows.host));
  return rows;
}

plan::WorkCounts work_of(const SplitCase& at, const SplitShape& shape, const SplitRows& rows) {
  const double heads = static_cast<double>(at.batch) * shape.num_kv_heads;
  plan::WorkCounts work = {{"call", 1}, {"head", heads}, {window_work(at.split), heads * rows.window}};
  if (selector_of(at.split).kind == TD_SELECT_ALL) {
    work.emplace_back("dense_row." + at.split.host_dtype, heads * rows.host);
    return work;
  }
  const SelectionWork selection = selection_work(at.split);
  work.emplace_back(selection.once, heads);
  work.emplace_back(selection.row, heads * rows.host);
  work.emplace_back(selection.gathered_row, heads * rows.gathered);
  return work;
}

plan::WorkCounts expected_costs(const std::vector<Split>& splits, const SplitShape& shape, int threads) {
  constexpr double kCallUs = 20;
  constexpr double kHeadUs = 3;
  const lsh::CostProfile profile;
  constexpr double kGroup = 4;  // of the reference shape
  const double group = static_cast<double>(shape.num_q_heads) / shape.num_kv_heads;
  const double us = 1e-3 / threads;
  const auto size_of = [&shape](const std::string& dtype) {
    return static_cast<double>(row_bytes(dtype, shape)) / 512;
  };
  plan::WorkCounts costs = {{"call", kCallUs}, {"head", kHeadUs / threads}};
  const auto add = [&costs](const std::string& kind, double cost) {
    const auto same = [&kind](const auto& known) { return known.first == kind; };
    if (std::none_of(costs.begin(), costs.end(), same)) costs.emplace_back(kind, cost);
  };
  for (const Split& split : splits) {
    const double size = size_of(split.host_dtype);
    add(window_work(split), profile.dense_row_ns * size_of(window_dtype_of(split)) * us);
    add("dense_row." + split.host_dtype, profile.dense_row_ns * size * us);
    if (reads_all(split)) continue;
    const SelectionWork selection = selection_work(split);
    const SelectionNs ns = expected_ns(selector_of(split), profile, group);
    add(selection.once, ns.once * us);
    add(selection.row, ns.row * group / kGroup * shape.head_dim / 128 * us);
    add(selection.gathered_row, profile.gathered_row_ns * size * us);
  }
  return costs;
}

}  // namespace tandem::cli
