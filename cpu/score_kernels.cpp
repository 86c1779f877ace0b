// Compiled once per instruction set; see isa_kernels.cpp.
// clang-format off
#include "cpu/isa_tables.inl"
#include "cpu/simd.inl"
#include "cpu/row_formats.inl"
#include "cpu/attention_rows.inl"
#include "cpu/score_kernels.inl"
// clang-format on

namespace tandem::cpu::TANDEM_ISA {

constinit const ByRowFormat<Kernels::ScoresFn> scores_of_format = for_each_format<Kernels::ScoresFn>(
    [](auto format) -> Kernels::ScoresFn { return &scores<elements_of(format.dtype).k>; });

}  // namespace tandem::cpu::TANDEM_ISA
