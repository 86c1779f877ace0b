#include "lsh/sketch_sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "runtime/base/error.h"

namespace tandem::lsh {
namespace {

constexpr std::int64_t kPieceRows = 4 * kCodePageRows;  // what one worker scans at a time; decides bits
constexpr std::int64_t kPilotStride = 16;       // of the blocks, every 16th tells the scale of estimates and shares
constexpr std::int64_t kMostPilotBlocks = 256;  // as many tell as much of a context of any length
constexpr std::int64_t kPilotAhead = 8;         // blocks on their way from memory
constexpr float kFloorShare = 0.05f;            // of the budget, spread evenly: no row has a vanishing probability
constexpr float kRateMargin = 1.5f;             // candidates per expected row: the pilot's rate is only an estimate
constexpr float kMostRate = 1e30f;              // of a scan for loud rows
constexpr float kLeastShrink = 0.2f;
constexpr float kMostNoise = 2.f;  // nats of estimate noise from which weights are tempered
constexpr float kCalibrationBound = 1.5f;

using PerHead = std::array<float, kMaxGroupSize>;

/// Everything about the group's queries that the scan needs.
struct Proposal {
  PerHead shrinks, offsets, alibi, references, tempers, scales;
  cpu::SketchQuery query;
  cpu::SketchProposal weights;
};

void transform_queries(const SketchMap& map, const SelectRequest& request, SketchScratch& scratch, Proposal& proposal) {
  const int group = request.queries.group_size;
  const int padded_k = request.store.layout().padded_k;
  scratch.queries.prepare(request.kernels.sketch, map, request.queries.q, group, padded_k, map.format.factor_scale);
  proposal.query = scratch.queries.view();
  for (int h = 0; h < group; ++h) {
    const auto i = static_cast<std::size_t>(h);
    const float* q = request.queries.q + std::ptrdiff_t{h} * padded_k;
    // What centring took from every logit. Only a cap can tell.
    proposal.offsets[i] =
        request.logits.softcap > 0.f ? std::inner_product(q, q + padded_k, map.mean.data(), 0.f) : 0.f;
    proposal.alibi[i] = request.logits.alibi == nullptr ? 0.f : request.logits.alibi[h];
    proposal.shrinks[i] = proposal.tempers[i] = 1.f;
    proposal.references[i] = proposal.scales[i] = 0.f;
  }
  proposal.weights = {.shrinks = proposal.shrinks.data(),
                      .offsets = proposal.offsets.data(),
                      .alibi = request.logits.alibi == nullptr ? nullptr : proposal.alibi.data(),
                      .alibi_origin = request.end,
                      .softcap = request.logits.softcap,
                      .references = proposal.references.data(),
                      .tempers = proposal.tempers.data(),
                      .scales = proposal.scales.data()};
}

/// Estimates of every head for blocks at equal distances, (group_size, count), with the blocks' first rows.
struct Pilot {
  int count = 0;  // rows, hidden ones included
  float usable_rows = 0;
  float mean_factor_square = 0;
  std::int64_t first_block = 0;
  std::int64_t stride = 1;
};

const std::byte* block_of(const SketchCodes& codes, std::int64_t block) {
  return codes.pages[static_cast<std::size_t>(block / kCodePageBlocks)].get() +
         block % kCodePageBlocks * codes.map.format.block_bytes();
}

/// Blocks of the pilot lie too far apart for the processor to see what comes next.
void ask_for(const SketchCodes& codes, std::int64_t block) {
  const std::byte* begin = block_of(codes, block);
  for (std::int64_t i = 0; i < codes.map.format.block_bytes(); i += 64) __builtin_prefetch(begin + i);
}

Pilot read_pilot(const SketchCodes& codes, const SelectRequest& request, const Proposal& proposal,
                 SketchScratch& scratch) {
  Pilot pilot;
  pilot.first_block = (request.begin + cpu::kSketchBlockRows - 1) / cpu::kSketchBlockRows;
  const std::int64_t blocks = request.end / cpu::kSketchBlockRows - pilot.first_block;
  pilot.stride = std::max(std::clamp<std::int64_t>(blocks / kPilotStride, 1, kPilotStride), blocks / kMostPilotBlocks);
  const std::int64_t read = (blocks + pilot.stride - 1) / pilot.stride;
  pilot.count = static_cast<int>(read * cpu::kSketchBlockRows);
  const std::int64_t group = proposal.query.group_size;
  scratch.estimates.resize(static_cast<std::size_t>(group * pilot.count));
  scratch.shares.resize(static_cast<std::size_t>(pilot.count));
  float squares = 0;
  for (std::int64_t i = 0; i < std::min(kPilotAhead, read); ++i) ask_for(codes, pilot.first_block + i * pilot.stride);
  for (std::int64_t i = 0; i < read; ++i) {
    if (i + kPilotAhead < read) ask_for(codes, pilot.first_block + (i + kPilotAhead) * pilot.stride);
    squares += request.kernels.sketch.estimates(proposal.query, block_of(codes, pilot.first_block + i * pilot.stride),
                                                scratch.estimates.data() + i * cpu::kSketchBlockRows, pilot.count);
  }
  pilot.mean_factor_square = squares / static_cast<float>(std::max(1, pilot.count));
  return pilot;
}

/// Shrinking, tempering and scale of head h from the pilot; turns its estimates into tempered weights.
void fit_head(const SketchMap& map, const SelectRequest& request, const Pilot& pilot, int h, SketchScratch& scratch,
              Proposal& proposal) {
  const auto i = static_cast<std::size_t>(h);
  const cpu::SketchKernels& kernels = request.kernels.sketch;
  float* values = scratch.estimates.data() + std::ptrdiff_t{h} * pilot.count;
  const cpu::SketchMoments raw = kernels.moments(values, pilot.count);
  const float n = static_cast<float>(std::max(1, raw.count));
  const float mean = raw.sum / n;
  const float variance = std::max(0.f, raw.sum_of_squares / n - mean * mean);
  const float noise = map.noise * scratch.queries.square(h) * pilot.mean_factor_square;
  const float shrink = variance > 0.f ? std::clamp(1.f - noise / variance, kLeastShrink, 1.f) : 1.f;
  proposal.shrinks[i] = shrink;
  proposal.offsets[i] += (1.f - shrink) * mean;
  const float left = std::sqrt(noise * shrink);
  proposal.tempers[i] = left > kMostNoise ? kMostNoise / left : 1.f;
  if (request.logits.alibi == nullptr) {
    kernels.logits(proposal.weights, h, 0, values, pilot.count);
  } else {
    for (int b = 0; b * cpu::kSketchBlockRows < pilot.count; ++b) {
      kernels.logits(proposal.weights, h, (pilot.first_block + b * pilot.stride) * cpu::kSketchBlockRows,
                     values + std::ptrdiff_t{b} * cpu::kSketchBlockRows, cpu::kSketchBlockRows);
    }
  }
  const cpu::SketchMoments logits = kernels.moments(values, pilot.count);
  proposal.references[i] = logits.count > 0 ? logits.max : 0.f;
  const float total = kernels.weigh(values, pilot.count, proposal.tempers[i], proposal.references[i]);
  const auto visible = static_cast<float>(request.end - request.begin);
  const float usable = static_cast<float>(std::max(1, logits.count));
  proposal.scales[i] =
      1.f / (static_cast<float>(proposal.query.group_size) * std::max(total, 1e-30f) * visible / usable);
}

/// Shares of the pilot's rows, from the weights of all heads; returns how many of them `budget` of all rows would be.
float add_up_shares(const SelectRequest& request, const Pilot& pilot, const Proposal& proposal, float budget,
                    SketchScratch& scratch) {
  std::fill(scratch.shares.begin(), scratch.shares.end(), 0.f);
  for (int h = 0; h < proposal.query.group_size; ++h) {
    const float* values = scratch.estimates.data() + std::ptrdiff_t{h} * pilot.count;
    const float scale = proposal.scales[static_cast<std::size_t>(h)];
    for (int i = 0; i < pilot.count; ++i) scratch.shares[static_cast<std::size_t>(i)] += scale * values[i];
  }
  return budget * static_cast<float>(pilot.count) / static_cast<float>(request.end - request.begin);
}

/// The rate at which the pilot's rows would be `budget` of all.
float pilot_rate(const SelectRequest& request, const Pilot& pilot, const Proposal& proposal, float budget, float floor,
                 SketchScratch& scratch) {
  const float wanted = add_up_shares(request, pilot, proposal, budget, scratch);
  const auto expected = [&](float rate) {
    return request.kernels.sketch.expected_rows(scratch.shares.data(), pilot.count, rate, floor);
  };
  // Shares add up to about 1, so `budget` is the rate when no row is certain.
  float low = budget;
  float high = budget;
  for (int i = 0; i < 40 && expected(high) < wanted; ++i) {
    low = high;
    high *= 2.f;
  }
  for (int i = 0; i < 6 && low < high; ++i) {
    const float middle = std::sqrt(low * high);
    (expected(middle) < wanted ? low : high) = middle;
  }
  return high;
}

/// The rate at which as many of the pilot's rows are loud as `budget` of all would be.
float loud_rate(const SelectRequest& request, const Pilot& pilot, const Proposal& proposal, float budget,
                SketchScratch& scratch) {
  const float wanted = add_up_shares(request, pilot, proposal, budget, scratch);
  const auto last = scratch.shares.begin() + std::min(pilot.count - 1, static_cast<int>(wanted));
  std::nth_element(scratch.shares.begin(), last, scratch.shares.begin() + pilot.count, std::greater<>());
  return 1.f / std::max(*last, 1.f / kMostRate);
}

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
void scan_piece(const SketchCodes& codes, const SelectRequest& request, const Proposal& proposal,
                const cpu::SketchDraw& rule, std::int64_t begin, std::int64_t end, SketchPiece& piece) {
  const int group = proposal.query.group_size;
  piece.found.count = 0;
  piece.quiet_weights = {};
  piece.quiet_share = 0;
  piece.quiet_rows = 0;
  PerHead weights;
  for (std::int64_t page = begin / kCodePageRows; page * kCodePageRows < end; ++page) {
    cpu::SketchRun run;
    run.blocks = codes.pages[static_cast<std::size_t>(page)].get();
    run.first_row = page * kCodePageRows;
    run.begin = std::max(begin, run.first_row);
    run.end = std::min(end, run.first_row + kCodePageRows);
    if (run.end < request.end) run.next = codes.pages[static_cast<std::size_t>(page + 1)].get();
    grow_candidates(piece.found.count + kCodePageRows, group, piece);
    cpu::SketchSums sums{weights.data()};
    request.kernels.sketch.scan(proposal.query, proposal.weights, rule, run, piece.found, sums);
    for (int h = 0; h < group; ++h)
      piece.quiet_weights[static_cast<std::size_t>(h)] += weights[static_cast<std::size_t>(h)];
    piece.quiet_share += sums.share;
    piece.quiet_rows += sums.rows;
  }
}

/// Scans all visible rows, in pieces that idle workers share. Their bounds are the same however many there are, and so
/// are all sums.
std::span<const SketchPiece> scan(const SketchCodes& codes, const SelectRequest& request, const Proposal& proposal,
                                  const cpu::SketchDraw& rule, SketchScratch& scratch) {
  const std::int64_t first = request.begin / kPieceRows;
  const auto count = static_cast<std::size_t>((request.end - 1) / kPieceRows + 1 - first);
  if (scratch.pieces.size() < count) scratch.pieces.resize(count);
  request.workers.split(static_cast<std::int64_t>(count), [&](std::int64_t i) {
    const std::int64_t begin = (first + i) * kPieceRows;
    scan_piece(codes, request, proposal, rule, std::max(request.begin, begin),
               std::min(request.end, begin + kPieceRows), scratch.pieces[static_cast<std::size_t>(i)]);
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
  scratch.loud_shares.clear();
  make_room(num_found(pieces), scratch.loud_shares);
  double share = 0;
  std::int64_t quiet_rows = 0;
  for (const SketchPiece& piece : pieces) {
    share += piece.quiet_share;
    quiet_rows += piece.quiet_rows;
    for (std::int64_t i = 0; i < piece.found.count; ++i) {
      const float each = piece.found.shares[i];
      if (rule.rate * each + rule.floor < 1.f) continue;
      scratch.loud_shares.push_back(each);
      share += each;
    }
  }
  const double all_floors =
      rule.floor * (static_cast<double>(quiet_rows) + static_cast<double>(scratch.loud_shares.size()));
  double rate = 0;
  for (std::size_t certain = 0, before = 1; certain != before && share > 0;) {
    const double left = budget - static_cast<double>(certain) * (1.0 - rule.floor) - all_floors;
    if (left <= 0) break;
    rate = left / share;
    before = certain;
    const auto first = std::partition(scratch.loud_shares.begin(), scratch.loud_shares.end(),
                                      [&](float each) { return rate * each + rule.floor < 1; });
    for (auto i = first; i != scratch.loud_shares.end(); ++i) share -= *i;
    certain += static_cast<std::size_t>(scratch.loud_shares.end() - first);
    scratch.loud_shares.erase(first, scratch.loud_shares.end());
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
      all[static_cast<std::size_t>(h)] += piece.quiet_weights[static_cast<std::size_t>(h)];
    const cpu::SketchCandidates& found = piece.found;
    for (std::int64_t i = 0; i < found.count; ++i) {
      const float* weights = found.weights + i * group;
      const float inclusion = rate * found.shares[i] + rule.floor;
      if (inclusion >= 1.f) {
        selection.rows.push_back(found.rows[i]);
        continue;
      }
      if (rule.rate * found.shares[i] + rule.floor >= 1.f) {  // loud in the scan, so not in its sums
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
void choose_largest(const SketchCodes& codes, const SelectRequest& request, const Proposal& proposal, float rate,
                    std::int64_t budget, SketchScratch& scratch, cpu::Selection& selection) {
  cpu::SketchDraw rule;
  rule.rate = rate;
  rule.loud_only = true;
  std::span<const SketchPiece> pieces = scan(codes, request, proposal, rule, scratch);
  while (num_found(pieces) < budget && rule.rate < kMostRate) {
    rule.rate *= 8.f;
    pieces = scan(codes, request, proposal, rule, scratch);
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

void validate(const SketchParams& params) {
  TANDEM_CHECK(params.budget > 0 && params.budget <= 1, invalid_argument, "budget is ", params.budget,
               "; allowed: above 0, up to 1 (a share of the host rows)");
  TANDEM_CHECK(params.error >= 0 && params.error < 1, invalid_argument, "error is ", params.error,
               "; allowed: 0 (spend the budget), or a relative error above 0 and below 1");
  TANDEM_CHECK(params.bits_per_dim >= 0 && params.bits_per_dim <= 2, invalid_argument, "sketch_bits is ",
               params.bits_per_dim, "; allowed: 1, 2, or 0 (1 where that is enough)");
  TANDEM_CHECK(!params.top_k || (params.error == 0 && !params.unbiased), invalid_argument,
               "error and unbiased need a random draw; a top-k selection has no error estimate");
}

std::int64_t drawn_rows(double share, std::int64_t visible) noexcept {
  const auto wanted = static_cast<std::int64_t>(std::ceil(share * static_cast<double>(visible)));
  return std::min(visible, std::max(wanted, kFewestDrawn));
}

std::int64_t pilot_rows(std::int64_t visible) noexcept { return drawn_rows(kPilotShare, visible); }

std::int64_t rows_for_error(std::int64_t visible, double excess) noexcept {
  constexpr double kCaution = 1.3;  // estimates err on both sides
  const double rows = static_cast<double>(pilot_rows(visible)) * std::pow(std::max(1.0, kCaution * excess), 1.5);
  const std::int64_t most = std::max(pilot_rows(visible), drawn_rows(kMostShare, visible));
  return rows < static_cast<double>(most) ? static_cast<std::int64_t>(rows) : visible;
}

void draw_sketched_rows(const SketchParams& params, const SketchCodes& codes, const SelectRequest& request,
                        std::int64_t budget, std::uint64_t key, SketchScratch& scratch, cpu::Selection& selection) {
  const int group = request.queries.group_size;
  const std::int64_t visible = request.end - request.begin;
  Proposal proposal;
  transform_queries(codes.map, request, scratch, proposal);
  const Pilot pilot = read_pilot(codes, request, proposal, scratch);
  for (int h = 0; h < group; ++h) fit_head(codes.map, request, pilot, h, scratch, proposal);

  selection.certified = codes.map.sigma <= kCertifiedSigma && !params.top_k;
  selection.bytes_read += visible * (codes.map.format.code_bytes + 2);
  if (params.top_k) {
    const float rate = loud_rate(request, pilot, proposal, kRateMargin * static_cast<float>(budget), scratch);
    choose_largest(codes, request, proposal, rate, budget, scratch, selection);
    return;
  }
  cpu::SketchDraw rule;
  rule.floor = kFloorShare * static_cast<float>(budget) / static_cast<float>(visible);
  rule.rate = kRateMargin * pilot_rate(request, pilot, proposal, static_cast<float>(budget), rule.floor, scratch);
  rule.key = key;
  const auto pieces = scan(codes, request, proposal, rule, scratch);
  const float rate = solve_rate(pieces, rule, static_cast<double>(budget), scratch);
  choose_rows(params, request, pieces, rule, rate, selection);
  if (!params.unbiased) selection.tail_mean = codes.map.mean_value.data();
}

}  // namespace tandem::lsh
