/* A model as a static library (`edgeq compile --format static`): its descriptor, for code that serves any model.
 *
 * Nothing here allocates, locks or calls the system. The caller gives the arena. model.h, which is generated beside
 * each library, has the same facts as macros and needs no descriptor. */
#ifndef EDGEQ_STATIC_H
#define EDGEQ_STATIC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EDGEQ_STATIC_VERSION 2u
#define EDGEQ_STATIC_MAX_RANK 8

/* An input or output. Real value = scale * (q - zero_point), q dense in C order at arena + offset.
 * dtype: EDGEQ_INT8 … EDGEQ_INT64 of artifact.h (1 int8, 2 uint8, 3 int16, 4 int32, 5 int64). */
typedef struct edgeq_static_tensor {
  const char *name;
  uint8_t dtype;
  uint8_t rank;
  uint16_t item_size; /* bytes */
  int32_t shape[EDGEQ_STATIC_MAX_RANK];
  float scale;
  int32_t zero_point;
  uint32_t offset; /* bytes from the start of the arena */
  uint32_t size;   /* bytes */
} edgeq_static_tensor;

/* A model. Inputs, then outputs, in `tensors`. Golden vectors are the bytes of every input, then of every output. */
typedef struct edgeq_static_model {
  uint32_t version; /* EDGEQ_STATIC_VERSION */
  uint32_t arena_size, arena_alignment;
  uint32_t stack_size; /* bytes that `run` takes at most, its own frame included; 0: not known (C source) */
  uint32_t input_count, output_count, step_count, golden_count;
  const char *name;
  const edgeq_static_tensor *tensors;
  const uint8_t *golden;    /* NULL where the library's golden object isn't linked */
  void (*run)(void *arena); /* NULL where there is a second arena */
  /* A second arena, for the fast memory, aligned as the first: bytes (0: there is none), and what runs with both. */
  uint32_t fast_arena_size;
  void (*run_split)(void *arena, void *fast_arena);
} edgeq_static_model;

#ifdef __cplusplus
}
#endif

#endif
