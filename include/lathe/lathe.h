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
  LATHE_OK = 0,               /* nothing failed */
  LATHE_INVALID_MODEL = 1,    /* the ONNX file breaks the format's or an operator's rules */
  LATHE_INVALID_ARGUMENT = 2, /* wrong name, shape, dtype or option given by the caller */
  LATHE_UNSUPPORTED = 3,      /* a valid model that needs something Lathe lacks */
  LATHE_CORRUPT_FILE = 4,     /* truncated or altered file */
  LATHE_IO = 5,               /* the operating system refused a read or a write */
  LATHE_OUT_OF_MEMORY = 6,    /* the host's or the device's memory does not suffice */
  LATHE_MACHINE = 7,          /* the machine lacks a feature, a device or a library */
  LATHE_CANCELLED = 8,        /* the progress function asked to stop */
  LATHE_VERIFICATION = 9,     /* the engine's numbers disagree with the oracle */
  LATHE_INTERNAL = 10         /* a broken promise inside Lathe; please report */
} lathe_status;

/* Element types have the numbers of ONNX TensorProto.DataType; the common ones by name. */
enum {
  LATHE_FLOAT32 = 1,  /* IEEE binary32 */
  LATHE_UINT8 = 2,    /* unsigned, 8 bits */
  LATHE_INT8 = 3,     /* signed, 8 bits */
  LATHE_INT32 = 6,    /* signed, 32 bits */
  LATHE_INT64 = 7,    /* signed, 64 bits */
  LATHE_BOOL = 9,     /* a byte, 0 or 1 */
  LATHE_FLOAT16 = 10, /* IEEE binary16 */
  LATHE_FLOAT64 = 11, /* IEEE binary64 */
  LATHE_BFLOAT16 = 16 /* the upper half of a binary32 */
};

/* An immutable program with its weights; threads share it. */
typedef struct lathe_engine lathe_engine;
/* One thread's activations for one engine. */
typedef struct lathe_context lathe_context;

/* A dense row-major tensor in the caller's memory. */
typedef struct lathe_tensor {
  void* data;           /* first element */
  int32_t dtype;        /* LATHE_FLOAT32, ... */
  int32_t rank;         /* number of axes */
  const int64_t* shape; /* `rank` extents */
} lathe_tensor;

/* Extents of one input: rank numbers each; min and max may be NULL (equal to opt). */
typedef struct lathe_input_shape {
  const char* name;   /* of the input */
  int32_t rank;       /* number of axes */
  const int64_t* min; /* least extents */
  const int64_t* opt; /* extents to tune for */
  const int64_t* max; /* greatest extents */
} lathe_input_shape;

/* Return 0 to cancel. `seconds_left` is negative when unknown. */
typedef int (*lathe_progress_fn)(void* user, const char* phase, int64_t done, int64_t total, double seconds_left);

/* How an engine is built; lathe_build_config_init gives the defaults of `lathe build`. */
typedef struct lathe_build_config {
  size_t struct_size;              /* set by lathe_build_config_init */
  const char* device;              /* "cpu", "cuda", "cuda:N" */
  const char* precision;           /* "fp32", "bf16"; on cuda also "tf32", "fp16" */
  double budget_seconds;           /* 0 = modelled costs only */
  int32_t exact;                   /* 1: forbid algorithms whose error is above plain summation's (Winograd) */
  int32_t verify;                  /* 1: hold the engine against the oracle; LATHE_VERIFICATION when it disagrees */
  int32_t use_cache;               /* 1: read and write this machine's tuning cache */
  const lathe_input_shape* shapes; /* limits and sizes to tune for; NULL: none */
  size_t shape_count;              /* how many */
  lathe_progress_fn progress;      /* may be NULL */
  void* progress_user;             /* first argument of `progress` */
  const char* libraries;           /* NVIDIA's that steps on cuda may depend on: "none", "cublaslt", "cudnn", "cublaslt,cudnn" */
  int32_t native;                  /* 1: on cuda keep machine code of fused regions in the engine, signed by this user's key */
} lathe_build_config;

/* An input or output as the model declares it. */
typedef struct lathe_io_info {
  size_t struct_size;            /* set by lathe_io_info_init */
  const char* name;              /* as the model has it */
  int32_t dtype;                 /* LATHE_FLOAT32, ... */
  int32_t rank;                  /* number of axes */
  const int64_t* shape;          /* -1 where symbolic */
  const char* const* shape_text; /* the extent or its expression */
} lathe_io_info;

/* "0.1.0" */
LATHE_C_API const char* lathe_version(void);
/* The calling thread's last failure: what, where, what to do. "" when nothing failed yet. Valid until the thread's next failing call. */
LATHE_C_API const char* lathe_last_error(void);

/* Level 0 error, 1 warning, 2 info, 3 debug. Calls may come from several threads at once. */
typedef void (*lathe_log_fn)(void* user, int32_t level, const char* message);
/* Where messages of `level` and graver ones go instead of stderr; `log` NULL: back to stderr. */
LATHE_C_API void lathe_set_log(lathe_log_fn log, void* user, int32_t level);

/* What is wrong with an ONNX file: see lathe/check.h. */
typedef struct lathe_check_report lathe_check_report;
/* Fails only where the file cannot be read at all: garbage is a defect like others. */
LATHE_C_API lathe_status lathe_check(const char* onnx_file, lathe_check_report** report);
/* The same for a model in memory. */
LATHE_C_API lathe_status lathe_check_bytes(const void* onnx, size_t bytes, lathe_check_report** report);
/* How many defects make the file invalid; 0: it is valid. */
LATHE_C_API size_t lathe_check_errors(const lathe_check_report* report);
/* How many do not. */
LATHE_C_API size_t lathe_check_warnings(const lathe_check_report* report);
/* As `lathe check` prints it; belongs to the report. */
LATHE_C_API const char* lathe_check_text(const lathe_check_report* report);
/* As `lathe check --json` prints it; belongs to the report. */
LATHE_C_API const char* lathe_check_json(const lathe_check_report* report);
/* NULL is allowed. */
LATHE_C_API void lathe_check_destroy(lathe_check_report* report);

/* Defaults, in the first `struct_size` bytes alone: sizeof *config of the caller, whose header may be older. So for all that follow. */
LATHE_C_API void lathe_build_config_init(lathe_build_config* config, size_t struct_size);
/* Reads an ONNX file, simplifies, times, verifies. `config` may be NULL: the defaults. */
LATHE_C_API lathe_status lathe_build(const char* onnx_file, const lathe_build_config* config, lathe_engine** engine);
/* The same from ONNX bytes, which are copied. */
LATHE_C_API lathe_status lathe_build_bytes(const void* onnx, size_t bytes, const lathe_build_config* config, lathe_engine** engine);

/* Maps an engine file: its first section that runs here, on the first GPU where it is for one. */
LATHE_C_API lathe_status lathe_engine_load(const char* file, lathe_engine** engine);
/* The same from memory, which is copied. */
LATHE_C_API lathe_status lathe_engine_load_bytes(const void* data, size_t bytes, lathe_engine** engine);
/* The same, but on `device` ("cpu", "cuda", "cuda:N") or not at all: LATHE_MACHINE when the engine has no section that runs there. NULL or "": as above. */
LATHE_C_API lathe_status lathe_engine_load_on(const char* file, const char* device, lathe_engine** engine);
/* Writes the file, whole or not at all. */
LATHE_C_API lathe_status lathe_engine_save(const lathe_engine* engine, const char* file);
/* NULL is allowed. Contexts keep what they need alive. */
LATHE_C_API void lathe_engine_destroy(lathe_engine* engine);

/* How many inputs there are. */
LATHE_C_API size_t lathe_engine_input_count(const lathe_engine* engine);
/* How many outputs there are. */
LATHE_C_API size_t lathe_engine_output_count(const lathe_engine* engine);
/* Empties *info and sets its size. */
LATHE_C_API void lathe_io_info_init(lathe_io_info* info, size_t struct_size);
/* Input `index` in the order of runs; info->struct_size must be set (lathe_io_info_init does). Strings belong to the engine. */
LATHE_C_API lathe_status lathe_engine_input(const lathe_engine* engine, size_t index, lathe_io_info* info);
/* Output `index`, likewise. */
LATHE_C_API lathe_status lathe_engine_output(const lathe_engine* engine, size_t index, lathe_io_info* info);
/* The section in use: tuned or generic, and why. */
LATHE_C_API const char* lathe_engine_section(const lathe_engine* engine);
/* The build report. */
LATHE_C_API const char* lathe_engine_report_json(const lathe_engine* engine);

/* One per thread; a context must not be used by two threads at once. */
LATHE_C_API lathe_status lathe_context_create(const lathe_engine* engine, lathe_context** context);
/* Activations come from the caller's functions, which may be called from several threads at once: `allocate` returns at least `bytes`
 * bytes aligned to `alignment` (a power of two, at most 4096), or NULL. They must work until the context is destroyed. */
typedef struct lathe_allocator {
  size_t struct_size;                                            /* set by lathe_allocator_init */
  void* user;                                                    /* first argument of both */
  void* (*allocate)(void* user, size_t bytes, size_t alignment); /* memory, or NULL */
  void (*deallocate)(void* user, void* pointer, size_t bytes);   /* gives it back */
} lathe_allocator;
/* Empties *allocator and sets its size. */
LATHE_C_API void lathe_allocator_init(lathe_allocator* allocator, size_t struct_size);
/* A context whose activations come from *allocator, which is copied. */
LATHE_C_API lathe_status lathe_context_create_with(const lathe_engine* engine, const lathe_allocator* allocator, lathe_context** context);
/* NULL is allowed. */
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

/* Operators of one's own: docs/custom_ops.md, and lathe/custom_op.h for what the texts say. */

/* A node's attributes, with the defaults of those that it leaves out. */
typedef struct lathe_attributes lathe_attributes;
/* LATHE_INVALID_ARGUMENT where there is no such attribute, or it is of another type. */
LATHE_C_API lathe_status lathe_attribute_int(const lathe_attributes* attributes, const char* name, int64_t* value);
/* Of type float or int. */
LATHE_C_API lathe_status lathe_attribute_float(const lathe_attributes* attributes, const char* name, double* value);
/* The list belongs to the attributes. */
LATHE_C_API lathe_status lathe_attribute_ints(const lathe_attributes* attributes, const char* name, const int64_t** values, size_t* count);
/* The same of floats. */
LATHE_C_API lathe_status lathe_attribute_floats(const lathe_attributes* attributes, const char* name, const float** values, size_t* count);
/* Bytes without a zero at the end. */
LATHE_C_API lathe_status lathe_attribute_string(const lathe_attributes* attributes, const char* name, const char** text, size_t* bytes);

/* One call of an operator: dense tensors in the node's order. One that is left out has no data and dtype 0. */
typedef struct lathe_custom_call {
  size_t struct_size;                 /* of the library's struct */
  const lathe_tensor* inputs;         /* only to be read */
  size_t input_count;                 /* how many */
  const lathe_tensor* outputs;        /* to be filled */
  size_t output_count;                /* how many */
  const lathe_attributes* attributes; /* with defaults */
} lathe_custom_call;

/* What a shape rule sees of a node. Extents are texts: numbers, or expressions over the model's free extents ("batch", "2*h + 1"). */
typedef struct lathe_custom_shapes lathe_custom_shapes;
/* Axes of an input; -1 where it is left out. */
LATHE_C_API int32_t lathe_shapes_rank(const lathe_custom_shapes* shapes, size_t input);
/* Its element type; 0 where it is left out. */
LATHE_C_API int32_t lathe_shapes_dtype(const lathe_custom_shapes* shapes, size_t input);
/* Valid while the rule runs; NULL where there is no such axis. */
LATHE_C_API const char* lathe_shapes_extent(const lathe_custom_shapes* shapes, size_t input, int32_t axis);
/* The node's attributes. */
LATHE_C_API const lathe_attributes* lathe_shapes_attributes(const lathe_custom_shapes* shapes);
/* Says what an output is: `rank` texts, that may hold + - *, floordiv(a, b), ceildiv(a, b), mod(a, b), min(a, b), max(a, b). dtype 0: what the texts
 * of the operator say. */
LATHE_C_API lathe_status lathe_shapes_output(lathe_custom_shapes* shapes, size_t output, int32_t dtype, int32_t rank, const char* const* extents);

/* An operator; lathe_custom_op_init gives defaults. domain, name and one of run and cuda must be given. */
typedef struct lathe_custom_op {
  size_t struct_size;     /* set by lathe_custom_op_init */
  const char* domain;     /* of the model's nodes */
  const char* name;       /* their op type */
  int32_t version;        /* of the domain, from which on models may use it */
  const char* inputs;     /* "x:T scale?:float rest*:T" */
  const char* outputs;    /* "y:T" */
  const char* types;      /* "T: float double" */
  const char* attributes; /* "alpha:float=1 axis:int" */
  const char* doc;        /* one line */
  /* Fills the outputs; NULL for success, else what went wrong. Several threads may be inside. */
  const char* (*run)(void* user, const lathe_custom_call* call);
  /* Says what the outputs are; the same. NULL: every output has the first input's shape. */
  const char* (*shape)(void* user, lathe_custom_shapes* shapes);
  void* user;            /* first argument of both; lives as long as the process */
  int32_t deterministic; /* 0: other outputs for the same inputs */
  const char* cuda;      /* source of a kernel, or NULL */
  int32_t cuda_block;    /* threads of a block */
  int32_t cuda_elements; /* of the first output for each thread; 0: a block for each */
} lathe_custom_op;

/* Defaults, in the first `struct_size` bytes. */
LATHE_C_API void lathe_custom_op_init(lathe_custom_op* op, size_t struct_size);
/* From now on models may use it; texts are copied. LATHE_INVALID_ARGUMENT for texts that say nothing, and for a name that is taken. */
LATHE_C_API lathe_status lathe_register_op(const lathe_custom_op* op);

#ifdef __cplusplus
}
#endif

#endif /* LATHE_LATHE_H */
