#include "tools/plan/step_settings.h"

#include <algorithm>

#include "runtime/base/error.h"

namespace tandem::plan {
namespace {

constexpr const char* kMethodNames[] = {"gpu", "tandem", "magicpig", "host-dense", "swap"};
constexpr int kMostSequences = 65536;

}  // namespace

const char* to_string(Method method) noexcept { return kMethodNames[static_cast<int>(method)]; }

Method method_from(const std::string& name, const std::string& field) {
  const auto* const found = std::find(std::begin(kMethodNames), std::end(kMethodNames), name);
  TANDEM_CHECK(found != std::end(kMethodNames), invalid_argument, field, " is '", name,
               "'; allowed: gpu, tandem, magicpig, host-dense, swap");
  return static_cast<Method>(found - std::begin(kMethodNames));
}

void validate_context(std::int64_t context, const ModelShape& model) {
  TANDEM_CHECK(context >= 1 && context <= model.max_context, invalid_argument, "context is ", context,
               "; allowed: 1 to ", model.max_context, ", the limit of ", model.name);
}

void validate(const StepSettings& s, const ModelShape& model) {
  validate_context(s.context, model);
  TANDEM_CHECK(s.batch >= 1 && s.batch <= kMostSequences, invalid_argument, "batch is ", s.batch, "; allowed: 1 to ",
               kMostSequences);
  TANDEM_CHECK(s.window >= 1, invalid_argument, "window is ", s.window, "; allowed: at least 1");
  TANDEM_CHECK(s.dense_layers >= 0 && s.dense_layers <= model.num_layers, invalid_argument, "dense_layers is ",
               s.dense_layers, "; allowed: 0 to ", model.num_layers, ", the layers of ", model.name);
  TANDEM_CHECK(s.budget > 0 && s.budget <= 1, invalid_argument, "budget is ", s.budget,
               "; allowed: above 0 and at most 1");
  TANDEM_CHECK(s.sketch_bits == 1 || s.sketch_bits == 2, invalid_argument, "sketch_bits is ", s.sketch_bits,
               "; allowed: 1 or 2");
  TANDEM_CHECK(s.lsh_bits >= 1 && s.lsh_bits <= 12, invalid_argument, "lsh_bits is ", s.lsh_bits, "; allowed: 1 to 12");
  TANDEM_CHECK(s.lsh_tables >= 1 && s.lsh_tables <= 300, invalid_argument, "lsh_tables is ", s.lsh_tables,
               "; allowed: 1 to 300");
  TANDEM_CHECK(!s.ping_pong || s.batch >= 2, invalid_argument, "ping_pong is true; allowed: from a batch of 2 on");
}

bool is_dense(const StepSettings& settings, const ModelShape& model, int layer) noexcept {
  // Dense layer number i of d is layer ceil(i L / d): the first one, and then every (L / d)-th.
  const std::int64_t before = std::int64_t{layer} * settings.dense_layers;
  const std::int64_t behind = before + settings.dense_layers;
  const auto started = [&](std::int64_t x) { return (x + model.num_layers - 1) / model.num_layers; };
  return started(behind) > started(before);
}

}  // namespace tandem::plan
