// Compiled once per instruction set with -DTANDEM_ISA=...; exports one symbol, that set's kernel table.
#include "cpu/simd.inl"
// The order matters: each file uses the ones above it.
#include "cpu/attention_kernels.inl"
#include "cpu/simhash_kernels.inl"
#include "cpu/sketch_kernels.inl"

namespace tandem::cpu::TANDEM_ISA {

extern const Kernels kernels;
const Kernels kernels{
    Isa::TANDEM_ISA,
    {&scores<DType::f32>, &scores<DType::f16>, &scores<DType::bf16>},
    {&accumulate<DType::f32>, &accumulate<DType::f16>, &accumulate<DType::bf16>},
    &softcap,
    &collision_log_weights,
    &inclusion_log_weights,
    &sign_bits,
    {&hadamard_bits, &sample_codes, &mark_equal_codes, &find_marked},
    &exp_all,
    sketch_kernels,
};

}  // namespace tandem::cpu::TANDEM_ISA
