// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// How the files of the C API fail: no exception leaves a function, and the message of the last failure is kept per thread.

#include <exception>
#include <new>
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

}  // namespace lathe::api
