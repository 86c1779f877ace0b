#include "tools/plan/machine.h"

#include "tools/plan/json_file.h"

namespace tandem::plan {
namespace {

constexpr const char* kSchema = "tandem-machine";
constexpr int kMostNodes = 1024;
constexpr int kMostCores = 65536;

template <typename Part, std::size_t kCount>
Json figures_json(const Part& part, const std::array<FigureField<Part>, kCount>& known) {
  Json figures = Json::object();
  for (const auto& field : known)
    if (const auto& figure = part.*field.figure) figures[field.name] = to_json(*figure);
  return figures;
}

template <typename Part, std::size_t kCount>
void read_figures(const Json& object, const std::string& path, const std::array<FigureField<Part>, kCount>& known,
                  Part& part) {
  ObjectFields fields(object, path);
  for (const auto& field : known)
    if (const Json* figure = fields.find(field.name))
      part.*field.figure = figure_from(*figure, path + "." + field.name, field.least, field.most);
  fields.reject_others();
}

Json to_json(const Cpu& cpu) {
  return {{"name", cpu.name},
          {"title", cpu.title},
          {"nodes", cpu.nodes},
          {"cores", cpu.cores},
          {"figures", figures_json(cpu, kCpuFigures)}};
}

Json to_json(const Gpu& gpu) {
  return {{"name", gpu.name}, {"title", gpu.title}, {"figures", figures_json(gpu, kGpuFigures)}};
}

Json to_json(const lsh::CostProfile& costs) {
  Json object = Json::object();
  for (const lsh::CostField& field : lsh::kCostFields) object[field.name] = costs.*field.value;
  return object;
}

/// Sequential reads cannot be faster than the memory: such a file would make every prediction absurd.
template <typename Part>
void check_peak(const Part& part, const std::string& path) {
  if (!part.peak_gb_per_s || !part.read_gb_per_s) return;
  TANDEM_CHECK(part.read_gb_per_s->value <= part.peak_gb_per_s->value, invalid_argument, path,
               ".figures.read_gb_per_s is ", part.read_gb_per_s->value, "; allowed: at most peak_gb_per_s, which is ",
               part.peak_gb_per_s->value);
}

Cpu cpu_from(const Json& object, const std::string& path) {
  ObjectFields fields(object, path);
  Cpu cpu;
  cpu.name = fields.text("name");
  cpu.title = fields.text("title", cpu.name);
  cpu.nodes = static_cast<int>(fields.integer("nodes", 1, kMostNodes, 1));
  cpu.cores = static_cast<int>(fields.integer("cores", 1, kMostCores));
  read_figures(fields.at("figures"), path + ".figures", kCpuFigures, cpu);
  fields.reject_others();
  check_peak(cpu, path);
  return cpu;
}

Gpu gpu_from(const Json& object, const std::string& path) {
  ObjectFields fields(object, path);
  Gpu gpu;
  gpu.name = fields.text("name");
  gpu.title = fields.text("title", gpu.name);
  read_figures(fields.at("figures"), path + ".figures", kGpuFigures, gpu);
  fields.reject_others();
  check_peak(gpu, path);
  return gpu;
}

lsh::CostProfile costs_from(const Json& object, const std::string& path) {
  ObjectFields fields(object, path);
  lsh::CostProfile costs;
  for (const lsh::CostField& field : lsh::kCostFields)
    costs.*field.value = fields.number(field.name, field.least, field.most, costs.*field.value);
  fields.reject_others();
  return costs;
}

template <typename Part, std::size_t kCount>
void merge_figures(const Part& earlier, const std::array<FigureField<Part>, kCount>& known, Part& later) {
  for (const auto& field : known) {
    auto& figure = later.*field.figure;
    const auto& other = earlier.*field.figure;
    if (figure && other) {
      figure = merged(*other, *figure);
    } else if (other) {
      figure = other;
    }
  }
}

void check_same(const Cpu& a, const Cpu& b) {
  TANDEM_CHECK(a.title == b.title && a.nodes == b.nodes && a.cores == b.cores, invalid_argument, "cpu is ", b.title,
               " with ", b.nodes, " x ", b.cores, " cores; the earlier profile is of ", a.title, " with ", a.nodes,
               " x ", a.cores);
}

}  // namespace

Json to_json(const Machine& machine) {
  Json object = {{"schema", kSchema}, {"version", kMachineVersion}, {"name", machine.name}, {"title", machine.title}};
  if (!machine.date.empty()) object["date"] = machine.date;
  if (machine.cpu) object["cpu"] = to_json(*machine.cpu);
  if (!machine.gpus.empty()) {
    object["gpus"] = Json::array();
    for (const Gpu& gpu : machine.gpus) object["gpus"].push_back(to_json(gpu));
  }
  if (machine.step_costs) object["step_costs"] = to_json(*machine.step_costs);
  if (!machine.details.empty()) object["details"] = machine.details;
  return object;
}

Machine machine_from(const Json& object, const std::string& origin) {
  ObjectFields fields(object, origin);
  check_schema(fields, kSchema, kMachineVersion);
  Machine machine;
  machine.name = fields.text("name");
  machine.title = fields.text("title", machine.name);
  machine.date = fields.text("date", "");
  if (const Json* cpu = fields.find("cpu")) machine.cpu = cpu_from(*cpu, origin + ".cpu");
  if (const Json* gpus = fields.find("gpus")) {
    TANDEM_CHECK(gpus->is_array(), invalid_argument, origin, ".gpus is ", gpus->type_name(), "; it must be an array");
    for (std::size_t i = 0; i < gpus->size(); ++i)
      machine.gpus.push_back(gpu_from((*gpus)[i], concat(origin, ".gpus[", i, "]")));
  }
  if (const Json* costs = fields.find("step_costs")) machine.step_costs = costs_from(*costs, origin + ".step_costs");
  if (const Json* details = fields.find("details")) {
    TANDEM_CHECK(details->is_object(), invalid_argument, origin, ".details is ", details->type_name(),
                 "; it must be an object");
    machine.details = *details;
  }
  fields.reject_others();
  TANDEM_CHECK(machine.cpu || !machine.gpus.empty(), invalid_argument, origin,
               " has neither cpu nor gpus; it must have one of them");
  return machine;
}

Machine load_machine(const std::filesystem::path& path) { return machine_from(json_file(path), path.string()); }

Machine merged(const Machine& earlier, const Machine& later) {
  Machine machine = later;
  TANDEM_CHECK(earlier.cpu.has_value() == later.cpu.has_value() && earlier.gpus.size() == later.gpus.size(),
               invalid_argument, "the two profiles have ", earlier.cpu.has_value(), " and ", later.cpu.has_value(),
               " processors, ", earlier.gpus.size(), " and ", later.gpus.size(), " GPUs; both must be of one machine");
  if (machine.cpu) {
    check_same(*earlier.cpu, *machine.cpu);
    merge_figures(*earlier.cpu, kCpuFigures, *machine.cpu);
  }
  for (std::size_t i = 0; i < machine.gpus.size(); ++i) {
    TANDEM_CHECK(earlier.gpus[i].title == machine.gpus[i].title, invalid_argument, "gpus[", i, "] is ",
                 machine.gpus[i].title, "; the earlier profile is of ", earlier.gpus[i].title);
    merge_figures(earlier.gpus[i], kGpuFigures, machine.gpus[i]);
  }
  return machine;
}

}  // namespace tandem::plan
