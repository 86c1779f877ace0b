#include "runtime/c_api_describe.h"

#include <nlohmann/json.hpp>

#include "tandem/tandem.h"

namespace tandem {
namespace {

nlohmann::json nodes_of(const numa::Topology& topology) {
  nlohmann::json nodes = nlohmann::json::array();
  for (const numa::Node& node : topology.nodes()) {
    nodes.push_back({{"os_index", node.os_index},
                     {"cores", node.num_cores},
                     {"cpus", node.cpus},
                     {"memory_bytes", node.memory_bytes}});
  }
  return nodes;
}

nlohmann::json split_of(const Runtime& runtime) {
  const SplitFigures split = runtime.split();
  return {{"auto", runtime.config().auto_split},
          {"selecting_over_dense", split.selecting_over_dense()},
          {"measured_steps", {{"dense", split.dense.steps}, {"selected", split.selecting.steps}}},
          {"crossover_rows", runtime.crossover_rows()}};
}

}  // namespace

std::string describe(const Runtime& runtime) {
  const numa::Topology& topology = runtime.topology();
  std::vector<std::string> isas;
  for (const cpu::Isa isa : cpu::available_isas()) isas.emplace_back(cpu::to_string(isa));
  const nlohmann::json description = {
      {"version", td_version()},
      {"abi", TANDEM_ABI},
      {"config", nlohmann::json::parse(config_to_json(runtime.config()))},
      {"isa", cpu::to_string(runtime.kernels().isa)},
      {"isas", isas},
      {"device", runtime.device().name()},
      {"workers", runtime.workers().num_workers()},
      {"machine",
       {{"nodes", nodes_of(topology)},
        {"l1d_bytes", topology.l1d_bytes()},
        {"l2_bytes", topology.l2_bytes()},
        {"last_level_cache_bytes", topology.last_level_cache_bytes()},
        {"memory_limit_bytes", topology.memory_limit_bytes()},
        {"cpu_quota", topology.cpu_quota()}}},
      {"split", split_of(runtime)},
      {"memory", {{"limit_bytes", runtime.ledger().limit_bytes()}, {"used_bytes", runtime.ledger().used_bytes()}}}};
  return description.dump();
}

}  // namespace tandem
