// Compiled once per instruction set; see isa_kernels.cpp.
// clang-format off
#include "cpu/isa_tables.inl"
#include "cpu/simd.inl"
#include "cpu/row_formats.inl"
#include "cpu/attention_rows.inl"
#include "cpu/value_kernels.inl"
// clang-format on

namespace tandem::cpu::TANDEM_ISA {

constinit const ByRowFormat<Kernels::AccumulateFn> accumulate_of_format = for_each_format<Kernels::AccumulateFn>(
    [](auto format) -> Kernels::AccumulateFn { return &accumulate<elements_of(format.dtype).v>; });
constinit const ByRowFormat<Kernels::ToNaturalOrderFn> to_natural_order_of_format =
    for_each_format<Kernels::ToNaturalOrderFn>(
        [](auto format) -> Kernels::ToNaturalOrderFn { return &to_natural_order<elements_of(format.dtype).v>; });

}  // namespace tandem::cpu::TANDEM_ISA
