#include "tools/ggml/cpu_conversions.h"

#include <string>
#include <vector>

#include <dlfcn.h>
#include <link.h>

#include "tools/ggml/log.h"

namespace tandem::ggml {
namespace {

using TraitsOf = decltype(&ggml_get_type_traits_cpu);

int add_name(dl_phdr_info* info, std::size_t /*size*/, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(info->dlpi_name);
  return 0;
}

/// Backends are loaded with RTLD_LOCAL, so that no search of global symbols would find them: every library of the
/// process is asked. They are listed before any is opened, which dl_iterate_phdr does not allow meanwhile.
TraitsOf find_traits() {
  std::vector<std::string> names;
  dl_iterate_phdr(&add_name, &names);
  for (const std::string& name : names) {
    void* library = dlopen(name.empty() ? nullptr : name.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) continue;
    void* traits = dlsym(library, "ggml_get_type_traits_cpu");
    dlclose(library);  // takes back the reference that dlopen added
    if (traits != nullptr) return reinterpret_cast<TraitsOf>(traits);
  }
  return nullptr;
}

}  // namespace

std::optional<CpuConversions> cpu_conversions(ggml_type type) {
  static const TraitsOf traits_of = [] {
    const TraitsOf found = find_traits();
    if (found == nullptr)
      log(LogLevel::error, "no CPU backend with ggml_get_type_traits_cpu is loaded; attention stays where it is");
    return found;
  }();
  if (traits_of == nullptr) return std::nullopt;
  const ggml_type_traits_cpu& row = *traits_of(type);
  const ggml_type factor_type = row.vec_dot_type;
  const CpuConversions found{row.from_float, factor_type, traits_of(factor_type)->from_float,
                             ggml_get_type_traits(factor_type)->to_float};
  if (found.to_type == nullptr || found.to_factor == nullptr) return std::nullopt;
  if (found.factor_to_float == nullptr && factor_type != GGML_TYPE_F32) return std::nullopt;
  return found;
}

}  // namespace tandem::ggml
