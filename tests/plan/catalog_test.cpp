#include "tools/plan/catalog.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_message.h"

namespace tandem::plan {
namespace {

namespace fs = std::filesystem;
using tandem::testing::error_message;
using ::testing::HasSubstr;

/// A folder that is gone with the test.
class CatalogFolder : public ::testing::Test {
 protected:
  CatalogFolder() : folder_(fs::path(::testing::TempDir()) / "tandem-catalog") {
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "machines");
  }
  ~CatalogFolder() override { fs::remove_all(folder_); }

  void write(const std::string& name, const Json& object) { std::ofstream(folder_ / name) << object; }

  fs::path folder_;
};

Json machine_named(const std::string& name, double memory_gb) {
  const Json memory = {{"value", memory_gb}, {"kind", "assumed"}};
  const Json gpu = {{"name", name}, {"figures", {{"memory_gb", memory}}}};
  return {{"schema", "tandem-machine"}, {"version", 1}, {"name", name}, {"gpus", Json::array({gpu})}};
}

TEST(Catalog, HasTheLibrary) {
  const Catalog catalog = Catalog::built_in();
  for (const char* name :
       {"v100-16", "v100-32", "a100-40", "a100-80", "h100", "h200", "l20", "l40s", "rtx-4090", "rtx-3090", "t4"})
    EXPECT_EQ(catalog.machine(name).gpus.size(), 1u) << name;
  for (const char* name :
       {"xeon-8280", "xeon-8480+", "xeon-8563c", "xeon-6980p", "epyc-7742", "epyc-9654", "epyc-9755", "grace"})
    EXPECT_TRUE(catalog.machine(name).cpu.has_value()) << name;
  for (const char* name :
       {"llama-2-7b", "llama-2-13b", "llama-3.1-8b", "llama-3.1-70b", "qwen2.5-7b", "qwen2.5-32b", "mistral-7b"})
    EXPECT_EQ(catalog.model(name).name, name);
}

template <typename Part, std::size_t kCount>
void expect_sources(const Part& part, const std::array<FigureField<Part>, kCount>& fields) {
  for (const auto& field : fields) {
    const auto& figure = part.*field.figure;
    const std::string source = figure ? figure->source : "none";
    EXPECT_NE(source, "") << part.name << " " << field.name;
  }
}

TEST(Catalog, EveryFigureNamesItsSource) {
  const Catalog catalog = Catalog::built_in();
  for (const auto& [name, machine] : catalog.machines()) {
    EXPECT_EQ(machine.name, name);
    for (const Gpu& gpu : machine.gpus) expect_sources(gpu, kGpuFigures);
    if (machine.cpu) expect_sources(*machine.cpu, kCpuFigures);
  }
}

TEST(Catalog, UnknownNamesGetTheNearest) {
  const Catalog catalog = Catalog::built_in();
  EXPECT_THAT(error_message([&] { (void)catalog.machine("v100-23"); }),
              HasSubstr("'v100-23' is not known; nearest: v100-"));
  EXPECT_THAT(error_message([&] { (void)catalog.model("lama-3.1-8b"); }), HasSubstr("nearest: llama-3.1-8b"));
  EXPECT_THAT(error_message([&] { (void)catalog.machine("./none.json"); }, ErrorCode::io),
              HasSubstr("cannot read ./none.json: No such file"));
  EXPECT_THAT(error_message([&] { (void)catalog.machine("./"); }, ErrorCode::io), HasSubstr("./: Is a directory"));
}

TEST(Catalog, NamesLikeNoneGetAllThatAreAllowed) {
  const std::string message = error_message([] { (void)Catalog::built_in().machine("foo"); });
  EXPECT_THAT(message, HasSubstr("'foo' is not known; allowed: a100-40, "));
  EXPECT_THAT(message, HasSubstr(", xeon-8563c, or a JSON file"));
}

TEST_F(CatalogFolder, AddsAndReplacesByFileName) {
  write("machines/l20.json", machine_named("l20", 96));
  write("machines/mine.json", machine_named("mine", 12));
  Catalog catalog = Catalog::built_in();
  catalog.add_folder(folder_);
  EXPECT_EQ(catalog.machine("l20").gpus[0].memory_gb->value, 96);
  EXPECT_EQ(catalog.machine("mine").gpus[0].memory_gb->value, 12);
  EXPECT_EQ(catalog.machine("h100").gpus[0].memory_gb->value, 80);
}

TEST_F(CatalogFolder, RefusesBadFiles) {
  Catalog catalog = Catalog::built_in();
  Json later = machine_named("later", 1);
  later["version"] = 2;
  write("machines/later.json", later);
  EXPECT_THAT(error_message([&] { catalog.add_folder(folder_); }), HasSubstr("later.json.version is 2"));
  write("machines/later.json", machine_named("later", -1));
  EXPECT_THAT(error_message([&] { catalog.add_folder(folder_); }), HasSubstr("memory_gb.value is -1"));
  fs::remove_all(folder_ / "machines");
  EXPECT_THAT(error_message([&] { catalog.add_folder(folder_); }, ErrorCode::io), HasSubstr("none of the folders"));
}

}  // namespace
}  // namespace tandem::plan
