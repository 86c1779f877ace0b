// Compiled once per instruction set; see isa_kernels.cpp.
// clang-format off
#include "cpu/isa_tables.inl"
#include "cpu/simd.inl"
#include "cpu/row_formats.inl"
#include "cpu/attention_rows.inl"
#include "cpu/score_kernels.inl"
// clang-format on

namespace tandem::cpu::TANDEM_ISA {

constinit const Kernels::ScoresFn scores_of_format[kNumRowFormats] = {&scores<Element::f32>, &scores<Element::f16>,
                                                                      &scores<Element::bf16>, &scores<Element::int8>,
                                                                      &scores<Element::int8>};

}  // namespace tandem::cpu::TANDEM_ISA
