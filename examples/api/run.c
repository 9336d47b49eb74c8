/* SPDX-FileCopyrightText: Lathe contributors
 * SPDX-License-Identifier: Apache-2.0
 * run M.onnx: builds an engine and runs it on ones, where its one input is float32. */
#include <stdio.h>
#include <stdlib.h>

#include "lathe/lathe.h"

static int failed(void) {
  fprintf(stderr, "%s\n", lathe_last_error());
  return 1;
}

int main(int argc, char** argv) {
  lathe_build_config config;
  lathe_engine* engine = NULL;
  lathe_context* context = NULL;
  lathe_io_info info;
  lathe_tensor input, output;
  if (argc != 2) return fputs("usage: run M.onnx\n", stderr), 2;

  lathe_build_config_init(&config, sizeof config);
  config.budget_seconds = 5;
  if (lathe_build(argv[1], &config, &engine) != LATHE_OK) return failed();
  if (lathe_engine_save(engine, "m.engine") != LATHE_OK) return failed();

  lathe_io_info_init(&info, sizeof info);
  if (lathe_engine_input(engine, 0, &info) != LATHE_OK) return failed();
  if (info.dtype != LATHE_FLOAT32) return fputs("the input is not float32\n", stderr), 1;
  int64_t shape[8], count = 1;
  for (int32_t axis = 0; axis < info.rank && axis < 8; ++axis) count *= shape[axis] = info.shape[axis] < 0 ? 2 : info.shape[axis]; /* free extents: 2 */
  float* ones = malloc((size_t)count * sizeof *ones);
  if (!ones) return 3;
  for (int64_t i = 0; i < count; ++i) ones[i] = 1;
  input.data = ones;
  input.dtype = LATHE_FLOAT32;
  input.rank = info.rank;
  input.shape = shape;

  /* One context for each thread; outputs stay in its memory. */
  if (lathe_context_create(engine, &context) != LATHE_OK) return failed();
  if (lathe_context_run(context, &input, 1, NULL, 0) != LATHE_OK) return failed();
  if (lathe_context_output(context, 0, &output) != LATHE_OK) return failed();
  printf("%d axes of type %d\n", (int)output.rank, (int)output.dtype);

  free(ones);
  lathe_context_destroy(context);
  lathe_engine_destroy(engine);
  return 0;
}
