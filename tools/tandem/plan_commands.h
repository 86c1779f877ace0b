#pragma once

#include <filesystem>
#include <string>

#include "tools/plan/catalog.h"
#include "tools/tandem/command.h"
#include "tools/tandem/output.h"

namespace tandem::cli {

/// What all subcommands of `plan` take.
struct PlanCommon {
  std::string data;  ///< folder of further machines, models and published results; empty: none
  std::string json;
};

void add_plan_common(CLI::App& app, PlanCommon& options);
plan::Catalog catalog_of(const PlanCommon& options);

/// Runs `work`; what it calls an invalid argument is bad usage.
void with_usage_errors(const std::function<void()>& work);

void add_plan_list(CLI::App& plan, Action& action);
void add_plan_compare(CLI::App& plan, Action& action);
void add_plan_validate(CLI::App& plan, Action& action);

}  // namespace tandem::cli
