// What the files compiled per ISA export, for isa_kernels.cpp to join into one table; no include guard.
#include "cpu/kernels.h"

namespace tandem::cpu::TANDEM_ISA {

extern const Kernels::ScoresFn scores_of_format[kNumRowFormats];
extern const Kernels::AccumulateFn accumulate_of_format[kNumRowFormats];
extern const Kernels::ToNaturalOrderFn to_natural_order_of_format[kNumRowFormats];
extern const SimHashKernels simhash_kernels;
extern const SketchKernels sketch_kernels;
extern const Kernels kernels;

}  // namespace tandem::cpu::TANDEM_ISA
