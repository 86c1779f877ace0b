#include "lsh/cost_profile.h"

#include "runtime/base/error.h"

namespace tandem::lsh {

void validate(const CostProfile& profile) {
  for (const CostField& field : kCostFields) {
    const double value = profile.*field.value;
    TANDEM_CHECK(value >= field.least && value <= field.most, invalid_argument, "profile.", field.name, " is ", value,
                 "; allowed: ", field.least, " to ", field.most);
  }
}

}  // namespace tandem::lsh
