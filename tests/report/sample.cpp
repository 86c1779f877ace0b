/// report_sample FILE: writes a page with every chart, for tests of what browsers make of it. Its figures are made up
/// in the sizes that machines have; "--stress" instead of realistic data adds what charts must survive.
#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>

#include <fmt/format.h>

#include "runtime/base/error.h"
#include "tests/report/sample_charts.h"

namespace tandem::report {
namespace {

void add_table(Page& page) {
  const auto row = [](const char* name, double value, double low, double high, Badge badge, const char* unit,
                      const char* source) {
    Cell cell = number_cell(value, low, high, badge);
    cell.tooltip = source;
    return std::vector<Cell>{{name}, cell, {unit}};
  };
  page.table({"Memory of one NUMA node, with all of its cores at work.",
              {"Figure", "Value", "Unit"},
              {row("sequential read", 187.4, 183, 190, Badge::measured, "GB/s", "five runs"),
               row("gather, rows of 512 bytes", 121.8, 117, 126, Badge::measured, "GB/s", "five runs"),
               row("gather, rows of 256 bytes", 84.6, 79, 91, Badge::measured, "GB/s", "five runs"),
               row("peak", 307.2, 307.2, 307.2, Badge::published, "GB/s", "eight channels of DDR5-4800"),
               row("load to use", 118, 112, 131, Badge::measured, "ns", "five runs"),
               row("power", 350, 300, 400, Badge::assumed, "W", "the maker's limit and a sixth of it")}});
}

Page realistic_page() {
  Page page("What this machine does with a context of 128K tokens",
            "2 \u00d7 56 cores, 16 channels of memory, one GPU with 80 GB \u00b7 sample data");
  page.paragraph(
      "A step of decoding reads every key and value that attention selects. Those in the window are read by the GPU "
      "from "
      "its own memory; the rest lies in host memory, where the processor reads it in place. `tandem profile` measures "
      "how fast either side is, and what follows from it.");
  page.section("The machine");
  add_table(page);
  page.figure(
      sample_bars(),
      "Bandwidth of host memory by kind of access, in GB/s. Whiskers span five runs. Rows of 256 bytes at random "
      "places reach less than half of what sequential reads do.");
  page.figure(sample_roofline(),
              "Where the kernels of a step lie below what memory and arithmetic allow. Attention over the host tier is "
              "bound by memory; only the projections come near the peak.");
  page.section("Steps");
  page.figure(sample_lines(), "Time of a step against the context, both logarithmic. Bands span five runs.");
  page.note(
      Note::information, "What bounds a step",
      "Up to 32K tokens the GPU is the slower side, beyond it the host: from there on, time grows with the number of "
      "rows that are selected, not with the context.");
  page.figure(sample_timeline(),
              "Three layers of a step. The host attends over its rows while the GPU works on the window and the next "
              "layer's projections; the link is idle most of the time.");
  page.figure(
      sample_heat(),
      "Output error, in percent, by bits per code and number of tables. Cells without a value take more memory than "
      "the machine has.");
  page.section("Predictions");
  page.figure(sample_scatter(), "Predicted against measured time of a step on three machines.");
  page.note(Note::caution, "Assumed figures",
            "The power of a node is assumed: what is said of energy is no better known than that.");
  return page;
}

}  // namespace
}  // namespace tandem::report

int main(int count, char** arguments) {
  const bool stress = count == 3 && std::string(arguments[2]) == "--stress";
  if (count != 2 && !stress) {
    std::fputs("usage: report_sample FILE [--stress]\n", stderr);
    return 2;
  }
  try {
    std::ofstream file(arguments[1], std::ios::binary);
    file << (stress ? tandem::report::stress_page() : tandem::report::realistic_page()).html();
    file.close();
    if (!file) tandem::fail(tandem::ErrorCode::io, "cannot write ", arguments[1]);
  } catch (const tandem::Error& error) {
    std::fprintf(stderr, "report_sample: %s\n", error.what());
    return 1;
  }
}
