#include "cpu/isa.h"

#include <array>
#include <cstdlib>
#include <string>

#include "runtime/base/error.h"

namespace tandem::cpu {
namespace {

constexpr std::array kAll{Isa::scalar, Isa::avx2, Isa::avx512, Isa::avx512vbmi};

bool runs_here(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  switch (isa) {
    case Isa::scalar:
      return true;
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    case Isa::avx512:
      return runs_here(Isa::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    case Isa::avx512vbmi:
      return runs_here(Isa::avx512) && __builtin_cpu_supports("avx512vbmi");
  }
  return false;
#else
  return isa == Isa::scalar;
#endif
}

std::string names_of(const std::vector<Isa>& isas) {
  std::string names;
  for (const Isa isa : isas) names += concat(names.empty() ? "" : ", ", to_string(isa));
  return names;
}

}  // namespace

const char* to_string(Isa isa) noexcept {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512vbmi:
      return "avx512vbmi";
  }
  return "unknown";
}

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : kAll) {
    if (runs_here(isa)) isas.push_back(isa);
  }
  return isas;
}

Isa choose_isa(std::optional<std::string_view> requested) {
  const auto available = available_isas();
  if (!requested) {
    const char* variable = std::getenv("TANDEM_ISA");
    if (variable == nullptr || *variable == '\0') return available.back();
    requested = variable;
  }
  for (const Isa isa : kAll) {
    if (*requested != to_string(isa)) continue;
    for (const Isa here : available) {
      if (here == isa) return isa;
    }
    fail(ErrorCode::unsupported, "isa is '", *requested, "', which this machine does not run; it runs ",
         names_of(available));
  }
  fail(ErrorCode::invalid_argument, "isa is '", *requested, "'; allowed: ", names_of({kAll.begin(), kAll.end()}));
}

}  // namespace tandem::cpu
