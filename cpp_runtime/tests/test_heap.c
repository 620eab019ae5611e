/* Counts heap calls: none may happen between loading and freeing, on any thread. test_heap MODEL.edgeq */
#if !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE 1
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgeq/edgeq.h"

/* glibc's own functions behind the ones that this program replaces for itself and every library in it. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

static uint64_t calls;

static void count(void) {
  __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
}

void *malloc(size_t size) {
  count();
  return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
  count();
  return __libc_calloc(number, size);
}

void *realloc(void *memory, size_t size) {
  count();
  return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size) {
  count();
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  count();
  return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
  count();
  *memory = __libc_memalign(alignment, size);
  return *memory == NULL;
}

void free(void *memory) {
  count();
  __libc_free(memory);
}

static uint8_t arena[64 << 20] __attribute__((aligned(EDGEQ_ALIGNMENT)));

int main(int argc, char **argv) {
  edgeq_model model;
  edgeq_context context;
  edgeq_pool *pool = NULL;
  const uint64_t before_load = calls;
  if (argc != 2 || edgeq_model_load(&model, argv[1], NULL) != EDGEQ_OK) {
    return 2;
  }
  const uint64_t loading = calls - before_load;
  if (edgeq_pool_create(&pool, 4) != EDGEQ_OK ||
      edgeq_context_init(&context, &model, arena, sizeof arena, pool) != EDGEQ_OK) {
    return 2;
  }
  const uint64_t before = calls;
  uint64_t step_ns[4096];
  int good = edgeq_step_count(&model) <= 4096;
  for (int run = 0; run < 200 && good; run++) {
    good = edgeq_run(&context) == EDGEQ_OK && edgeq_run_profiled(&context, step_ns) == EDGEQ_OK &&
           edgeq_verify(&context, NULL) == EDGEQ_OK;
  }
  const uint64_t running = calls - before;
  edgeq_pool_free(pool);
  edgeq_model_free(&model);
  printf("heap calls while loading: %llu, while running: %llu\n", (unsigned long long)loading,
         (unsigned long long)running);
  return good && running == 0 ? 0 : 1;
}
