#pragma once

#include <string>

#include "tandem/tandem.hpp"
#include "tools/tandem/output.h"

namespace tandem::cli {

/// A selector as the command lines write it, as the JSON object that td_create_json takes, with only what it names:
///   KIND                 all, topk, lsh, sketch or sketch-topk; '_' may stand for '-'
///   KIND:FIELD=VALUE,..  the fields of td_create_json; a value that is no number, true or false is a string
///   topk:BUDGET, sketch:BUDGET (sketch1:, sketch2: with so many bits per dimension), sketch-topk:BUDGET, lsh:K,L
///   {"kind": ..}         the object itself
/// Which fields a kind has is the library's business. Throws UsageError naming `field`, the text and what is allowed.
Json parse_selector(const std::string& field, const std::string& text);

/// Puts what `object` names into `selector`, which may have a budget and an error, as defaults: one of them is left,
/// and neither where the kind takes none. Throws UsageError naming `field`, also where `object` names both.
void read_selector(const std::string& field, const Json& object, td_selector& selector);

/// "all, topk, lsh, sketch, sketch-topk": the kinds as --help spells them.
std::string selector_kinds();

/// "10,150" -> K and L of `selector`. Throws UsageError naming `field`, the text and what is allowed.
void parse_lsh(const std::string& field, const std::string& text, td_selector& selector);
/// A share, above 0 and at most 1, from text. Throws UsageError like parse_lsh.
double parse_budget(const std::string& field, const std::string& text);

/// {"kind": "lsh", "lsh_bits": 10, ...}: only the knobs that the kind has.
Json to_json(const td_selector& selector);
/// "lsh 10,150", "topk 0.02" or "all".
std::string describe(const td_selector& selector);

}  // namespace tandem::cli
