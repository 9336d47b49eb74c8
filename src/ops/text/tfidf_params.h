// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the kernels of TfIdfVectorizer, shared by host and device code: read by NVRTC too, so it includes nothing.
//
// The n-grams are a tree whose edges are tokens. Its nodes are numbered level by level, so that edge e leads to node e + 1; node 0 is the root.

namespace lathe::cuda {

enum TfIdfMode : int { kTfIdfTf, kTfIdfIdf, kTfIdfTfIdf };

constexpr int kTfIdfThreads = 256;

struct TfIdfParams {
  const void* x = nullptr;               ///< tokens
  const int* edges = nullptr;            ///< [nodes + 1]: where each node's edges begin
  const long long* tokens = nullptr;     ///< [edges]: of a node's they ascend
  const int* grams = nullptr;            ///< [nodes]: the n-gram that ends there, or -1
  const float* weights = nullptr;        ///< [n-grams], which lie by coordinate, equal ones in the model's order
  const int* starts = nullptr;           ///< [used + 1]: where each used coordinate's n-grams begin
  const int* coordinates = nullptr;      ///< [used]
  unsigned long long* counts = nullptr;  ///< [rows of a round, n-grams]
  void* y = nullptr;
  long long x_row = 0, x_column = 1, y_row = 0, y_column = 1;  ///< steps in elements
  long long length = 0, skips = 0;                             ///< tokens of a row; how many may lie between two of an n-gram
  long long first = 0;                                         ///< row of the round
  int wide = 0, y_type = 0;                                    ///< tokens of int64; ElementType
  int mode = 0, shortest = 1, longest = 0;                     ///< longest: no longer than the tree is deep
  int count = 0, used = 0;                                     ///< n-grams, coordinates that they have
  int cleared = 0;                                             ///< elements of a row that are zeroed first: all, or none where each is written
};

}  // namespace lathe::cuda
