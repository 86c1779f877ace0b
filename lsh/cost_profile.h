#pragma once

#include <array>

namespace tandem::lsh {

/// What the parts of a step cost: measured once (`tandem profile`), stored, and then part of the configuration, so that
/// whatever is decided by it depends on no clock.
///
/// Nanoseconds of one worker's time, with all workers at work and rows in memory rather than in a cache, for the
/// reference shape: one query token, GQA group of 4, head_dim 128, bf16 rows (512 bytes of K and V). SelectionCost says
/// how they are scaled. The defaults are those of two cores of an Intel Xeon with AVX-512 (a virtual machine, 480 MiB
/// of last-level cache): dense, gathered and scanned rows and LSH tables from bench/micro on cold rows, the others from
/// `tandem profile` in proportion to the dense row.
struct CostProfile {
  double dense_row_ns = 42;          ///< a row of the exact pass over all rows
  double query_vector_ns = 5;        ///< what each query vector beyond the group's four adds to a row
  double gathered_row_ns = 130;      ///< a selected row
  double scanned_row_1bit_ns = 3.2;  ///< a code of the sketch, 1 bit per dimension
  double scanned_row_2bit_ns = 4.8;  ///< likewise, 2 bits
  double scored_row_ns = 90;         ///< a row that top-k scores and ranks
  double table_row_ns = 0.6;         ///< a visible row that LSH tables may have marked
  double table_id_ns = 0.6;          ///< a row id read from a bucket, for one head
  double table_read_ns = 170;        ///< opening one bucket of one table, for one head
  double selection_ns = 45000;  ///< a selection beside what grows with the rows: transforming queries, pilot, merging
  double lsh_bit_agreement = 0.52;  ///< probability that a sign bit of a query equals that of a key, over all keys

  friend bool operator==(const CostProfile&, const CostProfile&) = default;
};

/// Every field by its name, which is also that of the JSON object, and the values that it may have.
struct CostField {
  const char* name;
  double CostProfile::*value;
  double least = 1e-3;
  double most = 1e9;
};
inline constexpr std::array kCostFields = {
    CostField{"dense_row_ns", &CostProfile::dense_row_ns},
    CostField{"query_vector_ns", &CostProfile::query_vector_ns},
    CostField{"gathered_row_ns", &CostProfile::gathered_row_ns},
    CostField{"scanned_row_1bit_ns", &CostProfile::scanned_row_1bit_ns},
    CostField{"scanned_row_2bit_ns", &CostProfile::scanned_row_2bit_ns},
    CostField{"scored_row_ns", &CostProfile::scored_row_ns},
    CostField{"table_row_ns", &CostProfile::table_row_ns},
    CostField{"table_id_ns", &CostProfile::table_id_ns},
    CostField{"table_read_ns", &CostProfile::table_read_ns},
    CostField{"selection_ns", &CostProfile::selection_ns},
    CostField{"lsh_bit_agreement", &CostProfile::lsh_bit_agreement, 0.4, 1.0},
};

/// Throws Error(invalid_argument) naming the field, the value and what is allowed.
void validate(const CostProfile& profile);

}  // namespace tandem::lsh
