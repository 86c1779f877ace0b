#include "cpu/isa.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <iterator>

#include "runtime/base/error.h"

namespace tandem::cpu {
namespace {

bool anywhere() noexcept { return true; }
#if defined(__x86_64__)
bool has_avx2() noexcept {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool has_avx512() noexcept {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_avx512vbmi() noexcept { return has_avx512() && __builtin_cpu_supports("avx512vbmi"); }
#else
bool has_none() noexcept { return false; }
constexpr auto has_avx2 = has_none, has_avx512 = has_none, has_avx512vbmi = has_none;
#endif

struct KnownIsa {
  Isa isa;
  const char* name;
  bool (*runs_here)() noexcept;
};

/// All of them, in the order of the enumerators.
constexpr KnownIsa kKnown[] = {{Isa::scalar, "scalar", anywhere},
                               {Isa::avx2, "avx2", has_avx2},
                               {Isa::avx512, "avx512", has_avx512},
                               {Isa::avx512vbmi, "avx512vbmi", has_avx512vbmi}};
static_assert([] {
  for (std::size_t i = 0; i < std::size(kKnown); ++i) {
    if (kKnown[i].isa != static_cast<Isa>(i)) return false;
  }
  return true;
}());

std::string joined(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += concat(list.empty() ? "" : ", ", name);
  return list;
}

}  // namespace

const char* to_string(Isa isa) noexcept { return kKnown[static_cast<std::size_t>(isa)].name; }

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const KnownIsa& known : kKnown) names.emplace_back(known.name);
  return names;
}

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (const KnownIsa& known : kKnown) {
    if (known.runs_here()) isas.push_back(known.isa);
  }
  return isas;
}

Isa choose_isa(std::optional<std::string_view> requested) {
  if (!requested) {
    const char* variable = std::getenv("TANDEM_ISA");
    if (variable == nullptr || *variable == '\0') return available_isas().back();
    requested = variable;
  }
  const auto known =
      std::find_if(std::begin(kKnown), std::end(kKnown), [&](const KnownIsa& k) { return *requested == k.name; });
  TANDEM_CHECK(known != std::end(kKnown), invalid_argument, "isa is '", *requested,
               "'; allowed: ", joined(isa_names()));
  if (known->runs_here()) return known->isa;
  std::vector<std::string> here;
  for (const Isa isa : available_isas()) here.emplace_back(to_string(isa));
  fail(ErrorCode::unsupported, "isa is '", *requested, "', which this machine does not run; it runs ", joined(here));
}

}  // namespace tandem::cpu
