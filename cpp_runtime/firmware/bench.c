/* The firmware of `edgeq bench`: runs every golden vector of a model and compares the outputs byte by byte.
 * Prints "runs N", "different N" (output bytes) and "stack BYTES". */
#include <stddef.h>
#include <stdint.h>

#include "edgeq_static.h"
#include "semihost.h"

extern const edgeq_static_model EDGEQ_MODEL;
extern uint8_t edgeq_arena[], edgeq_fast_arena[];

enum { PAINT = 0xa5, OWN_FRAME = 64, STACK_BYTES = 8192 };

void edgeq_exit(int code) __attribute__((noreturn));
void edgeq_exit(int code) {
  edgeq_semihost_exit(code);
}

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int byte, size_t size);
void *memmove(void *to, const void *from, size_t size);

/* Word by word where both sides allow it. Built so that the compiler doesn't make calls of them again. */
void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  uint8_t *t = to;
  const uint8_t *f = from;
  if ((((uintptr_t)t | (uintptr_t)f) & 3u) == 0) {
    for (; size >= 4; size -= 4, t += 4, f += 4) {
      *(uint32_t *)(void *)t = *(const uint32_t *)(const void *)f;
    }
  }
  for (; size != 0; size--) {
    *t++ = *f++;
  }
  return to;
}

void *memset(void *to, int byte, size_t size) {
  uint8_t *t = to;
  const uint32_t word = (uint8_t)byte * 0x01010101u;
  for (; size != 0 && ((uintptr_t)t & 3u) != 0; size--) {
    *t++ = (uint8_t)byte;
  }
  for (; size >= 4; size -= 4, t += 4) {
    *(uint32_t *)(void *)t = word;
  }
  for (; size != 0; size--) {
    *t++ = (uint8_t)byte;
  }
  return to;
}

void *memmove(void *to, const void *from, size_t size) {
  uint8_t *t = to;
  const uint8_t *f = from;
  if ((uintptr_t)t - (uintptr_t)f >= size) {
    for (size_t i = 0; i < size; i++) {
      t[i] = f[i];
    }
    return to;
  }
  for (size_t i = size; i > 0; i--) {
    t[i - 1] = f[i - 1];
  }
  return to;
}

/* Both are called from main, as the model is: they begin at the same depth. */
static __attribute__((noinline)) void paint_stack(void) {
  volatile uint8_t *const top = (uint8_t *)__builtin_frame_address(0) - OWN_FRAME;
  for (size_t depth = 1; depth <= STACK_BYTES; depth++) {
    *(top - depth) = PAINT;
  }
}

static __attribute__((noinline)) uint32_t painted_over(void) {
  const volatile uint8_t *const top = (uint8_t *)__builtin_frame_address(0) - OWN_FRAME;
  size_t depth = STACK_BYTES;
  while (depth > 0 && *(top - depth) == PAINT) {
    depth--;
  }
  return (uint32_t)(depth == 0 ? 0 : depth + OWN_FRAME);
}

static void report(const char *what, uint32_t number) {
  edgeq_print(what);
  edgeq_print_number((int32_t)number);
  edgeq_print("\n");
}

int main(void) {
  const edgeq_static_model *const model = &EDGEQ_MODEL;
  const uint8_t *golden = model->golden;
  uint32_t different = 0, stack = 0;
  for (uint32_t run = 0; run < model->golden_count; run++) {
    for (uint32_t t = 0; t < model->input_count; t++) {
      memcpy(edgeq_arena + model->tensors[t].offset, golden, model->tensors[t].size);
      golden += model->tensors[t].size;
    }
    paint_stack();
    if (model->fast_arena_size != 0) {
      model->run_split(edgeq_arena, edgeq_fast_arena);
    } else {
      model->run(edgeq_arena);
    }
    const uint32_t used = painted_over();
    stack = used > stack ? used : stack;
    for (uint32_t t = model->input_count; t < model->input_count + model->output_count; t++) {
      const uint8_t *const made = edgeq_arena + model->tensors[t].offset;
      for (uint32_t i = 0; i < model->tensors[t].size; i++) {
        different += made[i] != golden[i];
      }
      golden += model->tensors[t].size;
    }
  }
  report("runs ", model->golden_count);
  report("different ", different);
  report("stack ", stack);
  return 0;
}
