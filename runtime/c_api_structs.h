#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime/base/error.h"
#include "tandem/tandem.h"

namespace tandem {

// Structs and pointers as they come through the C ABI.

template <typename T>
T* not_null(const char* name, T* pointer) {
  TANDEM_CHECK(pointer != nullptr, invalid_argument, name, " is NULL");
  return pointer;
}

/// No struct of any version is larger: a size beyond this was never set, and the memory there is not ours to read.
constexpr std::size_t kLargestStruct = 4096;

inline void check_reserved(const char* name, const char* field, std::int32_t value) {
  TANDEM_CHECK(value == 0, invalid_argument, name, ".", field, " is ", value, "; it must be 0");
}

/// The caller's struct as this version knows it: fields beyond the caller's size are zero, those beyond ours must be,
/// and those that are reserved, so that a later version may give them a meaning.
template <typename Struct>
Struct read_struct(const char* name, const Struct* given) {
  not_null(name, given);
  const auto size = static_cast<std::size_t>(given->size);
  TANDEM_CHECK(size >= sizeof(given->size) && size <= kLargestStruct, invalid_argument, name, ".size is ", size,
               "; set it with TD_INIT (this version: ", sizeof(Struct), ")");
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(Struct); i < size; ++i) {
    TANDEM_CHECK(bytes[i] == 0, unsupported, name, " uses a field that this version (", td_version(),
                 ") does not know");
  }
  Struct known{};
  std::memcpy(&known, given, std::min(size, sizeof(Struct)));
  if constexpr (requires { known.reserved; }) check_reserved(name, "reserved", known.reserved);
  if constexpr (requires { known.reserved2; }) check_reserved(name, "reserved2", known.reserved2);
  if constexpr (requires { known.reserved3; }) check_reserved(name, "reserved3", known.reserved3);
  return known;
}

/// Writes as much of `value` as the caller's struct holds.
template <typename Struct>
void write_struct(const Struct& value, Struct* target) {
  const std::uint32_t size = target->size;
  std::memcpy(target, &value, std::min<std::size_t>(size, sizeof(Struct)));
  target->size = size;
}

}  // namespace tandem
