// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the files of the C API share. How they fail: no exception leaves a function, and the message of the last failure is kept per thread. How they
// read and write structs of the caller's.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "lathe/lathe.h"
#include "lathe/status.h"

namespace lathe::api {

/// Keeps the message for lathe_last_error().
lathe_status c_failed(Code code, std::string_view message) noexcept;

template <class F>
lathe_status c_guarded(F&& act) noexcept {
  try {
    act();
    return LATHE_OK;
  } catch (const Error& error) {
    return c_failed(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return c_failed(Code::kOutOfMemory, "the machine has not enough memory for this");
  } catch (const std::exception& error) {
    return c_failed(Code::kInternal, error.what());
  } catch (...) {
    return c_failed(Code::kInternal, "unexpected failure");
  }
}

inline void need(bool present, const char* what) {
  if (!present) throw Error(Code::kInvalidArgument, std::string(what) + " must not be NULL");
}

/// The first bytes of `defaults` into a caller's struct, which may be an older and shorter one. All of these structs begin with their size.
template <class Struct>
void init_struct(Struct* into, Struct defaults, std::size_t struct_size) noexcept {
  defaults.struct_size = std::min(struct_size, sizeof(Struct));
  if (into && struct_size >= sizeof(std::size_t)) std::memcpy(into, &defaults, defaults.struct_size);
}

/// What the caller's struct, as long as the header it was compiled with, says over the defaults in `into`. `least`: the bytes that the first version
/// of the struct had; `what` and `initialiser` for the error.
template <class Struct>
void read_struct(Struct& into, const Struct& given, std::size_t least, const char* what, const char* initialiser) {
  if (given.struct_size < least || given.struct_size > 4096)
    throw Error(Code::kInvalidArgument, std::string("struct_size of the ") + what + " is not set").with_remedy(std::string("Call ") + initialiser + " first.");
  std::memcpy(&into, &given, std::min(given.struct_size, sizeof into));
}

template <class View>
lathe_tensor tensor_of(const View& view) noexcept {
  return {const_cast<void*>(static_cast<const void*>(view.data)), static_cast<std::int32_t>(view.dtype), static_cast<std::int32_t>(view.shape.size()),
          view.shape.data()};
}

}  // namespace lathe::api
