// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The kernels of a cubin (an ELF file) and how many bytes of parameters each takes, for the fake driver.

#include <elf.h>

#include <cstring>
#include <map>
#include <string>

namespace fake_cuda {

/// Kernel name -> bytes of parameters; empty for what is no cubin.
inline std::map<std::string, unsigned> kernels_of(const void* image) {
  std::map<std::string, unsigned> kernels;
  const auto* file = static_cast<const unsigned char*>(image);
  Elf64_Ehdr header;
  std::memcpy(&header, file, sizeof header);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != 190) return kernels;
  const auto section = [&](unsigned index) {
    Elf64_Shdr s;
    std::memcpy(&s, file + header.e_shoff + index * sizeof s, sizeof s);
    return s;
  };
  const Elf64_Shdr names = section(header.e_shstrndx);
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr s = section(i);
    const std::string name = reinterpret_cast<const char*>(file + names.sh_offset + s.sh_name);
    if (name.rfind(".nv.info.", 0) != 0) continue;
    unsigned bytes = 0;
    // Records: format, attribute, then a 16-bit value or (format 4) a 16-bit size and that many bytes. Attribute 0x17: a parameter, its bytes in
    // the upper bits of the last word (0x19, of all of them, counts what alignment puts before the first).
    for (std::size_t at = 0; at + 4 <= s.sh_size;) {
      const unsigned char* record = file + s.sh_offset + at;
      std::uint16_t value;
      std::memcpy(&value, record + 2, 2);
      if (record[0] == 4 && record[1] == 0x17 && value == 12) {
        std::uint32_t last;
        std::memcpy(&last, record + 12, 4);
        bytes += last >> 18;
      }
      at += record[0] == 4 ? 4u + value : 4u;
    }
    kernels[name.substr(9)] = bytes;
  }
  return kernels;
}

}  // namespace fake_cuda
