#include "tools/tandem/filler_text.h"

#include <array>
#include <cctype>

#include <fmt/format.h>

#include "runtime/base/random.h"

namespace tandem::cli {
namespace {

constexpr std::array kWho = {"the miller",   "the captain",  "an old sailor", "the young clerk", "a careful gardener",
                             "the baker",    "my neighbour", "the teacher",   "the judge",       "a tired traveller",
                             "the shepherd", "her cousin",   "the carpenter", "a stranger"};
constexpr std::array kDoes = {"watches", "follows", "remembers", "carries", "repairs",  "borrows", "paints", "measures",
                              "counts",  "hides",   "sells",     "forgets", "polishes", "finds",   "praises"};
constexpr std::array kWhen = {"in the morning",  "after the rain",    "before supper",       "on market day",
                              "without a word",  "every winter",      "at the edge of town", "for no reason",
                              "with great care", "near the old mill", "until the bell rings"};
constexpr std::array kLike = {"quiet",    "hollow",   "silver", "gentle", "frozen", "patient",
                              "narrow",   "ancient",  "bright", "dusty",  "hidden", "marble",
                              "northern", "restless", "tidy",   "velvet", "wooden", "yellow"};
constexpr std::array kThing = {"harbor",  "lantern", "orchard", "bridge", "garden",  "village",
                               "river",   "window",  "compass", "anchor", "blanket", "candle",
                               "feather", "hammer",  "kettle",  "saddle", "turnip",  "whistle"};

template <std::size_t N>
const char* one_of(const std::array<const char*, N>& words, CounterRandom& random) {
  return words.at(random.below(N));
}

std::string sentence(CounterRandom& random) {
  constexpr std::uint64_t kForms = 3;
  const auto form = random.below(kForms);
  const auto* who = one_of(kWho, random);
  const auto* does = one_of(kDoes, random);
  const auto* like = one_of(kLike, random);
  const auto* thing = one_of(kThing, random);
  const auto* other = one_of(kThing, random);
  const auto* when = one_of(kWhen, random);
  if (form == 0) return fmt::format("{} {} the {} {} {}. ", who, does, like, thing, when);
  if (form == 1)
    return fmt::format("{}, {} {} a {} and {} the {}. ", when, who, does, thing, one_of(kDoes, random), other);
  return fmt::format("there is a {} {} beside the {} {}, and {} {} it. ", like, thing, one_of(kLike, random), other,
                     who, does);
}

}  // namespace

std::string filler_text(std::size_t bytes, std::uint64_t seed) {
  CounterRandom random(seed, /*stream=*/0);
  std::string text;
  while (text.size() < bytes) {
    auto next = sentence(random);
    next[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(next[0])));
    text += next;
  }
  text.resize(bytes);
  return text;
}

}  // namespace tandem::cli
