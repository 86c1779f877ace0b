// Compiled once per instruction set; see isa_kernels.cpp.
// clang-format off
#include "cpu/isa_tables.inl"
#include "cpu/simd.inl"
#include "cpu/simhash_kernels.inl"
// clang-format on

namespace tandem::cpu::TANDEM_ISA {

constinit const SimHashKernels simhash_kernels{
    .sign_bits = &sign_bits,
    .hadamard_bits = &hadamard_bits,
    .sample_codes = &sample_codes,
    .mark_equal_codes = &mark_equal_codes,
    .find_marked = &find_marked,
    .collision_log_weights = &collision_log_weights,
};

}  // namespace tandem::cpu::TANDEM_ISA
