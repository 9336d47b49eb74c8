# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""PyCUDA's memory, copies, streams and events, as far as scripts around TensorRT use them. No kernels are compiled. See lathe.compat."""

VERSION = (2022, 2, 2)
VERSION_STATUS = ""
VERSION_TEXT = "2022.2.2"
