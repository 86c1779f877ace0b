#include "tools/plan/memory.h"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "cpu/codec/sketch.h"
#include "cpu/row_layout.h"
#include "runtime/base/error.h"

namespace tandem::plan {
namespace {

constexpr double kReserveBytes = 2e9;  // of each GPU: context, libraries, workspaces, fragments
constexpr double kGiga = 1e9;

std::string gb(double bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f GB", bytes / kGiga);
  return text;
}

double memory_figure(const std::optional<Figure>& figure, const std::string& part) {
  TANDEM_CHECK(figure.has_value(), invalid_argument, part, " has no figure memory_gb; allowed: machines that have it");
  return figure->value * kGiga;
}

/// The longest context that fits, in steps of 1024; 0: none does.
std::int64_t longest_context(const System& system, const ModelShape& model, StepSettings settings) {
  std::int64_t fitting = 0;
  std::int64_t failing = settings.context / 1024 + 1;
  while (failing - fitting > 1) {
    settings.context = (fitting + failing) / 2 * 1024;
    (fits(system, model, settings) ? fitting : failing) = settings.context / 1024;
  }
  return fitting * 1024;
}

std::string smallest_larger_card(const Catalog& catalog, System system, const ModelShape& model,
                                 const StepSettings& settings) {
  std::string name;
  double smallest = 0;
  for (const auto& [key, machine] : catalog.machines()) {
    if (machine.gpus.empty() || !machine.gpus.front().memory_gb) continue;
    system.gpu = machine.gpus.front();
    const double bytes = device_bytes(system);
    if (fits(system, model, settings) && (name.empty() || bytes < smallest)) {
      name = key;
      smallest = bytes;
    }
  }
  return name;
}

std::vector<std::string> remedies(const Catalog& catalog, const System& system, const ModelShape& model,
                                  const StepSettings& settings) {
  std::vector<std::string> found;
  const auto try_with = [&](const std::string& what, auto change) {
    StepSettings changed = settings;
    change(changed);
    if (fits(system, model, changed)) found.push_back(what);
  };
  const int most = max_batch(system, model, settings, settings.batch);
  if (most > 0) found.push_back(concat(most, most == 1 ? " sequence" : " sequences"));
  const std::int64_t longest = longest_context(system, model, settings);
  if (longest > 0) found.push_back(concat("contexts of up to ", longest / 1024, "K"));
  if (settings.weights == WeightFormat::bf16) {
    try_with("int8 weights", [](StepSettings& s) { s.weights = WeightFormat::int8; });
    try_with("int4 weights", [](StepSettings& s) { s.weights = WeightFormat::int4; });
  }
  if (settings.host_dtype == DType::bf16 && keeps_on_host(settings.method))
    try_with("int8 rows", [](StepSettings& s) { s.host_dtype = DType::int8; });
  if (settings.method == Method::gpu) try_with("the method tandem", [](StepSettings& s) { s.method = Method::tandem; });
  if (settings.dense_layers > 0) try_with("no dense layers", [](StepSettings& s) { s.dense_layers = 0; });
  const std::string card = system.gpu ? smallest_larger_card(catalog, system, model, settings) : std::string();
  if (!card.empty()) found.push_back("a larger card (" + card + ")");
  return found;
}

}  // namespace

double device_token_bytes(const ModelShape& model) noexcept { return 2.0 * 2 * model.num_kv_heads * model.head_dim; }

double host_row_bytes(const ModelShape& model, const StepSettings& settings) noexcept {
  const AttentionShape shape{1, model.num_q_heads, model.num_kv_heads, model.head_dim, model.head_dim, 1.f, 0.f};
  return static_cast<double>(cpu::RowLayout::of(shape, settings.host_dtype).row_bytes);
}

double index_bytes(const ModelShape& model, const StepSettings& settings) noexcept {
  constexpr double kFactor = 2;
  if (settings.method == Method::tandem) return cpu::sketch_code_bytes(model.head_dim, settings.sketch_bits) + kFactor;
  if (settings.method != Method::magicpig) return 0;
  const double buckets = static_cast<double>(1 << settings.lsh_bits);
  return 4.0 * settings.lsh_tables * (1 + 2 * buckets / static_cast<double>(settings.context));
}

MemoryNeed memory_of(const ModelShape& model, const StepSettings& settings, int num_gpus) noexcept {
  constexpr double kSumBytes = 4;
  const double batch = settings.batch;
  const double layers = model.num_layers;
  const double dense = settings.dense_layers;
  const auto visible = static_cast<double>(model.visible(settings.context));
  const double token = device_token_bytes(model);
  MemoryNeed need;
  need.weights = bytes_of(settings.weights) * static_cast<double>(model.parameters());
  need.activations = batch * kSumBytes * (model.vocabulary + 4.0 * model.hidden_size + 2.0 * model.intermediate_size);
  need.reserve = kReserveBytes * std::max(num_gpus, 0);
  if (settings.method == Method::gpu) {
    need.device_kv = batch * layers * visible * token;
    return need;
  }
  const double window = settings.method == Method::swap ? 0 : std::min(visible, static_cast<double>(settings.window));
  need.device_kv = batch * token * (dense * visible + (layers - dense) * window);
  if (settings.method == Method::swap) need.device_kv += batch * token * visible * std::min(2.0, layers - dense);
  const double rows = batch * (layers - dense) * model.num_kv_heads * visible;
  need.host_rows = rows * host_row_bytes(model, settings);
  need.host_index = rows * index_bytes(model, settings);
  return need;
}

double device_bytes(const System& system) {
  return system.gpu ? system.num_gpus * memory_figure(system.gpu->memory_gb, system.gpu->name) : 0;
}

double host_bytes(const System& system) {
  return system.num_nodes() * memory_figure(system.cpu.memory_gb, system.cpu.name);
}

bool fits(const System& system, const ModelShape& model, const StepSettings& settings) {
  const MemoryNeed need = memory_of(model, settings, system.num_gpus);
  if (!system.gpu) return need.device() + need.host() <= host_bytes(system);
  return need.device() <= device_bytes(system) && (need.host() == 0 || need.host() <= host_bytes(system));
}

int max_batch(const System& system, const ModelShape& model, StepSettings settings, int most) {
  int fitting = 0;
  int failing = most + 1;
  while (failing - fitting > 1) {
    settings.batch = fitting + (failing - fitting) / 2;
    (fits(system, model, settings) ? fitting : failing) = settings.batch;
  }
  return fitting;
}

std::string why_it_does_not_fit(const Catalog& catalog, const System& system, const ModelShape& model,
                                const StepSettings& settings) {
  if (fits(system, model, settings)) return {};
  const MemoryNeed need = memory_of(model, settings, system.num_gpus);
  const bool device_lacks = system.gpu && need.device() > device_bytes(system);
  const double wanted = device_lacks ? need.device() : need.host() + (system.gpu ? 0 : need.device());
  const double there = device_lacks ? device_bytes(system) : host_bytes(system);
  std::string text =
      concat(model.name, " with ", settings.batch, " x ", settings.context, " tokens (", to_string(settings.method),
             ") takes ", gb(wanted), " of ", device_lacks ? "device" : "host", " memory, ", gb(wanted - there),
             " more than ", system.name, " has");
  if (device_lacks)
    text += concat(": weights ", gb(need.weights), ", K and V ", gb(need.device_kv), ", the rest ",
                   gb(need.activations + need.reserve));
  const std::vector<std::string> ways = remedies(catalog, system, model, settings);
  if (ways.empty()) return text + "; nothing that is known here would make it fit";
  text += "; would fit: ";
  for (std::size_t i = 0; i < ways.size(); ++i) text += (i == 0 ? "" : i + 1 == ways.size() ? ", or " : ", ") + ways[i];
  return text;
}

}  // namespace tandem::plan
