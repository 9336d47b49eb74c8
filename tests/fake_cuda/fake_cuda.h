/* SPDX-FileCopyrightText: Lathe contributors */
/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* What tests ask of the fake driver (fake_cuda.cpp): a libcuda without a GPU that checks every call. */

#include <cstddef>

extern "C" {
struct fake_cuda_live {
  std::size_t bytes, blocks, pinned_blocks, streams, events, modules, graphs, contexts, launches, graph_launches, captured;
};
/* What exists now; `launches` counts since the last reset. */
fake_cuda_live fake_cuda_count();
/* Wrong calls so far as text, one a line; "" when all were right. */
const char* fake_cuda_violations();
/* Forgets violations and counts; what lives goes on living. */
void fake_cuda_reset();
/* The `nth` next call of `name` (1 = the next) fails with `result`. */
void fake_cuda_fail(const char* name, int nth, int result);
/* Launches since the last reset whose parameters held an address inside the block that begins at `block`. */
std::size_t fake_cuda_launched_with(unsigned long long block);
/* Waits for an event that were enqueued on this stream since the last reset. */
std::size_t fake_cuda_waits(const void* stream);
/* Calls of `name` since the last reset. */
std::size_t fake_cuda_calls(const char* name);
/* Bytes of device memory; the default is 1 GiB. */
void fake_cuda_set_memory(std::size_t bytes);
/* What each byte of new device memory is, since nothing computes; the default is 0xA5. */
void fake_cuda_set_fill(int byte);
/* Ticks of the clock that a launch of a kernel of Lathe's takes; the default is none. */
void fake_cuda_set_launch_ticks(long ticks);
/* Ticks of a launch of kernels whose names hold `part`: `alone` in plain launches and in graphs of one kernel, `among` in graphs that other kernels
 * are in too. Of several parts that fit the longest counts. Work of other fake libraries is called "library". */
void fake_cuda_set_kernel_ticks(const char* part, long alone, long among);
/* Ticks by which a launch of a graph takes longer in every other stretch of four records of events; the default is none. */
void fake_cuda_set_slow_stretches(long ticks);

/* For other fake libraries. What they find wrong counts as a violation. */
void fake_cuda_violation(const char* call, const char* what);
int fake_cuda_has_context();
/* Is every byte from there inside one live block? */
int fake_cuda_covers(const void* pointer, std::size_t bytes);
/* Where a device pointer's bytes are on the host. */
void* fake_cuda_host(const void* pointer);
/* One piece of work is put on a stream: launched or captured. 0: there is such a stream. */
int fake_cuda_enqueue(void* stream);
}
