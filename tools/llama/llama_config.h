#pragma once

#include <filesystem>

#include "tools/llama/llama.h"

namespace tandem::llama {

/// Reads a Hugging Face config.json. Throws Error(io) for missing or impossible fields and Error(unsupported) for what
/// this decoder has no code for (another model_type or activation, scaled RoPE, biases), naming file and field.
LlamaConfig load_config(const std::filesystem::path& path);

}  // namespace tandem::llama
