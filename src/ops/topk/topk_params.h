// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the TopK kernels, shared by host and device code: read by NVRTC too, so it includes nothing.
//
// An element becomes an entry: a key that orders as the element does, and its place. Of 8 bytes of element: 64 bits of key and the place beside
// it; else one number, the key above the complement of the place. No two entries are equal, so any way of sorting gives the same result.

namespace lathe::cuda {

enum TopKType : int {
  kTopKFloat32,  // the first three as ElementType counts
  kTopKFloat16,
  kTopKBFloat16,
  kTopKFloat64,
  kTopKInt8,
  kTopKInt16,
  kTopKInt32,
  kTopKInt64,
  kTopKUint8,
  kTopKUint16,
  kTopKUint32,
  kTopKUint64,
  kTopKTypes
};

constexpr int kTopKAxes = 6;
/// Entries that a block sorts in shared memory, and those that a thread of a merge makes.
constexpr int kTopKChunk = 2048, kTopKMerged = 8, kTopKMergeThreads = 256;

/// Entries of all rows.
struct TopKEntries {
  unsigned long long* keys = nullptr;
  unsigned* places = nullptr;  ///< of keys of 64 bits
};

struct TopKParams {
  const void* x = nullptr;
  void* values = nullptr;        ///< or null
  long long* indices = nullptr;  ///< or null
  int type = kTopKFloat32, value_type = kTopKFloat32;
  int largest = 1;
  // Rows: the other axes, outermost first; steps in elements.
  int axes = 0;
  int extent[kTopKAxes] = {};
  long long x_step[kTopKAxes] = {}, value_step[kTopKAxes] = {}, index_step[kTopKAxes] = {};
  long long x_along = 1, value_along = 1, index_along = 1;

  // One level: pieces of a row, each sorted on its own (or two merged), and the best `keep` of each go on.
  TopKEntries from, to;
  long long from_row = 0, to_row = 0;  ///< entries between rows
  int first = 1;                       ///< reads x, not `from`
  int last = 1;                        ///< writes values and indices, not `to`
  int rows = 0, pieces = 1;            ///< a row
  int count = 0;                       ///< entries of a row
  int piece = 0;                       ///< entries of a piece, the row's last may have fewer; merging: of one of its two runs
  int keep = 0;                        ///< of a piece, at most: those of one piece stand directly behind those of the one before
  int size = 2;                        ///< sorting: the power of two that a piece fills
  int tiles = 1;                       ///< merging: blocks a piece
};

}  // namespace lathe::cuda
