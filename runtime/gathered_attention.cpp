#include "runtime/gathered_attention.h"

#include <algorithm>

#include "cpu/sampled_attention.h"
#include "cpu/sparse_attention.h"
#include "lsh/estimate.h"

namespace tandem {
namespace {

constexpr std::int64_t kPartRows = 1024;  // decides bits

struct Part {
  PartialAttention partial;
  cpu::SampleSpread spread;
};

/// A part's results in `memory`: out and value (rows, dim), then lse, weight and square (rows).
Part part_in(float* memory, std::int64_t rows, std::int64_t dim) noexcept {
  float* value = memory + rows * dim;
  float* lse = value + rows * dim;
  return {{memory, lse, rows, dim}, {lse + rows, value, lse + 2 * rows}};
}

constexpr std::int64_t part_floats(std::int64_t rows, std::int64_t dim) noexcept { return rows * (2 * dim + 3); }

std::int64_t num_parts(const std::vector<std::uint32_t>& rows) noexcept {
  return (static_cast<std::int64_t>(rows.size()) + kPartRows - 1) / kPartRows;
}

cpu::RowRange range_of(std::int64_t part) noexcept { return {part * kPartRows, (part + 1) * kPartRows}; }

void set_zero(cpu::SampleSpread spread, std::int64_t rows, std::int64_t dim) noexcept {
  std::fill_n(spread.weight, rows, 0.f);
  std::fill_n(spread.value, rows * dim, 0.f);
  std::fill_n(spread.square, rows, 0.f);
}

}  // namespace

void gathered_attention(const GatherRequest& request, const cpu::Selection& selection, std::vector<float>& memory,
                        PartialAttention result, cpu::SampleSpread spread) {
  const std::int64_t exact = num_parts(selection.rows);
  const std::int64_t sampled = num_parts(selection.sampled.rows);
  const std::int64_t floats = part_floats(result.rows, result.dim);
  memory.resize(static_cast<std::size_t>((exact + sampled) * floats));
  // The first part of a list is what the others are added to. Where rows were sampled, only they have a spread.
  const auto target = [&](std::int64_t i) {
    Part part = part_in(memory.data() + i * floats, result.rows, result.dim);
    if (i == 0 && exact > 0) part.partial = result;
    if (i == (sampled > 0 ? exact : 0)) part.spread = spread;
    if (sampled > 0 && i < exact) part.spread = {};
    return part;
  };
  request.workers.split(exact + sampled, [&](std::int64_t i) {
    const LeasePool<cpu::AttentionScratch>::Lease scratch(request.scratch);
    const Part part = target(i);
    if (i < exact) {
      cpu::sparse_attention(request.kernels, request.store, request.first_position, selection, request.query,
                            request.logits, *scratch, part.partial, part.spread, range_of(i));
    } else {
      cpu::sampled_attention(request.kernels, request.store, request.first_position, selection.sampled, request.query,
                             request.logits, *scratch, part.partial, part.spread, range_of(i - exact));
    }
  });
  const auto add_up = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin + 1; i < end; ++i) {
      const Part part = target(i);
      lsh::add_part(target(begin).partial, target(begin).spread, as_const(part.partial), part.spread);
    }
  };
  if (exact > 0) {
    add_up(0, exact);
  } else {
    set_empty(result);
  }
  if (exact + sampled == 0) set_zero(spread, result.rows, result.dim);
  if (sampled == 0) return;
  add_up(exact, exact + sampled);
  lsh::join_sampled(selection, result, target(exact).partial, spread);
}

}  // namespace tandem
