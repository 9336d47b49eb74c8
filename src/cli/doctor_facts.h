// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What `lathe doctor` knows of a machine.

#include <nlohmann/json.hpp>

namespace lathe::cli {

/// Everything as JSON; what is broken is a fact like others. Takes well under a second, but for a Python that starts slowly.
nlohmann::json gather_facts();

/// GPUs that the driver shows; throws Error where it fails, and `why` says what is missing where there are none.
nlohmann::json describe_gpus(std::string* why);

}  // namespace lathe::cli
