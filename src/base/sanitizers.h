// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which sanitizer this program is built with, for tests whose question a sanitizer takes away (it brings its own malloc, keeps freed memory,
// starts threads). g++ and clang tell it differently.

#if defined(__SANITIZE_ADDRESS__)
#define LATHE_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LATHE_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define LATHE_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LATHE_THREAD_SANITIZER 1
#endif
#endif

#ifndef LATHE_ADDRESS_SANITIZER
#define LATHE_ADDRESS_SANITIZER 0
#endif
#ifndef LATHE_THREAD_SANITIZER
#define LATHE_THREAD_SANITIZER 0
#endif
