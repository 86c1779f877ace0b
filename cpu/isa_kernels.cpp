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
    {&scores<DType::f32>, &scores<DType::f16>, &scores<DType::bf16>},
    {&accumulate<DType::f32>, &accumulate<DType::f16>, &accumulate<DType::bf16>},
    {&to_natural_order<DType::f32>, &to_natural_order<DType::f16>, &to_natural_order<DType::bf16>},
    &softcap,
    &collision_log_weights,
    &inclusion_log_weights,
    &sign_bits,
    {&hadamard_bits, &sample_codes, &mark_equal_codes, &find_marked},
    &exp_all,
    sketch_kernels,
};

}  // namespace tandem::cpu::TANDEM_ISA
