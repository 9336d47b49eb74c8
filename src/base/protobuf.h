// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// protozero for hostile files: a field of the wrong wire type is an error in every build (as delivered it is an assertion, hence an abort in
// debug builds and a misreading elsewhere). Include this, never protozero itself: its functions are inline, and of two forms of one the
// linker keeps either.

#include <protozero/exception.hpp>

namespace lathe {

struct WrongWireType : protozero::exception {
  const char* what() const noexcept override { return "a field has another type than the format gives it"; }
};

}  // namespace lathe

#define protozero_assert(condition) ((condition) ? void() : throw ::lathe::WrongWireType())
#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>
