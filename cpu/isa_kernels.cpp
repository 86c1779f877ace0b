// Compiled once per instruction set with -DTANDEM_ISA=...; exports one symbol, that set's kernel table.
// The order matters: each file uses the ones above it.
// clang-format off
#include "cpu/simd.inl"
#include "cpu/row_formats.inl"
#include "cpu/attention_tiles.inl"
#include "cpu/attention_kernels.inl"
#include "cpu/simhash_kernels.inl"
#include "cpu/sketch_kernels.inl"
// clang-format on

namespace tandem::cpu::TANDEM_ISA {

extern const Kernels kernels;
const Kernels kernels{
    Isa::TANDEM_ISA,
    {&scores<Element::f32>, &scores<Element::f16>, &scores<Element::bf16>, &scores<Element::int8>,
     &scores<Element::int8>},
    {&accumulate<Element::f32>, &accumulate<Element::f16>, &accumulate<Element::bf16>, &accumulate<Element::int8>,
     &accumulate<Element::int4>},
    {&to_natural_order<Element::f32>, &to_natural_order<Element::f16>, &to_natural_order<Element::bf16>,
     &to_natural_order<Element::int8>, &to_natural_order<Element::int4>},
    &softcap,
    &collision_log_weights,
    &inclusion_log_weights,
    &sign_bits,
    {&hadamard_bits, &sample_codes, &mark_equal_codes, &find_marked},
    &exp_all,
    sketch_kernels,
};

}  // namespace tandem::cpu::TANDEM_ISA
