// What the files compiled per ISA export, for isa_kernels.cpp to join into one table; no include guard.
#include "cpu/kernels.h"

// TANDEM_ROWS_ISA is the instruction set whose kernels of rows and tables this one uses: itself, or a lesser one.
namespace tandem::cpu::TANDEM_ROWS_ISA {

extern const ByRowFormat<Kernels::ScoresFn> scores_of_format;
extern const ByRowFormat<Kernels::AccumulateFn> accumulate_of_format;
extern const ByRowFormat<Kernels::ToNaturalOrderFn> to_natural_order_of_format;
extern const SimHashKernels simhash_kernels;
extern const ByCodecKind codec_kernels;

}  // namespace tandem::cpu::TANDEM_ROWS_ISA

namespace tandem::cpu::TANDEM_ISA {

extern const SketchKernels sketch_kernels;
extern const Kernels kernels;

}  // namespace tandem::cpu::TANDEM_ISA
