#pragma once

#include "cpu/attention_pass.h"
#include "cpu/selection.h"
#include "runtime/base/partial.h"

namespace tandem::lsh {

/// Joins what was sampled to what is exact: attention over the host tier as a selection estimates it.
///
/// `exact` is the partial over selection.rows and becomes the result; `sampled` is that over selection.sampled, and
/// `spread` its spread, which becomes that of the result. All (group_size, dim_v) and likewise; `sampled` is used up.
/// Tail calibration multiplies the sampled weights by what makes their estimates add up; James-Stein shrinking moves
/// the sampled out towards the mean of V by as much as its own spread exceeds the distance. The spread stays that of
/// the unshrunk estimate, so the error that follows from it errs on the large side. Thread-safe. No errors.
/// Source: ratio estimator (Saerndal et al. 1992, section 5.6); James & Stein 1961, positive part.
void join_sampled(const cpu::Selection& selection, PartialAttention exact, PartialAttention sampled,
                  cpu::SampleSpread spread) noexcept;

/// Adds `part`, attention over other rows of the same list with its own spread, to `whole`. All (group_size, dim_v) and
/// likewise; spreads are nullptr throughout, or nowhere. Exact up to rounding; the order of the parts decides the bits.
void add_part(PartialAttention whole, cpu::SampleSpread whole_spread, ConstPartialAttention part,
              cpu::SampleSpread part_spread) noexcept;

/// Estimated |error of out| of one query vector, given the spread of the part that was estimated (weight, value (dim),
/// square), that part's share of the denominator of `out`, and `out` (dim).
double out_error(float spread_weight, const float* spread_value, float spread_square, double share, const float* out,
                 std::int64_t dim) noexcept;

}  // namespace tandem::lsh
