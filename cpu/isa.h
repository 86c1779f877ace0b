#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::cpu {

/// Instruction sets with a kernel table of their own, worst first. avx512vbmi (Ice Lake, Zen 4 and later) has the rows'
/// kernels of avx512 and larger lookup tables for sketches.
enum class Isa { scalar, avx2, avx512, avx512vbmi };

const char* to_string(Isa isa) noexcept;

/// The names of all instruction sets, worst first: what choose_isa() knows.
std::vector<std::string> isa_names();

/// Those that this build has and this processor runs, worst first; scalar is always there.
std::vector<Isa> available_isas();

/// `requested` if given, else the TANDEM_ISA environment variable, else the best available. Throws
/// Error(invalid_argument) for an unknown name and Error(unsupported) for one this machine cannot run.
Isa choose_isa(std::optional<std::string_view> requested);

}  // namespace tandem::cpu
