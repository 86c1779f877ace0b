// The kernel table of one instruction set, joined from what its other files export. Compiled once per instruction set
// with -DTANDEM_ISA=..., like codec_kernels.cpp, score_kernels.cpp, value_kernels.cpp, simhash_kernels.cpp and
// sketch_kernels.cpp. The order matters here and there: each file uses the ones above it.
// clang-format off
#include "cpu/isa_tables.inl"
#include "cpu/simd.inl"
#include "cpu/logit_kernels.inl"
// clang-format on

namespace tandem::cpu::TANDEM_ISA {

// Constant: other objects may ask for it while theirs are being initialised.
constinit const Kernels kernels{
    .isa = Isa::TANDEM_ISA,
    .scores = TANDEM_ROWS_ISA::scores_of_format,
    .accumulate = TANDEM_ROWS_ISA::accumulate_of_format,
    .to_natural_order = TANDEM_ROWS_ISA::to_natural_order_of_format,
    .softcap = &softcap,
    .inclusion_log_weights = &inclusion_log_weights,
    .add_probabilities = &add_probabilities,
    .simhash = TANDEM_ROWS_ISA::simhash_kernels,
    .sketch = sketch_kernels,
    .codecs = TANDEM_ROWS_ISA::codec_kernels,
};

}  // namespace tandem::cpu::TANDEM_ISA
