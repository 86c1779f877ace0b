#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace tandem::cli {

/// A long context, a question about a fact in it, and the answer. The prompt is BOS + context + question.
struct NeedlePrompt {
  std::string id;
  std::string context;
  std::string question;
  std::string answer;
};

/// Reads one JSON object a line ("context", "question", "answer", optional "id"); empty lines are skipped. Throws
/// Error(io) naming the `option` that named the file, or the file, the line and what is wrong with it.
std::vector<NeedlePrompt> load_needles(const std::filesystem::path& path, const std::string& option);

}  // namespace tandem::cli
