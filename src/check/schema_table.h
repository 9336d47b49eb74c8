// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The schemas of all operators of the format, in every version, whether Lathe runs them or not: schemas.inc, parsed on demand by ops/schema.h.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ops/schema.h"

namespace lathe::checker {

struct SchemaVersion {
  ops::VersionDef text;
  bool experimental = false;
  bool unchecked = false;          ///< attributes that it does not define are allowed
  std::vector<int> output_counts;  ///< the allowed ones, where the signature alone would allow more
  const ops::Schema& schema() const;

 private:
  friend struct SchemaTable;
  std::string_view op_;
};

/// The version in force at `opset`; nullptr when the op is unknown or younger.
const SchemaVersion* find_schema(std::string_view domain, std::string_view op, std::int64_t opset);
/// since_version of the op's first version; 0 when the format has no such op.
int first_version(std::string_view domain, std::string_view op);
/// The newest opset of a domain of the format; 0 for domains of others.
int newest_opset(std::string_view domain);
/// "" or an op of the domain that is spelled nearly so.
std::string nearest_op(std::string_view domain, std::string_view op);
/// The candidate that is spelled most like `word`, if any is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace lathe::checker
