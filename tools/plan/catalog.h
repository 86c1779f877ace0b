#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tools/plan/machine.h"
#include "tools/plan/model_shape.h"
#include "tools/plan/published.h"

namespace tandem::plan {

/// Machines, models and published results by name. The program carries a library of them; folders of files of the same
/// form add to it. Immutable after that, and then safe to use from several threads.
class Catalog {
 public:
  /// The files of tools/data as of when the program was built.
  static Catalog built_in();

  /// Reads `folder`/machines/*.json, models/*.json and published/*.json, as far as these folders are there; a file
  /// replaces the one of the same name. Throws Error(io) when there is none of the three, and what the readers throw.
  void add_folder(const std::filesystem::path& folder);

  /// A name of the library or the path of a file (it holds a '/' or ends in ".json"). Throws Error(invalid_argument)
  /// with near names, or else all, for an unknown name, and what load_machine() or load_shape() throws.
  [[nodiscard]] Machine machine(const std::string& name_or_path) const;
  [[nodiscard]] ModelShape model(const std::string& name_or_path) const;

  [[nodiscard]] const std::map<std::string, Machine>& machines() const noexcept { return machines_; }
  [[nodiscard]] const std::map<std::string, ModelShape>& models() const noexcept { return models_; }
  [[nodiscard]] const std::map<std::string, PublishedSeries>& published() const noexcept { return published_; }

 private:
  void add(const std::string& folder, const std::string& name, const Json& object, const std::string& origin);

  std::map<std::string, Machine> machines_;
  std::map<std::string, ModelShape> models_;
  std::map<std::string, PublishedSeries> published_;
};

}  // namespace tandem::plan
