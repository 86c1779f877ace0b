// Compiled once per instruction set; see isa_kernels.cpp.
// clang-format off
#include "cpu/isa_tables.inl"
#include "cpu/simd.inl"
#include "cpu/row_formats.inl"
#include "cpu/simd_integers.inl"
#include "cpu/sketch_encoding.inl"
#include "cpu/sketch_luts.inl"
#if defined(__AVX512VBMI__)
#include "cpu/sketch_luts_6bit.inl"
#else
#include "cpu/sketch_luts_4bit.inl"
#endif
#include "cpu/sketch_estimates.inl"
#include "cpu/sketch_scan.inl"
// clang-format on

namespace tandem::cpu::TANDEM_ISA {

constinit const SketchKernels sketch_kernels{
    .centre = for_each_format<SketchKernels::CentreFn>(
        [](auto format) -> SketchKernels::CentreFn { return &centre<elements_of(format.dtype).k>; }),
    .project = &project,
    .encode = &encode,
    .lut_bytes = &lut_bytes,
    .luts = &luts,
    .estimates = &estimates,
    .logits = &logits,
    .moments = &moments,
    .weigh = &weigh,
    .expected_rows = &expected_rows,
    .scan = &scan,
};

}  // namespace tandem::cpu::TANDEM_ISA
