// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The list of candidates, gathered once from the generated list of folders.

#include <span>
#include <vector>

#include "ops/candidate.h"

namespace lathe::ops {

void add_builtin_candidates(void (*add)(std::span<const Candidate>));

namespace {

std::vector<const Candidate*>& storage() {
  static std::vector<const Candidate*> list;
  return list;
}

const std::vector<const Candidate*>& filled() {
  static const bool once = [] {
    add_builtin_candidates([](std::span<const Candidate> candidates) {
      for (const Candidate& candidate : candidates) storage().push_back(&candidate);
    });
    return true;
  }();
  (void)once;
  return storage();
}

}  // namespace

std::vector<const Candidate*> all_candidates() { return filled(); }

std::vector<const Candidate*> candidates_for(std::string_view pattern) {
  std::vector<const Candidate*> result;
  for (const Candidate* candidate : filled())
    if (candidate->pattern == pattern) result.push_back(candidate);
  return result;
}

}  // namespace lathe::ops
