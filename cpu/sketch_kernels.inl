// The table of the sketch index's kernels; compiled per ISA; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

constexpr SketchKernels sketch_kernels{
    {&centre<DType::f32>, &centre<DType::f16>, &centre<DType::bf16>, &centre<DType::int8>, &centre<DType::k8v4>},
    &project,
    &encode,
    &luts,
    &estimates,
    &logits,
    &moments,
    &weigh,
    &expected_rows,
    &scan,
};

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
