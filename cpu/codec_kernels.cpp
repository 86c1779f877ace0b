// Compiled once per instruction set; see isa_kernels.cpp.
// clang-format off
#include "cpu/isa_tables.inl"
#include "cpu/codec/block_format.h"
#include "cpu/codec/nuq_layout.h"
#include "cpu/codec/packed_codes.h"
#include "cpu/codec/qjl_layout.h"
#include "cpu/rope_table.h"
#include "cpu/simd.inl"
#include "cpu/row_formats.inl"
#include "cpu/attention_rows.inl"
#include "cpu/score_kernels.inl"
#include "cpu/value_kernels.inl"
#include "cpu/coded_rows.inl"
#include "cpu/nuq_codes.inl"
#include "cpu/nuq_kernels.inl"
#include "cpu/scaled_byte_kernels.inl"
#include "cpu/packed_codes.inl"
#include "cpu/value_group_kernels.inl"
#include "cpu/kivi_kernels.inl"
#include "cpu/qjl_sketches.inl"
#include "cpu/qjl_bit_tables.inl"
#include "cpu/qjl_masked_sums.inl"
#include "cpu/qjl_kernels.inl"
// clang-format on

namespace tandem::cpu::TANDEM_ISA {

// In the order of CodecKind.
constinit const ByCodecKind codec_kernels{{
    {},
    scaled_byte_kernels<Element::int8>,
    scaled_byte_kernels<Element::fp8>,
    {nullptr, &kivi_scores, &value_group_accumulate},
    {&prepare_qjl, &scores_qjl, &value_group_accumulate},
    nuq_kernels,
}};

}  // namespace tandem::cpu::TANDEM_ISA
