/* What the runtime's files share. Not installed. */
#ifndef EDGEQ_INTERNAL_H
#define EDGEQ_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "edgeq/edgeq.h"

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "artifacts are little-endian and are read in place"
#endif

#define INTERNAL __attribute__((visibility("hidden")))
#define PRINTF_LIKE(text, first) __attribute__((__format__(__printf__, text, first)))

/* Writes the sentence for people into `detail` [EDGEQ_DETAIL_SIZE] and returns `status`. */
INTERNAL edgeq_status edgeq_fail(char *detail, edgeq_status status, const char *format, ...) PRINTF_LIKE(3, 4);

/* Whether [offset, offset + size) lies inside [0, limit), without overflow. */
static inline int edgeq_inside(uint64_t offset, uint64_t size, uint64_t limit) {
  return offset <= limit && size <= limit - offset;
}

/* ---- image.c */

/* Checks every field of all images in `size` bytes. The machine code they point to isn't looked at. */
INTERNAL edgeq_status edgeq_images_check(char *detail, const edgeq_image *images, uint64_t size);

/* ---- program.c */

/* Points the model to the best variant of checked images that this CPU can run. */
INTERNAL edgeq_status edgeq_model_bind(edgeq_model *model, const edgeq_image *images);

/* EDGEQ_ERROR_CPU and the first feature of `needed` that this CPU hasn't, if there is one. */
INTERNAL edgeq_status edgeq_features_check(char *detail, uint64_t needed);

/* Where the code of an image lies. */
static inline uintptr_t edgeq_entry_of(const edgeq_image *image) {
  return (uintptr_t)&image->entry + (uintptr_t)image->entry;
}

static inline const char *edgeq_image_text(const edgeq_image *image, uint32_t offset) {
  return (const char *)image + image->strings + offset;
}

static inline const edgeq_tensor_record *edgeq_image_tensors(const edgeq_image *image) {
  return (const void *)((const uint8_t *)image + image->tensors);
}

INTERNAL uint32_t edgeq_dtype_size(uint32_t dtype); /* bytes, 0 if unknown */
INTERNAL uint64_t edgeq_tensor_count(const edgeq_tensor_record *tensor);
INTERNAL const edgeq_tensor_record *edgeq_tensor(const edgeq_model *model, int is_output, uint32_t index);
INTERNAL const edgeq_step_record *edgeq_steps(const edgeq_model *model);
INTERNAL const char *edgeq_text(const edgeq_model *model, uint32_t offset);

/* ---- pool.c */

/* Takes the pool for one run; 0 if another run has it. */
INTERNAL int edgeq_pool_acquire(edgeq_pool *pool);
INTERNAL void edgeq_pool_release(edgeq_pool *pool);
INTERNAL uint32_t edgeq_pool_threads(const edgeq_pool *pool);

/* A range of tasks of some job, in the scratch memory `slot`. Returns 0, or a code that ends the run. */
typedef int32_t edgeq_pool_work(const void *job, int32_t begin, int32_t end, int32_t slot);

/* Does `tasks` of a job in `chunks` (2 .. threads) ranges and waits for all. Returns the first code that isn't 0. */
INTERNAL int32_t edgeq_pool_run(edgeq_pool *pool, edgeq_pool_work *work, const void *job, uint32_t tasks,
                                uint32_t chunks);

/* Wakes the pool's threads: work is about to come. Without it they wake when it has come. */
INTERNAL void edgeq_pool_call(edgeq_pool *pool);

/* ---- convert.c: one tensor <-> dense values */
INTERNAL void edgeq_tensor_store(uint8_t *arena, const edgeq_tensor_record *tensor, const void *values);
INTERNAL void edgeq_tensor_load(const uint8_t *arena, const edgeq_tensor_record *tensor, void *values);
/* features: of the processor, EDGEQ_X86_AVX2 and so on, or of a variant that runs on it. */
INTERNAL void edgeq_tensor_quantize(uint8_t *arena, const edgeq_tensor_record *tensor, const float *values,
                                    uint64_t features);
/* Values begin .. end of a tensor that is dense, as all of them would be. */
INTERNAL int edgeq_tensor_is_dense(const edgeq_tensor_record *tensor);
INTERNAL void edgeq_tensor_quantize_part(uint8_t *arena, const edgeq_tensor_record *tensor, const float *values,
                                         uint64_t begin, uint64_t end, uint64_t features);
INTERNAL void edgeq_tensor_dequantize(const uint8_t *arena, const edgeq_tensor_record *tensor, float *values);

/* The numbers of one tensor. Values of 8 and 16 bits are clipped before they are rounded, which is the same because the
 * bounds are integers, and then rounded by adding 1.5 * 2^23: the sum's low mantissa bits are the integer, halves to
 * even. That needs no rounding instruction, which baseline x86-64 lacks. */
typedef struct edgeq_scaling {
  float inverse;   /* (float)(1 / scale) */
  float scale;     /* (float)scale */
  float low, high; /* clip bounds less the zero point */
  int32_t zero;    /* zero point as stored, bias included */
} edgeq_scaling;

#define EDGEQ_ROUND_MAGIC 12582912.0f
#define EDGEQ_ROUND_BITS 0x4b400000

#if defined(__x86_64__)
/* ---- convert_x86.c: the first values of a dense row, as many as whole registers hold; returns how many. Needs AVX2.
 */
INTERNAL int64_t edgeq_quantize_bytes_avx2(uint8_t *to, const float *from, int64_t length, const edgeq_scaling *s,
                                           int is_signed);
#endif

/* Dense index of the first value that differs, or the number of values if none does. */
INTERNAL uint64_t edgeq_tensor_difference(const uint8_t *arena, const edgeq_tensor_record *tensor, const void *values);

#endif
