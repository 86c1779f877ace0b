#include "lsh/sketch_sampling.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "lsh/sketch_proposal.h"

namespace tandem::lsh {
namespace {

constexpr std::int64_t kPieceRows = 4 * kCodePageRows;  // what one worker scans at a time; decides bits
constexpr float kFloorShare = 0.05f;  // of the budget, spread evenly: no row has a vanishing probability
constexpr float kRateMargin = 1.5f;   // candidates per expected row: the pilot's rate is only an estimate
constexpr float kCalibrationBound = 1.5f;

void grow_candidates(std::int64_t rows, std::int64_t group, SketchPiece& piece) {
  const auto wanted = static_cast<std::size_t>(rows);
  if (piece.rows.size() < wanted) {
    piece.rows.resize(wanted);
    piece.shares.resize(wanted);
    piece.uniforms.resize(wanted);
  }
  if (piece.weights.size() < wanted * static_cast<std::size_t>(group)) {
    piece.weights.resize(wanted * static_cast<std::size_t>(group));
  }
  piece.found.rows = piece.rows.data();
  piece.found.shares = piece.shares.data();
  piece.found.uniforms = piece.uniforms.data();
  piece.found.weights = piece.weights.data();
}

/// Scans rows [begin, end), page by page.
void scan_piece(const CodedRows& rows, const SelectRequest& request, const Proposal& proposal,
                const cpu::SketchDraw& rule, std::int64_t begin, std::int64_t end, SketchPiece& piece) {
  const int group = proposal.query().group_size;
  piece.found.count = 0;
  piece.uncertain_weights = {};
  piece.uncertain_share = 0;
  piece.uncertain_rows = 0;
  std::array<float, kMaxGroupSize> weights;
  for (std::int64_t page = begin / kCodePageRows; page * kCodePageRows < end; ++page) {
    cpu::SketchRun run;
    run.blocks = rows.pages[static_cast<std::size_t>(page)].get();
    run.first_row = page * kCodePageRows;
    run.begin = std::max(begin, run.first_row);
    run.end = std::min(end, run.first_row + kCodePageRows);
    if (run.end < request.end) run.next = rows.pages[static_cast<std::size_t>(page + 1)].get();
    grow_candidates(piece.found.count + kCodePageRows, group, piece);
    cpu::SketchSums sums{weights.data()};
    request.kernels.sketch.scan(proposal.query(), proposal.weights(), rule, run, piece.found, sums);
    for (int h = 0; h < group; ++h)
      piece.uncertain_weights[static_cast<std::size_t>(h)] += weights[static_cast<std::size_t>(h)];
    piece.uncertain_share += sums.share;
    piece.uncertain_rows += sums.rows;
  }
}

/// Scans all visible rows, in pieces that idle workers share. Their bounds are the same however many there are, and so
/// are all sums.
std::span<const SketchPiece> scan(const CodedRows& rows, const SelectRequest& request, const Proposal& proposal,
                                  const cpu::SketchDraw& rule, SketchScratch& scratch) {
  const std::int64_t first = request.begin / kPieceRows;
  const auto count = static_cast<std::size_t>((request.end - 1) / kPieceRows + 1 - first);
  if (scratch.pieces.size() < count) scratch.pieces.resize(count);
  request.workers.split(static_cast<std::int64_t>(count), [&](std::int64_t i) {
    const std::int64_t begin = (first + i) * kPieceRows;
    scan_piece(rows, request, proposal, rule, std::max(request.begin, begin), std::min(request.end, begin + kPieceRows),
               scratch.pieces[static_cast<std::size_t>(i)]);
  });
  return {scratch.pieces.data(), count};
}

std::int64_t num_found(std::span<const SketchPiece> pieces) {
  std::int64_t count = 0;
  for (const SketchPiece& piece : pieces) count += piece.found.count;
  return count;
}

/// Room for what steps with about as many candidates need: they should not all bring up memory.
template <typename T>
void make_room(std::int64_t count, std::vector<T>& values) {
  constexpr std::int64_t kStep = 1024;
  values.reserve(static_cast<std::size_t>((count / kStep + 1) * kStep));
}

/// The rate at which the expected number of rows is `budget`: rows that become certain are counted as one each, and
/// take no more, so the rest gets what is left. Each round can only raise the rate, so the certain rows only grow in
/// number.
float solve_rate(std::span<const SketchPiece> pieces, const cpu::SketchDraw& rule, double budget,
                 SketchScratch& scratch) {
  scratch.certain_shares.clear();
  make_room(num_found(pieces), scratch.certain_shares);
  double share = 0;
  std::int64_t uncertain_rows = 0;
  for (const SketchPiece& piece : pieces) {
    share += piece.uncertain_share;
    uncertain_rows += piece.uncertain_rows;
    for (std::int64_t i = 0; i < piece.found.count; ++i) {
      const float each = piece.found.shares[i];
      if (rule.rate * each + rule.floor < 1.f) continue;
      scratch.certain_shares.push_back(each);
      share += each;
    }
  }
  const double all_floors =
      rule.floor * (static_cast<double>(uncertain_rows) + static_cast<double>(scratch.certain_shares.size()));
  double rate = 0;
  for (std::size_t certain = 0, before = 1; certain != before && share > 0;) {
    const double left = budget - static_cast<double>(certain) * (1.0 - rule.floor) - all_floors;
    if (left <= 0) break;
    rate = left / share;
    before = certain;
    const auto first = std::partition(scratch.certain_shares.begin(), scratch.certain_shares.end(),
                                      [&](float each) { return rate * each + rule.floor < 1; });
    for (auto i = first; i != scratch.certain_shares.end(); ++i) share -= *i;
    certain += static_cast<std::size_t>(scratch.certain_shares.end() - first);
    scratch.certain_shares.erase(first, scratch.certain_shares.end());
  }
  return std::min(static_cast<float>(rate), rule.rate);
}

/// Sorts candidates into certain and sampled rows; ln of the factor that makes each head's sampled estimated weights
/// add up to those of all rows that were not certain.
void choose_rows(const SketchParams& params, const SelectRequest& request, std::span<const SketchPiece> pieces,
                 const cpu::SketchDraw& rule, float rate, cpu::Selection& selection) {
  const int group = request.queries.group_size;
  std::array<double, kMaxGroupSize> all{};
  std::array<double, kMaxGroupSize> drawn{};
  make_room(num_found(pieces), selection.rows);
  make_room(num_found(pieces), selection.sampled.rows);
  make_room(num_found(pieces), selection.sampled.inclusion);
  for (const SketchPiece& piece : pieces) {
    for (int h = 0; h < group; ++h)
      all[static_cast<std::size_t>(h)] += piece.uncertain_weights[static_cast<std::size_t>(h)];
    const cpu::SketchCandidates& found = piece.found;
    for (std::int64_t i = 0; i < found.count; ++i) {
      const float* weights = found.weights + i * group;
      const float inclusion = rate * found.shares[i] + rule.floor;
      if (inclusion >= 1.f) {
        selection.rows.push_back(found.rows[i]);
        continue;
      }
      if (rule.rate * found.shares[i] + rule.floor >= 1.f) {  // certain in the scan, so not in its sums
        for (int h = 0; h < group; ++h) all[static_cast<std::size_t>(h)] += weights[h];
      }
      if (found.uniforms[i] >= inclusion) continue;
      selection.sampled.rows.push_back(found.rows[i]);
      selection.sampled.inclusion.push_back(inclusion);
      const float inverse = 1.f / inclusion;
      for (int h = 0; h < group; ++h) drawn[static_cast<std::size_t>(h)] += weights[h] * inverse;
    }
  }
  if (params.unbiased) return;
  for (int h = 0; h < group; ++h) {
    const auto i = static_cast<std::size_t>(h);
    const double ratio = drawn[i] > 0 ? all[i] / drawn[i] : 1.0;
    selection.log_calibration.push_back(
        std::log(std::clamp(static_cast<float>(ratio), 1.f / kCalibrationBound, kCalibrationBound)));
  }
}

/// The `budget` rows with the largest shares, ties to the lowest row. The pilot says from which share on rows are
/// reported; where it misled, more are.
void choose_largest(const CodedRows& rows, const SelectRequest& request, const Proposal& proposal, std::int64_t budget,
                    SketchScratch& scratch, cpu::Selection& selection) {
  cpu::SketchDraw rule;
  rule.rate = proposal.rate_for_certain(kRateMargin * static_cast<float>(budget));
  rule.certain_only = true;
  std::span<const SketchPiece> pieces = scan(rows, request, proposal, rule, scratch);
  while (num_found(pieces) < budget && rule.rate < Proposal::kMostRate) {
    rule.rate *= 8.f;
    pieces = scan(rows, request, proposal, rule, scratch);
  }
  scratch.largest.clear();
  for (const SketchPiece& piece : pieces) {
    for (std::int64_t i = 0; i < piece.found.count; ++i)
      scratch.largest.emplace_back(piece.found.shares[i], piece.found.rows[i]);
  }
  const auto taken = scratch.largest.begin() + std::min(budget, static_cast<std::int64_t>(scratch.largest.size()));
  std::nth_element(scratch.largest.begin(), taken, scratch.largest.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  for (auto i = scratch.largest.begin(); i != taken; ++i) selection.rows.push_back(i->second);
  std::sort(selection.rows.begin(), selection.rows.end());
}

}  // namespace

void draw_sketched_rows(const SketchParams& params, const CodedRows& rows, const SelectRequest& request,
                        std::int64_t budget, std::uint64_t key, SketchScratch& scratch, cpu::Selection& selection) {
  const std::int64_t visible = request.end - request.begin;
  const SketchMap& map = *rows.map;
  const Proposal proposal(rows, request, scratch);
  selection.certified = map.sigma <= kCertifiedSigma && !params.top_k;
  selection.bytes_read += visible * (map.format.code_bytes + 2);
  if (params.top_k) {
    choose_largest(rows, request, proposal, budget, scratch, selection);
    return;
  }
  cpu::SketchDraw rule;
  rule.floor = kFloorShare * static_cast<float>(budget) / static_cast<float>(visible);
  rule.rate = kRateMargin * proposal.rate_for(static_cast<float>(budget), rule.floor);
  rule.key = key;
  const auto pieces = scan(rows, request, proposal, rule, scratch);
  const float rate = solve_rate(pieces, rule, static_cast<double>(budget), scratch);
  choose_rows(params, request, pieces, rule, rate, selection);
  if (!params.unbiased) selection.tail_mean = map.mean_value.data();
}

}  // namespace tandem::lsh
