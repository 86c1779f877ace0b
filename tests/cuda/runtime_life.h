#pragma once

#include <vector>

#include "cuda_emulator/emulator.h"
#include "tests/c_api/driver.h"

namespace c_api {

/// The tests' runtime with its windows on `device`.
inline td_config on(const char* device) {
  td_config c = config();
  c.device = device;
  c.device_timeout_ms = 600'000;  // an emulated device shares the processor with whatever else runs there
  return c;
}

/// A fresh machine whose streams are busy for a random time before each operation.
inline void start_machine(emulator::Progress progress) {
  emulator::Config machine;
  machine.progress = progress;
  machine.late_after_ms = 1;
  machine.max_delay_us = 50;
  emulator::reset(machine);
}

/// The outputs of a sequence that is filled, grows, forks and is cut.
inline std::vector<float> life(td_rt* rt) {
  std::vector<float> outputs;
  const auto keep = [&](const std::vector<float>& values) {
    outputs.insert(outputs.end(), values.begin(), values.end());
  };
  const td_seq a = create(rt);
  fill(rt, a, 150, 1);
  keep(attended(rt, a, 3));
  for (std::uint32_t i = 0; i < 4; ++i) {
    fill(rt, a, 1, 10 + i);
    keep(attended(rt, a, 1, 1));
  }
  td_seq b = 0;
  EXPECT_EQ(td_seq_fork(rt, a, 120, nullptr, &b), TD_OK) << td_last_error();
  EXPECT_EQ(td_seq_truncate(rt, a, 140), TD_OK) << td_last_error();
  fill(rt, b, 2, 20);
  keep(attended(rt, a));
  keep(attended(rt, b));
  return outputs;
}

}  // namespace c_api
