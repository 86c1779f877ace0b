#pragma once

#include <cstdint>

#include "cpu/selection.h"
#include "lsh/coded_rows.h"
#include "lsh/select_request.h"
#include "lsh/sketch_params.h"
#include "lsh/sketch_scratch.h"

namespace tandem::lsh {

/// Draws about `budget` of the rows [request.begin, request.end). Certain rows go to selection.rows, others with their
/// probabilities to selection.sampled. `key` decides the random numbers; a larger budget with the same key draws a
/// superset. Source: runtime/DESIGN.md; Poisson sampling with probabilities proportional to size (Hajek 1964).
void draw_sketched_rows(const SketchParams& params, const CodedRows& rows, const SelectRequest& request,
                        std::int64_t budget, std::uint64_t key, SketchScratch& scratch, cpu::Selection& selection);

}  // namespace tandem::lsh
