#include "tools/tandem/selector_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/tandem/command.h"
#include "tools/tandem/selector_options.h"

namespace tandem::cli {
namespace {

TEST(SelectorText, EveryFormIsTheSameObject) {
  const std::vector<std::pair<std::string, std::string>> forms = {
      {"all", R"({"kind":"all"})"},
      {"sketch", R"({"kind":"sketch"})"},
      {"sketch-topk", R"({"kind":"sketch_topk"})"},
      {"sketch_topk:0.1", R"({"kind":"sketch_topk","budget":0.1})"},
      {"topk:0.02", R"({"kind":"topk","budget":0.02})"},
      {"sketch1:0.05", R"({"kind":"sketch","sketch_bits":1,"budget":0.05})"},
      {"sketch2:budget=0.05", R"({"kind":"sketch","sketch_bits":2,"budget":0.05})"},
      {"lsh:8,75", R"({"kind":"lsh","lsh_bits":8,"lsh_tables":75})"},
      {"lsh:lsh_bits=8,lsh_planes=gaussian", R"({"kind":"lsh","lsh_bits":8,"lsh_planes":"gaussian"})"},
      {"sketch:unbiased=true,seed=3", R"({"kind":"sketch","unbiased":true,"seed":3})"},
      {R"({"kind": "lsh", "seed": 7})", R"({"kind":"lsh","seed":7})"},
  };
  for (const auto& [text, object] : forms) EXPECT_EQ(parse_selector("--selector", text).dump(), object) << text;
}

TEST(SelectorText, RefusalsNameTheFieldTheTextAndWhatIsAllowed) {
  for (const char* text : {"best", "", ":", "all:0.1", "sketch3:0.1", "topk:", "topk:2", "lsh:8", "lsh:40,7",
                           "lsh:lsh_bits=8,75", "lsh:=8", "{}", "{\"kind\"", "lsh:lsh_bits"}) {
    try {
      parse_selector("--selector", text);
      ADD_FAILURE() << text;
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), testing::StartsWith("--selector: '")) << text;
      EXPECT_THAT(error.what(), testing::HasSubstr("is not allowed; allowed: ")) << text;
    }
  }
  td_selector selector{};
  EXPECT_THROW(read_selector("--selector", parse_selector("--selector", "lsh:lsh_bitz=3"), selector), UsageError);
  EXPECT_THROW(read_selector("--selector", parse_selector("--selector", "lsh:lsh_bits=x"), selector), UsageError);
}

TEST(SelectorText, EveryFieldComesBackAsJson) {
  for (const char* text : {R"({"kind":"all"})", R"({"kind":"topk","budget":0.5})",
                           R"({"kind":"sketch","budget":0.5,"error":0.0,"sketch_bits":2,"unbiased":true,"seed":9})",
                           R"({"kind":"sketch","budget":0.0,"error":0.1,"sketch_bits":2,"unbiased":true,"seed":9})",
                           R"({"kind":"sketch_topk","budget":0.5,"sketch_bits":1})",
                           R"({"kind":"lsh","lsh_bits":5,"lsh_tables":6,"lsh_min_collisions":1,)"
                           R"("lsh_planes":"gaussian","seed":9})"}) {
    td_selector selector{};
    read_selector("--selector", Json::parse(text), selector);
    EXPECT_EQ(to_json(selector).dump(), text);
  }
}

TEST(SelectorOptions, WhatTheSelectorNamesGoesBeforeTheOptions) {
  SelectorOptions options;
  options.budget = 0.3;
  options.sketch_bits = 1;
  options.selector = "sketch:budget=0.5,seed=4";
  EXPECT_EQ(to_json(to_selector(options, 2)).dump(),
            R"({"kind":"sketch","budget":0.5,"error":0.0,"sketch_bits":1,"unbiased":false,"seed":4})");
  options.selector = "lsh";
  EXPECT_EQ(describe(to_selector(options, 2)), "lsh 10,150");
}

TEST(SelectorOptions, OneOfABudgetAndAnErrorIsLeft) {
  SelectorOptions options;
  const auto amounts = [&](const char* selector, double error) {
    options.selector = selector;
    options.error = error;
    const td_selector chosen = to_selector(options, 2);
    return std::pair(chosen.budget, chosen.error);
  };
  EXPECT_EQ(amounts("sketch", 0), std::pair(0.02, 0.0));
  EXPECT_EQ(amounts("sketch", 0.1), std::pair(0.0, 0.1));
  EXPECT_EQ(amounts("sketch:error=0.2", 0), std::pair(0.0, 0.2));
  EXPECT_EQ(amounts("sketch:error=0.2", 0.1), std::pair(0.0, 0.2));
  EXPECT_EQ(amounts("sketch:error=0", 0.1), std::pair(0.02, 0.0));
  EXPECT_EQ(amounts("sketch:0.5", 0.1), std::pair(0.5, 0.0));
  EXPECT_EQ(amounts(R"({"kind": "sketch", "budget": null})", 0.1), std::pair(0.0, 0.1));
  EXPECT_EQ(amounts("topk", 0), std::pair(0.02, 0.0));
  EXPECT_EQ(amounts("sketch-topk", 0.1), std::pair(0.02, 0.0));
  EXPECT_EQ(amounts("all", 0.1), std::pair(0.0, 0.0));
  EXPECT_EQ(amounts("lsh", 0.1), std::pair(0.0, 0.0));
  try {
    amounts("sketch:budget=0.5,error=0.1", 0);
    ADD_FAILURE();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("--selector: selector.budget is 0.5 and selector.error 0.1"));
  }
}

}  // namespace
}  // namespace tandem::cli
