// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The pattern "rnn": one LSTM, GRU or RNN node. The candidate is in rnn_candidates.cpp, the kernel in rnn_cpu.cpp; for GPUs see rnn_plan.h.

#include "backend/cpu/rnn.h"
#include "regions/match.h"

namespace lathe::regions {

std::vector<ops::Region> propose_rnn(const ir::Node& node);

/// What the node's attributes say (extents, strides and types are left to binding), or nullopt and in `why` what the kernels lack.
std::optional<cpu::RnnProblem> rnn_problem(std::string_view op, const ir::Attrs& attrs, std::string& why);

}  // namespace lathe::regions
