/* SPDX-FileCopyrightText: Lathe contributors
 * SPDX-License-Identifier: Apache-2.0
 *
 * The C API as a C program sees it: build from bytes, inspect, run, save, load, errors, progress and cancelling, allocator, log, threads. */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lathe/lathe.h"

static int failures = 0;

#define CHECK(condition)                                                                       \
  do {                                                                                         \
    if (!(condition)) {                                                                        \
      fprintf(stderr, "%s:%d: %s [%s]\n", __FILE__, __LINE__, #condition, lathe_last_error()); \
      ++failures;                                                                              \
    }                                                                                          \
  } while (0)

/* y = Relu(x) + {1, 2, 3, 4} for x: float[batch, 4]; made by onnx.helper, opset 17. */
static const unsigned char kModel[] = {
    0x08, 0x08, 0x3a, 0x73, 0x0a, 0x0c, 0x0a, 0x01, 0x78, 0x12, 0x01, 0x72, 0x22, 0x04, 0x52, 0x65, 0x6c, 0x75, 0x0a, 0x0e, 0x0a, 0x01, 0x72, 0x0a, 0x01,
    0x63, 0x12, 0x01, 0x79, 0x22, 0x03, 0x41, 0x64, 0x64, 0x12, 0x04, 0x74, 0x69, 0x6e, 0x79, 0x2a, 0x19, 0x08, 0x04, 0x10, 0x01, 0x22, 0x10, 0x00, 0x00,
    0x80, 0x3f, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x40, 0x40, 0x00, 0x00, 0x80, 0x40, 0x42, 0x01, 0x63, 0x5a, 0x18, 0x0a, 0x01, 0x78, 0x12, 0x13, 0x0a,
    0x11, 0x08, 0x01, 0x12, 0x0d, 0x0a, 0x07, 0x12, 0x05, 0x62, 0x61, 0x74, 0x63, 0x68, 0x0a, 0x02, 0x08, 0x04, 0x62, 0x18, 0x0a, 0x01, 0x79, 0x12, 0x13,
    0x0a, 0x11, 0x08, 0x01, 0x12, 0x0d, 0x0a, 0x07, 0x12, 0x05, 0x62, 0x61, 0x74, 0x63, 0x68, 0x0a, 0x02, 0x08, 0x04, 0x42, 0x04, 0x0a, 0x00, 0x10, 0x11,
};

static const float kInput[8] = {-1, 0, 1, 2, 3, -4, 5, -6};
static const float kExpected[8] = {1, 2, 4, 6, 4, 2, 8, 4};

static int count_calls(void* user, const char* phase, int64_t done, int64_t total, double seconds_left) {
  (void)seconds_left;
  if (!phase || done < 0 || total < 0) return 0;
  ++*(int*)user;
  return 1;
}

static int cancel_at_once(void* user, const char* phase, int64_t done, int64_t total, double seconds_left) {
  (void)user, (void)phase, (void)done, (void)total, (void)seconds_left;
  return 0;
}

/* Cancels at the phase whose name `user` is. */
static int cancel_in_phase(void* user, const char* phase, int64_t done, int64_t total, double seconds_left) {
  (void)done, (void)total, (void)seconds_left;
  return strcmp(phase, (const char*)user) != 0;
}

typedef struct memory {
  size_t calls, live, most;
} memory;

static void* take(void* user, size_t bytes, size_t alignment) {
  memory* m = (memory*)user;
  if (bytes > m->most) return NULL;
  ++m->calls;
  m->live += bytes;
  return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void give_back(void* user, void* pointer, size_t bytes) {
  ((memory*)user)->live -= bytes;
  free(pointer);
}

static void note(void* user, int32_t level, const char* message) {
  if (level >= 0 && level <= 3 && message && strlen(message) > 0) ++*(int*)user;
}

static void quick(lathe_build_config* config) {
  lathe_build_config_init(config, sizeof *config);
  config->budget_seconds = 0;
  config->use_cache = 0;
}

static void check_run(const lathe_engine* engine) {
  lathe_context* context = NULL;
  CHECK(lathe_context_create(engine, &context) == LATHE_OK);
  for (int64_t batch = 1; batch <= 2; ++batch) {
    const int64_t shape[2] = {batch, 4};
    float result[8] = {0};
    lathe_tensor input = {(void*)kInput, LATHE_FLOAT32, 2, shape}, output = {result, LATHE_FLOAT32, 2, shape};
    CHECK(lathe_context_run(context, &input, 1, &output, 1) == LATHE_OK);
    CHECK(memcmp(result, kExpected, (size_t)batch * 4 * sizeof(float)) == 0);
    CHECK(lathe_context_run(context, &input, 1, NULL, 0) == LATHE_OK);
    lathe_tensor own;
    CHECK(lathe_context_output(context, 0, &own) == LATHE_OK);
    CHECK(own.rank == 2 && own.shape[0] == batch && own.shape[1] == 4 && own.dtype == LATHE_FLOAT32);
    CHECK(memcmp(own.data, kExpected, (size_t)batch * 4 * sizeof(float)) == 0);
  }
  lathe_context_destroy(context);
}

static void* many_runs(void* engine) {
  for (int i = 0; i < 50; ++i) check_run((const lathe_engine*)engine);
  return NULL;
}

static void test_build_inspect_run(void) {
  lathe_build_config config;
  quick(&config);
  int calls = 0;
  config.progress = count_calls;
  config.progress_user = &calls;
  lathe_engine* engine = NULL;
  CHECK(lathe_build_bytes(kModel, sizeof kModel, &config, &engine) == LATHE_OK);
  if (!engine) return;
  CHECK(calls > 0);
  CHECK(lathe_engine_input_count(engine) == 1 && lathe_engine_output_count(engine) == 1);
  lathe_io_info info;
  lathe_io_info_init(&info, sizeof info);
  CHECK(lathe_engine_input(engine, 0, &info) == LATHE_OK);
  CHECK(strcmp(info.name, "x") == 0 && info.dtype == LATHE_FLOAT32 && info.rank == 2);
  CHECK(info.shape[0] == -1 && info.shape[1] == 4 && strcmp(info.shape_text[0], "batch") == 0 && strcmp(info.shape_text[1], "4") == 0);
  CHECK(lathe_engine_output(engine, 0, &info) == LATHE_OK && strcmp(info.name, "y") == 0);
  CHECK(lathe_engine_output(engine, 1, &info) == LATHE_INVALID_ARGUMENT);
  CHECK(strstr(lathe_engine_report_json(engine), "\"passed\":true") != NULL);
  CHECK(strstr(lathe_engine_section(engine), "cpu") != NULL);
  check_run(engine);

  char file[] = "/tmp/lathe-c-api-XXXXXX";
  const int fd = mkstemp(file);
  CHECK(fd >= 0);
  close(fd);
  CHECK(lathe_engine_save(engine, file) == LATHE_OK);
  lathe_engine_destroy(engine);
  engine = NULL;
  CHECK(lathe_engine_load(file, &engine) == LATHE_OK);
  if (engine) {
    check_run(engine);
    pthread_t threads[2];
    for (int i = 0; i < 2; ++i) CHECK(pthread_create(&threads[i], NULL, many_runs, engine) == 0);
    for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
    /* A context outlives the handle of its engine. */
    lathe_context* context = NULL;
    CHECK(lathe_context_create(engine, &context) == LATHE_OK);
    lathe_engine_destroy(engine);
    const int64_t shape[2] = {2, 4};
    lathe_tensor input = {(void*)kInput, LATHE_FLOAT32, 2, shape};
    CHECK(lathe_context_run(context, &input, 1, NULL, 0) == LATHE_OK);
    lathe_context_destroy(context);
  }
  FILE* from = fopen(file, "rb");
  static unsigned char bytes[1 << 20];
  const size_t size = from ? fread(bytes, 1, sizeof bytes, from) : 0;
  if (from) fclose(from);
  engine = NULL;
  CHECK(lathe_engine_load_bytes(bytes, size, &engine) == LATHE_OK);
  if (engine) check_run(engine);
  lathe_engine_destroy(engine);
  CHECK(lathe_engine_load_bytes(bytes, size / 2, &engine) == LATHE_CORRUPT_FILE);
  CHECK(strstr(lathe_last_error(), "cut short") != NULL);
  /* There or not at all. */
  CHECK(lathe_engine_load_on(file, "cpu", &engine) == LATHE_OK);
  if (engine) check_run(engine);
  lathe_engine_destroy(engine);
  engine = NULL;
  CHECK(lathe_engine_load_on(file, NULL, &engine) == LATHE_OK);
  lathe_engine_destroy(engine);
  engine = NULL;
  CHECK(lathe_engine_load_on(file, "abacus", &engine) == LATHE_INVALID_ARGUMENT && engine == NULL);
  CHECK(lathe_engine_load_on(file, "cuda:99", &engine) == LATHE_MACHINE && engine == NULL);
  unlink(file);
}

static void test_check(void) {
  lathe_check_report* report = NULL;
  CHECK(lathe_check_bytes(kModel, sizeof kModel, &report) == LATHE_OK);
  CHECK(lathe_check_errors(report) == 0 && lathe_check_warnings(report) == 0);
  CHECK(strstr(lathe_check_text(report), ": valid") != NULL);
  lathe_check_destroy(report);
  CHECK(lathe_check_bytes(kModel, sizeof kModel - 3, &report) == LATHE_OK);
  CHECK(lathe_check_errors(report) == 1 && strstr(lathe_check_json(report), "\"not-onnx\"") != NULL);
  lathe_check_destroy(report);
  lathe_check_destroy(NULL);
  CHECK(lathe_check("/no/such/model.onnx", &report) == LATHE_IO);
  CHECK(lathe_check(NULL, &report) == LATHE_INVALID_ARGUMENT);
}

/* A program compiled with an older, shorter header: nothing behind its struct is touched, and it builds. */
static void test_older_caller(void) {
  struct {
    lathe_build_config config;
    unsigned char behind[64];
  } older;
  const size_t size = offsetof(lathe_build_config, libraries);
  memset(&older, 0x5a, sizeof older);
  lathe_build_config_init(&older.config, size);
  CHECK(older.config.struct_size == size && older.config.verify == 1);
  for (size_t i = size; i < sizeof older; ++i) CHECK(((const unsigned char*)&older)[i] == 0x5a);
  older.config.budget_seconds = 0;
  lathe_engine* engine = NULL;
  CHECK(lathe_build_bytes(kModel, sizeof kModel, &older.config, &engine) == LATHE_OK && engine != NULL);
  lathe_engine_destroy(engine);
}

static void test_errors(void) {
  lathe_engine* engine = NULL;
  CHECK(lathe_engine_load("/no/such/file.engine", &engine) == LATHE_IO && engine == NULL);
  CHECK(strstr(lathe_last_error(), "/no/such/file.engine") != NULL);
  CHECK(lathe_build("/no/such/model.onnx", NULL, &engine) == LATHE_IO);
  CHECK(lathe_engine_load(NULL, &engine) == LATHE_INVALID_ARGUMENT);
  CHECK(lathe_engine_load("x", NULL) == LATHE_INVALID_ARGUMENT);
  lathe_build_config config;
  memset(&config, 0, sizeof config);
  CHECK(lathe_build_bytes(kModel, sizeof kModel, &config, &engine) == LATHE_INVALID_ARGUMENT);
  CHECK(strstr(lathe_last_error(), "lathe_build_config_init") != NULL);
  quick(&config);
  config.precision = "fp12";
  CHECK(lathe_build_bytes(kModel, sizeof kModel, &config, &engine) == LATHE_INVALID_ARGUMENT);
  CHECK(strstr(lathe_last_error(), "fp12") != NULL);
  quick(&config);
  config.progress = cancel_at_once;
  CHECK(lathe_build_bytes(kModel, sizeof kModel, &config, &engine) == LATHE_CANCELLED);
  quick(&config);
  const int64_t fixed[2] = {3, 4};
  const lathe_input_shape shape = {"x", 2, NULL, fixed, NULL};
  config.shapes = &shape;
  config.shape_count = 1;
  CHECK(lathe_build_bytes(kModel, sizeof kModel, &config, &engine) == LATHE_OK);
  if (!engine) return;
  lathe_context* context = NULL;
  CHECK(lathe_context_create(engine, &context) == LATHE_OK);
  lathe_tensor none;
  CHECK(lathe_context_output(context, 0, &none) == LATHE_INVALID_ARGUMENT);
  const int64_t other[2] = {2, 4};
  lathe_tensor input = {(void*)kInput, LATHE_FLOAT32, 2, other};
  CHECK(lathe_context_run(context, &input, 1, NULL, 0) == LATHE_INVALID_ARGUMENT);
  CHECK(strstr(lathe_last_error(), "'x'") != NULL && strstr(lathe_last_error(), "[3, 4]") != NULL);
  CHECK(lathe_context_run(context, NULL, 0, NULL, 0) == LATHE_INVALID_ARGUMENT);
  input.shape = fixed;
  input.dtype = LATHE_FLOAT64;
  CHECK(lathe_context_run(context, &input, 1, NULL, 0) == LATHE_INVALID_ARGUMENT);
  CHECK(strstr(lathe_last_error(), "double") != NULL);
  input.dtype = 12345;
  CHECK(lathe_context_run(context, &input, 1, NULL, 0) == LATHE_INVALID_ARGUMENT);
  lathe_context_destroy(context);
  lathe_engine_destroy(engine);
  lathe_engine_destroy(NULL);
  lathe_context_destroy(NULL);
}

static void test_cancel_in_every_phase(void) {
  static const char* const kPhases[] = {"reading", "simplifying", "timing candidates", "packing weights", "verifying"};
  for (size_t i = 0; i < sizeof kPhases / sizeof *kPhases; ++i) {
    lathe_build_config config;
    quick(&config);
    config.progress = cancel_in_phase;
    config.progress_user = (void*)kPhases[i];
    lathe_engine* engine = NULL;
    CHECK(lathe_build_bytes(kModel, sizeof kModel, &config, &engine) == LATHE_CANCELLED && engine == NULL);
  }
}

static void test_allocator_and_log(void) {
  int lines = 0;
  lathe_set_log(note, &lines, 3);
  lathe_build_config config;
  quick(&config);
  lathe_engine* engine = NULL;
  CHECK(lathe_build_bytes(kModel, sizeof kModel, &config, &engine) == LATHE_OK);
  lathe_set_log(NULL, NULL, 1);
  CHECK(lines > 0);
  if (!engine) return;
  memory counted = {0, 0, SIZE_MAX};
  lathe_allocator allocator;
  lathe_allocator_init(&allocator, sizeof allocator);
  lathe_context* context = NULL;
  CHECK(lathe_context_create_with(engine, &allocator, &context) == LATHE_INVALID_ARGUMENT && context == NULL);
  allocator.user = &counted;
  allocator.allocate = take;
  allocator.deallocate = give_back;
  CHECK(lathe_context_create_with(engine, &allocator, &context) == LATHE_OK);
  const int64_t shape[2] = {2, 4};
  lathe_tensor input = {(void*)kInput, LATHE_FLOAT32, 2, shape}, output;
  counted.most = 1;
  CHECK(lathe_context_run(context, &input, 1, NULL, 0) == LATHE_OUT_OF_MEMORY);
  counted.most = SIZE_MAX;
  CHECK(lathe_context_run(context, &input, 1, NULL, 0) == LATHE_OK);
  CHECK(lathe_context_output(context, 0, &output) == LATHE_OK && memcmp(output.data, kExpected, sizeof kExpected) == 0);
  CHECK(counted.calls > 0 && counted.live > 0);
  const size_t calls = counted.calls;
  CHECK(lathe_context_run(context, &input, 1, NULL, 0) == LATHE_OK && counted.calls == calls);
  lathe_context_destroy(context);
  CHECK(counted.live == 0);
  lathe_engine_destroy(engine);
}

/* y = x * alpha, twice as long as x. */
static const char* twice_run(void* user, const lathe_custom_call* call) {
  const float* x = (const float*)call->inputs[0].data;
  float* y = (float*)call->outputs[0].data;
  double alpha = 0;
  ++*(int*)user;
  if (call->input_count != 1 || call->output_count != 1 || call->outputs[0].shape[0] != 2 * call->inputs[0].shape[0]) return "it was given other tensors";
  if (lathe_attribute_float(call->attributes, "alpha", &alpha) != LATHE_OK) return lathe_last_error();
  if (lathe_attribute_float(call->attributes, "beta", &alpha) != LATHE_INVALID_ARGUMENT) return "there is no beta";
  for (int64_t i = 0; i < call->outputs[0].shape[0]; ++i) y[i] = (float)alpha * x[i / 2];
  return NULL;
}

static const char* twice_shape(void* user, lathe_custom_shapes* shapes) {
  char text[64];
  const char* extents[1] = {text};
  (void)user;
  if (lathe_shapes_rank(shapes, 0) != 1 || lathe_shapes_rank(shapes, 1) != -1 || lathe_shapes_extent(shapes, 0, 1) || !lathe_shapes_attributes(shapes))
    return "it takes one axis";
  snprintf(text, sizeof text, "2*(%s)", lathe_shapes_extent(shapes, 0, 0));
  return lathe_shapes_output(shapes, 0, lathe_shapes_dtype(shapes, 0), 1, extents) == LATHE_OK ? NULL : lathe_last_error();
}

/* y = c.test::Twice(x) {alpha=3} for x: float[n]; made by onnx.helper, opset 17. */
static const unsigned char kCustomModel[] = {
    0x08, 0x08, 0x3a, 0x48, 0x0a, 0x26, 0x0a, 0x01, 0x78, 0x12, 0x01, 0x79, 0x22, 0x05, 0x54, 0x77, 0x69, 0x63, 0x65, 0x2a, 0x0f, 0x0a, 0x05, 0x61,
    0x6c, 0x70, 0x68, 0x61, 0x15, 0x00, 0x00, 0x40, 0x40, 0xa0, 0x01, 0x01, 0x3a, 0x06, 0x63, 0x2e, 0x74, 0x65, 0x73, 0x74, 0x12, 0x01, 0x67, 0x5a,
    0x10, 0x0a, 0x01, 0x78, 0x12, 0x0b, 0x0a, 0x09, 0x08, 0x01, 0x12, 0x05, 0x0a, 0x03, 0x12, 0x01, 0x6e, 0x62, 0x09, 0x0a, 0x01, 0x79, 0x12, 0x04,
    0x0a, 0x02, 0x08, 0x01, 0x42, 0x04, 0x0a, 0x00, 0x10, 0x11, 0x42, 0x0a, 0x0a, 0x06, 0x63, 0x2e, 0x74, 0x65, 0x73, 0x74, 0x10, 0x01,
};

static void test_custom_op(void) {
  lathe_custom_op op;
  lathe_build_config config;
  lathe_engine* engine = NULL;
  lathe_context* context = NULL;
  lathe_tensor out;
  static int calls = 0;
  const float x[3] = {1, 2, 3};
  const int64_t shape[1] = {3};
  const lathe_tensor in = {(void*)x, LATHE_FLOAT32, 1, shape};
  lathe_custom_op_init(&op, sizeof op);
  CHECK(lathe_register_op(&op) == LATHE_INVALID_ARGUMENT);
  op.domain = "c.test";
  op.name = "Twice";
  op.types = "T: float";
  op.attributes = "alpha:float=1";
  op.run = twice_run;
  op.shape = twice_shape;
  op.user = &calls;
  CHECK(lathe_register_op(&op) == LATHE_OK);
  CHECK(lathe_register_op(&op) == LATHE_INVALID_ARGUMENT);
  CHECK(strstr(lathe_last_error(), "registered already") != NULL);
  lathe_build_config_init(&config, sizeof config);
  config.budget_seconds = 0;
  config.use_cache = 0;
  CHECK(lathe_build_bytes(kCustomModel, sizeof kCustomModel, &config, &engine) == LATHE_OK);
  if (!engine) return;
  CHECK(lathe_context_create(engine, &context) == LATHE_OK);
  CHECK(lathe_context_run(context, &in, 1, NULL, 0) == LATHE_OK);
  CHECK(lathe_context_output(context, 0, &out) == LATHE_OK);
  CHECK(out.rank == 1 && out.shape[0] == 6 && ((const float*)out.data)[5] == 9 && ((const float*)out.data)[0] == 3);
  CHECK(calls > 1);
  lathe_context_destroy(context);
  lathe_engine_destroy(engine);
}

int main(void) {
  CHECK(strcmp(lathe_version(), "0.1.0") == 0);
  CHECK(strcmp(lathe_last_error(), "") == 0);
  test_build_inspect_run();
  test_check();
  test_older_caller();
  test_errors();
  test_cancel_in_every_phase();
  test_allocator_and_log();
  test_custom_op();
  if (failures == 0) puts("c_api_test: all checks passed");
  return failures == 0 ? 0 : 1;
}
