#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/dtype.h"
#include "tools/plan/model_shape.h"

namespace tandem::plan {

/// Where K and V lie and which of them a decode step attends to.
enum class Method {
  gpu,         ///< all of it in the GPU's memory
  tandem,      ///< window on the GPU; the host scans codes and gathers rows once per GQA group
  magicpig,    ///< window on the GPU; the host looks up LSH tables and gathers rows per query head
  host_dense,  ///< window on the GPU; the host attends every row
  swap,        ///< all of it in host memory, copied over the link in every step
};
inline constexpr Method kMethods[] = {Method::gpu, Method::tandem, Method::magicpig, Method::host_dense, Method::swap};

const char* to_string(Method method) noexcept;  ///< "gpu", "tandem", "magicpig", "host-dense", "swap"
/// Throws Error(invalid_argument) naming `field`, the value and what is allowed.
Method method_from(const std::string& name, const std::string& field);
/// Whether the host attends rows in it, and whether host memory holds K and V.
constexpr bool attends_on_host(Method m) noexcept { return m != Method::gpu && m != Method::swap; }
constexpr bool keeps_on_host(Method m) noexcept { return m != Method::gpu; }
/// The others run on processors alone, too, which then are the device.
constexpr bool needs_gpu(Method m) noexcept { return m != Method::tandem && m != Method::host_dense; }

/// How the two sides tell each other that something is ready.
enum class HandOff {
  flag,      ///< a number in memory that both see
  callback,  ///< a function that the driver calls
};

/// One decode step: every sequence gets one token.
struct StepSettings {
  Method method = Method::tandem;
  std::int64_t context = 32768;  ///< tokens of each sequence
  int batch = 1;                 ///< sequences
  std::int64_t window = 1028;    ///< tokens on the GPU in layers whose other tokens the host attends
  int dense_layers = 0;          ///< layers whose K and V lie wholly on the GPU, spread evenly
  double budget = 0.02;          ///< share of the host rows that is gathered
  int sketch_bits = 2;           ///< of tandem: per dimension of a code
  int lsh_bits = 10;             ///< of magicpig: K
  int lsh_tables = 150;          ///< of magicpig: L
  HandOff hand_off = HandOff::flag;
  bool ping_pong = false;  ///< two half batches take turns, so that one attends on the host while the other computes
  WeightFormat weights = WeightFormat::bf16;
  DType host_dtype = DType::bf16;  ///< rows of the host: bf16, int8 or k8v4
};

/// Throws Error(invalid_argument) naming the context and what is allowed where the model takes no such.
void validate_context(std::int64_t context, const ModelShape& model);
/// Throws Error(invalid_argument) naming the setting, its value and what is allowed with this model.
void validate(const StepSettings& settings, const ModelShape& model);

/// Whether a layer's K and V lie wholly on the GPU.
bool is_dense(const StepSettings& settings, const ModelShape& model, int layer) noexcept;

}  // namespace tandem::plan
