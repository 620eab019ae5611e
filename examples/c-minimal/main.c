/* The smallest C program that runs an artifact, without CMake and without the heap:
 *
 *   cc -std=c99 -O2 -I cpp_runtime/include examples/c-minimal/main.c \
 *      cpp_runtime/src/[a-z]*.c -pthread -lm -o minimal && ./minimal model.edgeq
 *
 * It runs the model once on zeros and prints the first values of its first output. */
#include <stdint.h>
#include <stdio.h>

#include "edgeq/edgeq.h"

enum { ARENA_SIZE = 16 << 20 };
static uint8_t arena[ARENA_SIZE] __attribute__((aligned(EDGEQ_ALIGNMENT)));

static int fail(edgeq_status status, const char *detail) {
  fprintf(stderr, "%s: %s\n", edgeq_status_string(status), detail);
  return 2;
}

int main(int argc, char **argv) {
  edgeq_model model;
  edgeq_context context;
  edgeq_tensor_info output;
  edgeq_status status = edgeq_model_load(&model, argc > 1 ? argv[1] : "model.edgeq", NULL);
  if (status != EDGEQ_OK) {
    return fail(status, model.detail);
  }
  status = edgeq_context_init(&context, &model, arena, sizeof arena, NULL);
  if (status == EDGEQ_OK) {
    status = edgeq_run(&context); /* the arena is zero, so the inputs are */
  }
  if (status != EDGEQ_OK) {
    return fail(status, context.detail);
  }
  edgeq_output_info(&model, 0, &output);
  const uint8_t *values = edgeq_output(&context, 0);
  printf("%s:", output.name);
  for (uint64_t i = 0; i < output.arena_size && i < 16; i++) {
    printf(" %02x", (unsigned)values[i]);
  }
  printf("\n");
  edgeq_model_free(&model);
  return 0;
}
