/* Runs every step of an artifact once between two markers, for the counting plugin, and measures the stack it takes.
 * Zeros go in: no kernel branches on values. Prints "stack BYTES". */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgeq/edgeq.h"
#include "mark.h"

enum { STACK_BYTES = 1 << 18, OWN_FRAME = 128, PAINT = 0xa5 };

static void check(edgeq_status status, const char *detail) {
  if (status != EDGEQ_OK) {
    fprintf(stderr, "edgeq-count: %s: %s\n", edgeq_status_string(status), detail);
    exit(2);
  }
}

static __attribute__((noinline)) int32_t run_steps(const edgeq_context *context) {
  const edgeq_model *model = context->model;
  edgeq_step_info info;
  int32_t code = 0;
  for (uint32_t index = 0; code == 0 && edgeq_step_info_get(model, index, &info) == EDGEQ_OK; index++) {
    EDGEQ_MARK_BEGIN();
    code = model->step((int32_t)index, 0, (int32_t)info.tasks, 0, context->arena, model->weights);
    EDGEQ_MARK_END();
  }
  return code;
}

/* The two functions below and run_steps are called from one frame, so all three begin at the same depth: what lies
 * below is painted first and read afterwards. The first bytes hold the frames of the painting functions themselves. */
static __attribute__((noinline)) void paint_stack(void) {
  volatile uint8_t *const top = (uint8_t *)__builtin_frame_address(0) - OWN_FRAME;
  for (size_t depth = 1; depth <= STACK_BYTES; depth++) {
    *(top - depth) = PAINT;
  }
}

static __attribute__((noinline)) size_t painted_over(void) {
  const volatile uint8_t *const top = (uint8_t *)__builtin_frame_address(0) - OWN_FRAME;
  size_t depth = STACK_BYTES;
  while (depth > 0 && *(top - depth) == PAINT) {
    depth--;
  }
  return depth + OWN_FRAME;
}

int main(int count, char **arguments) {
  edgeq_model model;
  edgeq_context context;
  void *arena;
  if (count != 2) {
    fputs("usage: edgeq-count MODEL.edgeq\n", stderr);
    return 2;
  }
  memset(&model, 0, sizeof model);
  memset(&context, 0, sizeof context);
  check(edgeq_model_load(&model, arguments[1], NULL), model.detail);
  const size_t size = edgeq_arena_size(&model);
  if (posix_memalign(&arena, EDGEQ_ALIGNMENT, size) != 0) {
    fprintf(stderr, "edgeq-count: no memory for an arena of %zu bytes\n", size);
    return 2;
  }
  memset(arena, 0, size);
  check(edgeq_context_init(&context, &model, arena, size, NULL), context.detail);
  paint_stack();
  const int32_t code = run_steps(&context);
  const size_t stack = painted_over();
  if (code != 0) {
    fprintf(stderr, "edgeq-count: a step ended with code %" PRId32 "\n", code);
    return 2;
  }
  printf("stack %zu\n", stack);
  free(arena);
  edgeq_model_free(&model);
  return 0;
}
