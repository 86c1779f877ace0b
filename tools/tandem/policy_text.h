#pragma once

#include <string>

#include "tandem/tandem.h"
#include "tools/tandem/output.h"

namespace tandem::cli {

/// A window policy, and whether it is one that works only without a host tier.
struct PolicyChoice {
  td_window_policy policy;
  bool without_host = false;

  /// Needs td_attend for every token that is appended: what it keeps depends on attention.
  [[nodiscard]] bool scores_attention() const noexcept;
};

/// How policies are spelled: "latest" (sinks and latest tokens), "streaming" (the same with the sinks right before the
/// latest tokens, no host tier), "h2o:K" (K heavy hitters), "threshold:K,T" (at most K tokens whose score reaches T),
/// "dmc" (decisions in the last elements of q and k).
///
/// Throws UsageError naming `field`, the text and what is allowed.
PolicyChoice parse_policy(const std::string& field, const std::string& text);

/// "latest, streaming, ..": the forms as --help lists them.
std::string policy_forms();

/// {"kind": "heavy_hitters", "kept_tokens": 256}: the fields that the kind has.
Json to_json(const td_window_policy& policy);

}  // namespace tandem::cli
