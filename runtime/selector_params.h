#pragma once

#include "lsh/selector.h"
#include "tandem/tandem.h"

namespace tandem {

/// What a td_selector of this version asks for; zeros become defaults as tandem.h says. Throws Error(invalid_argument)
/// for an unknown kind, and as check_amount(); values are lsh::validate()'s to check.
lsh::SelectorParams params_of(const td_selector& selector);

/// The td_selector that asks for `params`, nothing left to defaults.
td_selector to_td_selector(const lsh::SelectorParams& params);

}  // namespace tandem
