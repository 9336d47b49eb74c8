// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Marks what liblathe.so exports; everything else in the library is hidden.

#if defined(_WIN32)
#define LATHE_API __declspec(dllexport)
#else
#define LATHE_API [[gnu::visibility("default")]]
#endif
