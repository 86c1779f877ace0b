#include "tools/plan/machine.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/error.h"

namespace tandem::plan {
namespace {

using testing::HasSubstr;

Gpu gpu_named(const char* name, const char* title) {
  Gpu gpu;
  gpu.name = name;
  gpu.title = title;
  return gpu;
}

Machine machine() {
  Machine m;
  m.name = "box";
  m.title = "A box";
  m.date = "2026-11-30T10:00:00Z";
  m.cpu.emplace();
  m.cpu->name = "xeon-8480+";
  m.cpu->title = "Intel Xeon";
  m.cpu->nodes = 2;
  m.cpu->cores = 56;
  for (const auto& field : kCpuFigures)
    (*m.cpu).*field.figure = Figure{field.least + (field.most - field.least) / 4,
                                    field.least,
                                    field.most / 2,
                                    FigureKind::measured,
                                    std::string("how ") + field.name,
                                    3};
  m.cpu->peak_gb_per_s->value = m.cpu->peak_gb_per_s->high;
  Gpu gpu = gpu_named("v100-32", "NVIDIA V100");
  for (const auto& field : kGpuFigures)
    gpu.*field.figure = Figure{field.most / 2, field.most / 4, field.most, FigureKind::published, "a page"};
  m.gpus = {gpu, gpu};
  m.step_costs = lsh::CostProfile{};
  m.step_costs->dense_row_ns = 12.5;
  m.details = {{"notes", {"one", "two"}}};
  return m;
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  return "no error";
}

TEST(Machine, SurvivesItsJson) {
  const Json json = to_json(machine());
  const Machine read = machine_from(Json::parse(json.dump()), "file");
  EXPECT_EQ(to_json(read), json);
  for (const auto& field : kCpuFigures)
    EXPECT_EQ((*read.cpu).*field.figure, (*machine().cpu).*field.figure) << field.name;
  for (const auto& field : kGpuFigures) EXPECT_EQ(read.gpus[1].*field.figure, machine().gpus[1].*field.figure);
  EXPECT_EQ(read.step_costs, machine().step_costs);
  EXPECT_EQ(read.details, machine().details);
}

TEST(Machine, MayBeAPartAlone) {
  Machine gpu;
  gpu.name = gpu.title = "v100";
  gpu.gpus = {gpu_named("v100", "v100")};
  const Machine read = machine_from(to_json(gpu), "file");
  EXPECT_FALSE(read.cpu || read.step_costs);
  EXPECT_EQ(read.title, "v100");
}

struct BadField {
  const char* pointer;  ///< RFC 6901
  Json value;           ///< null removes nothing: it counts as absent
  const char* error;
};

class BadMachine : public testing::TestWithParam<BadField> {};

TEST_P(BadMachine, IsRefusedByTheNameOfTheField) {
  Json json = to_json(machine());
  json[Json::json_pointer(GetParam().pointer)] = GetParam().value;
  EXPECT_THAT(error_of([&] { (void)machine_from(json, "file"); }), HasSubstr(GetParam().error));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadMachine,
    testing::Values(
        BadField{"/schema", "machine", "file.schema is 'machine'; allowed: tandem-machine"},
        BadField{"/schema", 1, "file.schema is 1; it must be a string"},
        BadField{"/version", 2, "file.version is 2; allowed: a whole number from 1 to 1"},
        BadField{"/version", nullptr, "file.version is missing"},
        BadField{"/version", 1.5, "file.version is 1.5; allowed"}, BadField{"/name", nullptr, "file.name is missing"},
        BadField{"/date", 5, "file.date is 5; it must be a string"},
        BadField{"/colour", "red", "file.colour is not a field; allowed: cpu, date"},
        BadField{"/cpu", Json::array(), "file.cpu is array; it must be an object"},
        BadField{"/cpu/cores", 0, "file.cpu.cores is 0; allowed: a whole number from 1"},
        BadField{"/cpu/cores", nullptr, "file.cpu.cores is missing"},
        BadField{"/cpu/nodes", 1e300, "file.cpu.nodes is 1e+300; allowed"},
        BadField{"/cpu/nodes", 18446744073709551615u, "file.cpu.nodes is 18446744073709551615; allowed"},
        BadField{"/cpu/figures", nullptr, "file.cpu.figures is missing"},
        BadField{"/cpu/figures/speed", 1, "file.cpu.figures.speed is not a field; allowed"},
        BadField{"/cpu/figures/latency_ns", 90, "file.cpu.figures.latency_ns is number; it must be an object"},
        BadField{"/gpus", Json::object(), "file.gpus is object; it must be an array"},
        BadField{"/gpus/1/name", 7, "file.gpus[1].name is 7; it must be a string"},
        BadField{"/gpus/1/figures/launch_us/value", -1, "file.gpus[1].figures.launch_us.value is -1; allowed"},
        BadField{"/step_costs/dense_row_ns", -3, "file.step_costs.dense_row_ns is -3; allowed"},
        BadField{"/step_costs/dense", 3, "file.step_costs.dense is not a field"},
        BadField{"/details", "text", "file.details is string; it must be an object"},
        BadField{"/cpu/figures/read_gb_per_s/kind", "guessed",
                 "file.cpu.figures.read_gb_per_s.kind is 'guessed'; allowed: measured, published, assumed"},
        BadField{"/cpu/figures/read_gb_per_s/runs", 0, "read_gb_per_s.runs is 0; allowed"},
        BadField{"/cpu/figures/read_gb_per_s/unit", "GB/s", "read_gb_per_s.unit is not a field"},
        BadField{"/cpu/figures/peak_gb_per_s", Json{{"value", 5}, {"kind", "published"}},
                 "file.cpu.figures.read_gb_per_s is"}));

TEST(Machine, HasNoFigureBelowOrAboveWhatMachinesHave) {
  for (const auto& field : kCpuFigures) {
    const auto pointer = Json::json_pointer(std::string("/cpu/figures/") + field.name + "/value");
    for (const double value : {-1.0, field.most * 2}) {
      Json json = to_json(machine());
      json[pointer] = value;
      EXPECT_THAT(error_of([&] { (void)machine_from(json, "file"); }),
                  HasSubstr(std::string("file.cpu.figures.") + field.name + ".value is"));
    }
    Json json = to_json(machine());
    json[pointer] = std::nan("");
    EXPECT_THAT(error_of([&] { (void)machine_from(json, "file"); }), HasSubstr(field.name));
  }
}

TEST(Machine, HasFiguresBetweenTheirBounds) {
  Json json = to_json(machine());
  json["/cpu/figures/copy_gb_per_s"_json_pointer] = {{"value", 10}, {"low", 11}, {"high", 12}, {"kind", "measured"}};
  EXPECT_THAT(error_of([&] { (void)machine_from(json, "file"); }),
              HasSubstr("copy_gb_per_s.value is 10; it must lie between low, which is 11, and high, which is 12"));
}

TEST(Machine, NeedsAProcessorOrAGpu) {
  EXPECT_THAT(error_of([] {
                (void)machine_from({{"schema", "tandem-machine"}, {"version", 1}, {"name", "x"}}, "file");
              }),
              HasSubstr("neither cpu nor gpus"));
}

TEST(Machine, IsReadFromFiles) {
  EXPECT_THROW((void)load_machine("/no/such/file"), Error);
  const auto path = std::filesystem::path(testing::TempDir()) / "machine.json";
  std::ofstream(path) << to_json(machine()).dump();
  EXPECT_EQ(to_json(load_machine(path)), to_json(machine()));
  std::ofstream(path) << "fast";
  EXPECT_THAT(error_of([&] { (void)load_machine(path); }), HasSubstr("is not JSON"));
  std::filesystem::remove(path);
}

TEST(Merged, FiguresAreMeansAndTheirBoundsSpanAll) {
  Machine earlier = machine(), later = machine();
  earlier.cpu->read_gb_per_s = Figure{10, 9, 11, FigureKind::measured, "a", 2};
  later.cpu->read_gb_per_s = Figure{16, 15, 17, FigureKind::measured, "b", 1};
  earlier.cpu->copy_gb_per_s.reset();
  later.cpu->triad_gb_per_s.reset();
  later.details = {{"later", true}};
  const Machine both = merged(earlier, later);
  EXPECT_EQ(both.cpu->read_gb_per_s->value, 12);
  EXPECT_EQ(both.cpu->read_gb_per_s->low, 9);
  EXPECT_EQ(both.cpu->read_gb_per_s->high, 17);
  EXPECT_EQ(both.cpu->read_gb_per_s->runs, 3);
  EXPECT_EQ(both.cpu->copy_gb_per_s, later.cpu->copy_gb_per_s);
  EXPECT_EQ(both.cpu->triad_gb_per_s, earlier.cpu->triad_gb_per_s);
  EXPECT_EQ(both.details, later.details);
  (void)machine_from(to_json(both), "file");
}

TEST(Merged, RefusesAnotherMachine) {
  const auto refused = [](const std::function<void(Machine&)>& change) {
    Machine other = machine();
    change(other);
    return error_of([&] { (void)merged(other, machine()); });
  };
  EXPECT_THAT(refused([](Machine& m) { m.cpu->title = "Z80"; }), HasSubstr("the earlier profile is of Z80"));
  EXPECT_THAT(refused([](Machine& m) { m.cpu->cores = 4; }), HasSubstr("2 x 4"));
  EXPECT_THAT(refused([](Machine& m) { m.cpu->nodes = 1; }), HasSubstr("1 x 56"));
  EXPECT_THAT(refused([](Machine& m) { m.cpu.reset(); }), HasSubstr("must be of one machine"));
  EXPECT_THAT(refused([](Machine& m) { m.gpus.pop_back(); }), HasSubstr("must be of one machine"));
  EXPECT_THAT(refused([](Machine& m) { m.gpus[0].title = "A100"; }), HasSubstr("gpus[0]"));
}

}  // namespace
}  // namespace tandem::plan
