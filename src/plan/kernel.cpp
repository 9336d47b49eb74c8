// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Layout questions about TensorDesc, and the registry of kernels and pack functions.

#include "plan/kernel.h"

#include <algorithm>
#include <map>

#include "plan/kernel_list.h"

namespace lathe::plan {

std::int64_t TensorDesc::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t extent : dims) count *= extent;
  return count;
}

TensorDesc TensorDesc::row_major(DType dtype, Dims dims) {
  TensorDesc desc{dtype, std::move(dims), {}};
  desc.strides.assign(desc.dims.size(), 1);
  std::int64_t stride = 1;
  for (std::size_t axis = desc.dims.size(); axis-- > 0;) {
    desc.strides[axis] = stride;
    stride *= std::max<std::int64_t>(desc.dims[axis], 1);
  }
  return desc;
}

bool TensorDesc::is_dense_row_major() const {
  if (elements() == 0) return true;  // of no element every order is every other
  std::int64_t stride = 1;
  for (std::size_t axis = dims.size(); axis-- > 0;) {
    if (dims[axis] != 1 && strides[axis] != stride) return false;
    stride *= dims[axis];
  }
  return true;
}

bool TensorDesc::is_channels_last() const {
  if (dims.size() < 3) return false;
  if (dims[1] > 1 && strides[1] != 1) return false;
  const std::size_t last = dims.size() - 1;
  std::int64_t stride = strides[last];
  if (stride < dims[1]) return false;
  for (std::size_t axis = last; axis >= 2; --axis) {
    if (dims[axis] > 1 && strides[axis] != stride) return false;
    stride *= dims[axis];
  }
  return dims[0] <= 1 || strides[0] == stride;
}

namespace {

struct Registry {
  std::map<std::string_view, const KernelType*> kernels;
  std::map<std::string_view, const PackFunction*> packs;
};

Registry& storage() {
  static Registry registry;
  return registry;
}

const Registry& registry() {
  static const bool once = [] {
    add_builtin_kernels([](const KernelSet& set) {
      for (const KernelType& kernel : set.kernels) storage().kernels.emplace(kernel.name, &kernel);
      for (const PackFunction& pack : set.packs) storage().packs.emplace(pack.name, &pack);
    });
    return true;
  }();
  (void)once;
  return storage();
}

}  // namespace

const KernelType* find_kernel(std::string_view name) {
  const auto found = registry().kernels.find(name);
  return found == registry().kernels.end() ? nullptr : found->second;
}

const PackFunction* find_pack_function(std::string_view name) {
  const auto found = registry().packs.find(name);
  return found == registry().packs.end() ? nullptr : found->second;
}

std::vector<const KernelType*> all_kernels() {
  std::vector<const KernelType*> list;
  for (const auto& [name, kernel] : registry().kernels) list.push_back(kernel);
  return list;
}

}  // namespace lathe::plan
