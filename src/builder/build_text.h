// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The build report as text, from its JSON form: the one that an engine stores.

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace lathe::builder {

/// --explain: per region the candidates with times and reasons.
std::string explain_text(const nlohmann::json& report);
/// One line about the verification (`report["verify"]`).
std::string verify_text(const nlohmann::json& verify);
/// A table of tensors: the graph's outputs and what failed, or every region's output with `all`.
std::string verify_table(const nlohmann::json& verify, bool all);

}  // namespace lathe::builder
