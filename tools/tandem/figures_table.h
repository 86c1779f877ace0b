#pragma once

#include <array>
#include <string>

#include "tools/plan/machine.h"
#include "tools/tandem/table.h"

namespace tandem::cli {

/// Those of `known` that `part`, a Cpu or a Gpu, has, under `title`.
template <typename Part, std::size_t kCount>
std::string figures_table(const char* title, const Part& part,
                          const std::array<plan::FigureField<Part>, kCount>& known) {
  Table table({title, "value", "low", "high", "runs", ""});
  for (const auto& field : known) {
    if (const auto& figure = part.*field.figure)
      table.add_row({field.name, short_number(figure->value), short_number(figure->low), short_number(figure->high),
                     std::to_string(figure->runs), field.unit});
  }
  return table.text();
}

}  // namespace tandem::cli
