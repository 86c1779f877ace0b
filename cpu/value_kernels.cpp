// Compiled once per instruction set; see isa_kernels.cpp.
// clang-format off
#include "cpu/isa_tables.inl"
#include "cpu/simd.inl"
#include "cpu/row_formats.inl"
#include "cpu/attention_rows.inl"
#include "cpu/value_kernels.inl"
// clang-format on

namespace tandem::cpu::TANDEM_ISA {

constinit const Kernels::AccumulateFn accumulate_of_format[kNumRowFormats] = {
    &accumulate<Element::f32>, &accumulate<Element::f16>, &accumulate<Element::bf16>, &accumulate<Element::int8>,
    &accumulate<Element::int4>};
constinit const Kernels::ToNaturalOrderFn to_natural_order_of_format[kNumRowFormats] = {
    &to_natural_order<Element::f32>, &to_natural_order<Element::f16>, &to_natural_order<Element::bf16>,
    &to_natural_order<Element::int8>, &to_natural_order<Element::int4>};

}  // namespace tandem::cpu::TANDEM_ISA
