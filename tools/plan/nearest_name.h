#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace tandem::plan {

/// Fewest letters to insert, delete or replace that turn one into the other (Levenshtein).
std::size_t edit_distance(const std::string& a, const std::string& b);

/// The up to `most` names that look like `name`, in the order of `names` where equally near: those that begin with it
/// or it with them, then others that differ in at most half of the letters, nearest first. None may.
std::vector<std::string> nearest_names(const std::string& name, std::vector<std::string> names, std::size_t most = 3);

}  // namespace tandem::plan
