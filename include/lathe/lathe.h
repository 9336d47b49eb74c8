/* SPDX-FileCopyrightText: Lathe contributors
 * SPDX-License-Identifier: Apache-2.0
 *
 * Lathe's C API: the ABI-stable surface. Handles are opaque; every call that can fail returns a status, and lathe_last_error() gives the
 * calling thread's last message. Structs begin with their own size, so that later versions can add fields: fill them with the *_init
 * functions. Strings are UTF-8 and belong to the handle that they came from.
 *
 *   lathe_engine* engine = NULL;
 *   if (lathe_engine_load("model.engine", &engine) != LATHE_OK) { puts(lathe_last_error()); return 1; }
 */
#ifndef LATHE_LATHE_H
#define LATHE_LATHE_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define LATHE_C_API __declspec(dllexport)
#else
#define LATHE_C_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The values of lathe::Code. */
typedef enum lathe_status {
  LATHE_OK = 0,
  LATHE_INVALID_MODEL = 1,
  LATHE_INVALID_ARGUMENT = 2,
  LATHE_UNSUPPORTED = 3,
  LATHE_CORRUPT_FILE = 4,
  LATHE_IO = 5,
  LATHE_OUT_OF_MEMORY = 6,
  LATHE_MACHINE = 7,
  LATHE_CANCELLED = 8,
  LATHE_VERIFICATION = 9,
  LATHE_INTERNAL = 10
} lathe_status;

/* Element types have the numbers of ONNX TensorProto.DataType; the common ones by name. */
enum {
  LATHE_FLOAT32 = 1,
  LATHE_UINT8 = 2,
  LATHE_INT8 = 3,
  LATHE_INT32 = 6,
  LATHE_INT64 = 7,
  LATHE_BOOL = 9,
  LATHE_FLOAT16 = 10,
  LATHE_FLOAT64 = 11,
  LATHE_BFLOAT16 = 16
};

typedef struct lathe_engine lathe_engine;
typedef struct lathe_context lathe_context;

/* A dense row-major tensor in the caller's memory. */
typedef struct lathe_tensor {
  void* data;
  int32_t dtype;
  int32_t rank;
  const int64_t* shape;
} lathe_tensor;

/* Extents of one input: rank numbers each; min and max may be NULL (equal to opt). */
typedef struct lathe_input_shape {
  const char* name;
  int32_t rank;
  const int64_t* min;
  const int64_t* opt;
  const int64_t* max;
} lathe_input_shape;

/* Return 0 to cancel. `seconds_left` is negative when unknown. */
typedef int (*lathe_progress_fn)(void* user, const char* phase, int64_t done, int64_t total, double seconds_left);

typedef struct lathe_build_config {
  size_t struct_size;
  const char* device;    /* "cpu" */
  const char* precision; /* "fp32", "bf16", "fp16" */
  double budget_seconds; /* 0 = modelled costs only */
  int32_t exact;
  int32_t verify;
  int32_t use_cache;
  const lathe_input_shape* shapes;
  size_t shape_count;
  lathe_progress_fn progress; /* may be NULL */
  void* progress_user;
  const char* libraries; /* NVIDIA's that steps on cuda may depend on: "none", "cublaslt", "cudnn", "cublaslt,cudnn" */
} lathe_build_config;

typedef struct lathe_io_info {
  size_t struct_size;
  const char* name;
  int32_t dtype;
  int32_t rank;
  const int64_t* shape;          /* -1 where symbolic */
  const char* const* shape_text; /* the extent or its expression */
} lathe_io_info;

LATHE_C_API const char* lathe_version(void);
/* The calling thread's last failure: what, where, what to do. "" when nothing failed yet. Valid until the thread's next failing call. */
LATHE_C_API const char* lathe_last_error(void);

/* Level 0 error, 1 warning, 2 info, 3 debug. Calls may come from several threads at once. */
typedef void (*lathe_log_fn)(void* user, int32_t level, const char* message);
/* Where messages of `level` and graver ones go instead of stderr; `log` NULL: back to stderr. */
LATHE_C_API void lathe_set_log(lathe_log_fn log, void* user, int32_t level);

/* What is wrong with an ONNX file: see lathe/check.h. The texts are one as `lathe check` prints it and one in JSON. */
typedef struct lathe_check_report lathe_check_report;
LATHE_C_API lathe_status lathe_check(const char* onnx_file, lathe_check_report** report);
LATHE_C_API lathe_status lathe_check_bytes(const void* onnx, size_t bytes, lathe_check_report** report);
/* The file is valid when there are no errors. */
LATHE_C_API size_t lathe_check_errors(const lathe_check_report* report);
LATHE_C_API size_t lathe_check_warnings(const lathe_check_report* report);
LATHE_C_API const char* lathe_check_text(const lathe_check_report* report);
LATHE_C_API const char* lathe_check_json(const lathe_check_report* report);
LATHE_C_API void lathe_check_destroy(lathe_check_report* report);

/* Defaults, in the first `struct_size` bytes alone: sizeof *config of the caller, whose header may be older. So for all that follow. */
LATHE_C_API void lathe_build_config_init(lathe_build_config* config, size_t struct_size);
/* `config` may be NULL: the defaults. */
LATHE_C_API lathe_status lathe_build(const char* onnx_file, const lathe_build_config* config, lathe_engine** engine);
LATHE_C_API lathe_status lathe_build_bytes(const void* onnx, size_t bytes, const lathe_build_config* config, lathe_engine** engine);

LATHE_C_API lathe_status lathe_engine_load(const char* file, lathe_engine** engine);
LATHE_C_API lathe_status lathe_engine_load_bytes(const void* data, size_t bytes, lathe_engine** engine);
/* The same, but on `device` ("cpu", "cuda", "cuda:N") or not at all: LATHE_MACHINE when the engine has no section that runs there. NULL or "": as above. */
LATHE_C_API lathe_status lathe_engine_load_on(const char* file, const char* device, lathe_engine** engine);
LATHE_C_API lathe_status lathe_engine_save(const lathe_engine* engine, const char* file);
/* NULL is allowed. Contexts keep what they need alive. */
LATHE_C_API void lathe_engine_destroy(lathe_engine* engine);

LATHE_C_API size_t lathe_engine_input_count(const lathe_engine* engine);
LATHE_C_API size_t lathe_engine_output_count(const lathe_engine* engine);
/* Set info->struct_size first (lathe_io_info_init does). */
LATHE_C_API void lathe_io_info_init(lathe_io_info* info, size_t struct_size);
LATHE_C_API lathe_status lathe_engine_input(const lathe_engine* engine, size_t index, lathe_io_info* info);
LATHE_C_API lathe_status lathe_engine_output(const lathe_engine* engine, size_t index, lathe_io_info* info);
LATHE_C_API const char* lathe_engine_section(const lathe_engine* engine);
LATHE_C_API const char* lathe_engine_report_json(const lathe_engine* engine);

/* One per thread; a context must not be used by two threads at once. */
LATHE_C_API lathe_status lathe_context_create(const lathe_engine* engine, lathe_context** context);
/* Activations come from the caller's functions, which may be called from several threads at once: `allocate` returns at least `bytes`
 * bytes aligned to `alignment` (a power of two, at most 4096), or NULL. They must work until the context is destroyed. */
typedef struct lathe_allocator {
  size_t struct_size;
  void* user;
  void* (*allocate)(void* user, size_t bytes, size_t alignment);
  void (*deallocate)(void* user, void* pointer, size_t bytes);
} lathe_allocator;
LATHE_C_API void lathe_allocator_init(lathe_allocator* allocator, size_t struct_size);
LATHE_C_API lathe_status lathe_context_create_with(const lathe_engine* engine, const lathe_allocator* allocator, lathe_context** context);
LATHE_C_API void lathe_context_destroy(lathe_context* context);
/* Tensors in the order of the engine's inputs and outputs. `outputs` may be shorter than the engine's list, and an entry without data
 * stays in the context's own memory: see lathe_context_output. */
LATHE_C_API lathe_status lathe_context_run(lathe_context* context, const lathe_tensor* inputs, size_t input_count, const lathe_tensor* outputs,
                                           size_t output_count);
/* The same on a stream of the engine's GPU (a CUstream or cudaStream_t; (void*)1: the legacy default stream; NULL: the context's own). Returns
 * before the work is done when every tensor lies in the device's memory and the stream is the caller's. */
LATHE_C_API lathe_status lathe_context_run_on(lathe_context* context, const lathe_tensor* inputs, size_t input_count, const lathe_tensor* outputs,
                                              size_t output_count, void* stream);
/* Output of the last run; valid until the next one. */
LATHE_C_API lathe_status lathe_context_output(const lathe_context* context, size_t index, lathe_tensor* tensor);

#ifdef __cplusplus
}
#endif

#endif /* LATHE_LATHE_H */
