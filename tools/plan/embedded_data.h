#pragma once

#include <span>

namespace tandem::plan {

/// A file of tools/data as it was when the program was built.
struct EmbeddedFile {
  const char* folder;  ///< "machines", "models" or "published"
  const char* name;    ///< without ".json"
  const char* text;
};

/// All of them, in the order of folders and names. Written by embed_data.cmake.
std::span<const EmbeddedFile> embedded_data() noexcept;

}  // namespace tandem::plan
