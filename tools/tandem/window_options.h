#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tandem/tandem.hpp"
#include "tools/tandem/cli_fwd.h"
#include "tools/tandem/codec_text.h"
#include "tools/tandem/options.h"
#include "tools/tandem/policy_text.h"

namespace tandem::cli {

/// Options of a subcommand that say how the window is compressed and what stays in it, as they were given.
struct WindowOptions {
  std::string codec = "none";
  std::string calibration = {};
  std::int32_t residual = 0;  ///< 0: the library's default
  std::string policy = "latest";
  std::string host_tier = {};  ///< empty: what the policy needs, else on
  double rope_theta = 0;       ///< 0: the model's, or unknown
  std::string device = "host";
  std::string hand_off = "flag";
  bool graphs = false;
};

/// Which of them a subcommand has, beside --window-codec, --residual, --nuq-calibration, --device and --hand-off.
enum : unsigned { kCodecOnly = 0, kPolicy = 1, kHostTier = 2, kRopeTheta = 4 };

void add_window(CLI::App& app, WindowOptions& options, unsigned which);

/// What the options ask for.
struct WindowChoice {
  OwnedCodec codec{};
  std::int32_t residual = 0;
  PolicyChoice policy{};
  bool host_tier = true;
  double rope_theta = 0;
  std::string device = "host", hand_off = "flag";
  bool graphs = false;

  /// Tokens that may be read at a time: without a host tier, or where attention decides what stays, a query of a larger
  /// chunk would find that its latest tokens have left before it could attend to them.
  [[nodiscard]] std::int64_t chunk_tokens(std::int32_t local_tokens) const noexcept;
};

/// Throws UsageError for what cannot be read, for options without effect and for those that contradict each other.
WindowChoice choose_window(const WindowOptions& options);

/// Puts the choice into `config`, which must not outlive it, nor see it move.
void apply(WindowChoice& choice, td_config& config);

/// Throws UsageError for a model whose `attention` needs a policy of its own, since its keys are those before RoPE:
/// what takes these for finished keys would compute something else without a word.
void refuse_merging(const std::string& model, const td_config& attention);

/// Throws UsageError for options of the host tier, `given` ones or of `tiers`, where there is none.
void refuse_host_options(const WindowChoice& choice, const TierOptions& tiers, const std::vector<std::string>& given);

/// Adds "window_codec", "residual_tokens", "window_policy", "host_tier" and "device" to what tiers_json() says.
void add_to_json(const WindowChoice& choice, Json& tiers);

}  // namespace tandem::cli
