/* Tests of what needs no artifact file: hashing, conversion, checking of images, runs and threads. The image is made in
 * memory. Prints the first expectation that fails and ends with 1. */
#if !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE 1
#endif
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

#define EXPECT(condition)                                                                                              \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                  \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

enum { CELLS = 1000, TASKS = 40, STEPS = 3, SLOTS = 8 };

/* ---- an image in memory ---- */

typedef struct fake {
  edgeq_image image;
  edgeq_step_record steps[STEPS];
  edgeq_tensor_record tensors[2];
  char strings[32];
} __attribute__((aligned(EDGEQ_ALIGNMENT))) fake;

static int32_t refuse_at = -1;
static uint32_t slots_used; /* atomic bit set */

/* Each step rewrites the cells of its tasks: cell = cell * 3 + step, in int32. */
static int32_t fake_step(int32_t step, int32_t t0, int32_t t1, int32_t slot, uint8_t *arena, const uint8_t *weights) {
  (void)weights;
  int32_t *cells = (void *)arena;
  __atomic_fetch_or(&slots_used, 1u << slot, __ATOMIC_RELAXED);
  for (int32_t cell = t0 * (CELLS / TASKS); cell < t1 * (CELLS / TASKS); cell++) {
    cells[cell] = (int32_t)((uint32_t)cells[cell] * 3u + (uint32_t)step);
  }
  return step == refuse_at ? 7 : 0;
}

static edgeq_tensor_record fake_tensor(void) {
  return (edgeq_tensor_record){
      .name = 1,
      .dtype = EDGEQ_INT32,
      .rank = 1,
      .shape = {CELLS, 1, 1, 1, 1, 1, 1, 1},
      .strides = {1},
      .scale = 1.0,
      .size = CELLS * 4,
  };
}

static void make_fake(fake *f) {
  memset(f, 0, sizeof *f);
  memcpy(f->image.magic, EDGEQ_IMAGE_MAGIC, EDGEQ_MAGIC_SIZE);
  f->image.abi_version = EDGEQ_ABI_VERSION;
  f->image.header_size = sizeof f->image;
  f->image.entry = (int64_t)((uintptr_t)fake_step - (uintptr_t)&f->image.entry);
  f->image.image_size = sizeof *f;
  f->image.arena_size = CELLS * 4;
  f->image.arena_alignment = EDGEQ_ALIGNMENT;
  f->image.max_threads = SLOTS;
  f->image.step_count = STEPS;
  f->image.input_count = 1;
  f->image.output_count = 1;
  f->image.steps = offsetof(fake, steps);
  f->image.tensors = offsetof(fake, tensors);
  f->image.strings = offsetof(fake, strings);
  f->image.strings_size = sizeof f->strings;
  f->image.variant_count = 1;
  f->image.program_count = 1;
  memcpy(f->strings, "\0cells", 7);
  for (uint32_t step = 0; step < STEPS; step++) {
    f->steps[step] = (edgeq_step_record){.name = 1, .tasks = TASKS, .grain = 1};
  }
  f->tensors[0] = f->tensors[1] = fake_tensor();
}

static void *aligned(size_t size) {
  void *memory = NULL;
  EXPECT(posix_memalign(&memory, EDGEQ_ALIGNMENT, size) == 0);
  memset(memory, 0, size);
  return memory;
}

/* ---- tests ---- */

/* RFC 7693 defines BLAKE2b-256; the digest of "abc" was computed with an independent implementation (Python's hashlib).
 */
static void test_hash(void) {
  static const uint8_t want[EDGEQ_DIGEST_SIZE] = {0xbd, 0xdd, 0x81, 0x3c, 0x63, 0x42, 0x39, 0x72, 0x31, 0x71, 0xef,
                                                  0x3f, 0xee, 0x98, 0x57, 0x9b, 0x94, 0x96, 0x4e, 0x3b, 0xb1, 0xcb,
                                                  0x3e, 0x42, 0x72, 0x62, 0xc8, 0xc0, 0x68, 0xd5, 0x23, 0x19};
  uint8_t digest[EDGEQ_DIGEST_SIZE];
  edgeq_blake2b_256(digest, "abc", 3);
  EXPECT(memcmp(digest, want, sizeof want) == 0);
}

static void test_bad_images(void) {
  static const size_t places[] = {offsetof(edgeq_image, magic),         offsetof(edgeq_image, abi_version),
                                  offsetof(edgeq_image, header_size),   offsetof(edgeq_image, arena_size) + 4,
                                  offsetof(edgeq_image, image_size),    offsetof(edgeq_image, arena_alignment),
                                  offsetof(edgeq_image, max_threads),   offsetof(edgeq_image, step_count),
                                  offsetof(edgeq_image, input_count),   offsetof(edgeq_image, output_count),
                                  offsetof(edgeq_image, golden_count),  offsetof(edgeq_image, steps),
                                  offsetof(edgeq_image, tensors),       offsetof(edgeq_image, golden),
                                  offsetof(edgeq_image, strings),       offsetof(edgeq_image, strings_size),
                                  offsetof(edgeq_image, weights),       offsetof(edgeq_image, weights_size),
                                  offsetof(edgeq_image, manifest),      offsetof(edgeq_image, manifest_size),
                                  offsetof(edgeq_image, variant_count), offsetof(edgeq_image, program_count),
                                  offsetof(edgeq_image, index),         offsetof(edgeq_image, flags)};
  fake f;
  char detail[EDGEQ_DETAIL_SIZE];
  edgeq_model model;
  make_fake(&f);
  EXPECT(edgeq_model_attach(&model, &f.image) == EDGEQ_OK);
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    make_fake(&f);
    memset((uint8_t *)&f + places[i], 0xff, 4);
    EXPECT(edgeq_images_check(detail, &f.image, sizeof f) != EDGEQ_OK);
    EXPECT(detail[0] != '\0');
  }
  make_fake(&f);
  f.image.cpu_features = UINT64_C(1) << 63;
  EXPECT(edgeq_model_attach(&model, &f.image) == EDGEQ_ERROR_CPU);
  EXPECT(edgeq_model_attach(&model, NULL) == EDGEQ_ERROR_ARGUMENT);
  EXPECT(edgeq_model_attach(NULL, &f.image) == EDGEQ_ERROR_ARGUMENT);
}

/* Two programs for two kinds of CPU, the better of which no machine has: they differ in shapes and arenas. */
typedef struct family {
  edgeq_image images[4];
  edgeq_step_record step;
  edgeq_tensor_record tensors[2][2]; /* program; input, output */
  char strings[32];
} __attribute__((aligned(EDGEQ_ALIGNMENT))) family;

static void make_family(family *f) {
  memset(f, 0, sizeof *f);
  for (uint32_t index = 0; index < 4; index++) {
    fake one;
    make_fake(&one);
    edgeq_image *image = &f->images[index];
    const size_t start = index * sizeof *image;
    *image = one.image;
    image->entry = (int64_t)((uintptr_t)fake_step - (uintptr_t)&image->entry);
    image->image_size = sizeof *f - start;
    image->step_count = 1;
    image->steps = offsetof(family, step) - start;
    image->tensors = offsetof(family, tensors[index % 2]) - start;
    image->strings = offsetof(family, strings) - start;
    image->variant_count = image->program_count = 2;
    image->index = index;
    image->flags = EDGEQ_IMAGE_PADS;
    image->arena_size = CELLS * 4 * (1 + index % 2);
    image->cpu_features = index < 2 ? UINT64_C(1) << 63 : 0;
  }
  f->step = (edgeq_step_record){.name = 1, .tasks = TASKS, .grain = 1};
  for (uint32_t program = 0; program < 2; program++) {
    edgeq_tensor_record tensor = fake_tensor();
    tensor.rank = 2;
    tensor.shape[0] = 1;
    tensor.shape[1] = program == 0 ? CELLS / 2 : CELLS;
    tensor.strides[0] = tensor.shape[1];
    tensor.strides[1] = 1;
    tensor.size = (uint64_t)tensor.shape[1] * 4;
    f->tensors[program][0] = f->tensors[program][1] = tensor;
  }
  memcpy(f->strings, "\0cells", 7);
}

static uint32_t program_for(const edgeq_model *model, int64_t rows, int64_t length) {
  const int64_t shape[2] = {rows, length}, *const shapes[1] = {shape};
  uint32_t index = 0;
  const edgeq_status status = edgeq_program_for(model, shapes, &index);
  EXPECT(status == EDGEQ_OK || status == EDGEQ_ERROR_SIZE);
  return status == EDGEQ_OK ? index : 99;
}

static void test_programs(void) {
  family f;
  edgeq_model model, longer, other;
  edgeq_tensor_info info;
  make_family(&f);
  EXPECT(edgeq_model_attach(&model, &f.images[0]) == EDGEQ_OK);
  EXPECT(model.variant == 1 && edgeq_variant_count(&model) == 2 && edgeq_program_count(&model) == 2);
  EXPECT(edgeq_arena_size(&model) == CELLS * 8);
  EXPECT(edgeq_program(&longer, &model, 1) == EDGEQ_OK && edgeq_arena_size(&longer) == CELLS * 8);
  EXPECT(edgeq_input_info(&longer, 0, &info) == EDGEQ_OK && info.shape[1] == CELLS);
  EXPECT(edgeq_program(&longer, &longer, 0) == EDGEQ_OK && edgeq_arena_size(&longer) == CELLS * 4);
  EXPECT(edgeq_program(&longer, &model, 2) == EDGEQ_ERROR_ARGUMENT);
  EXPECT(edgeq_program(NULL, &model, 0) == EDGEQ_ERROR_ARGUMENT);
  EXPECT(edgeq_variant(&other, &model, 0) == EDGEQ_ERROR_CPU && other.detail[0] != '\0');
  EXPECT(edgeq_variant(&other, &longer, 1) == EDGEQ_OK && edgeq_arena_size(&other) == CELLS * 4);
  EXPECT(edgeq_variant(&other, &model, 2) == EDGEQ_ERROR_ARGUMENT);
  EXPECT(edgeq_pads(&model) && !edgeq_pads(NULL));
  EXPECT(program_for(&model, 1, CELLS) == 1 && program_for(&model, 1, CELLS / 2) == 0);
  EXPECT(program_for(&model, 1, 1) == 0 && program_for(&model, 1, CELLS / 2 + 1) == 1);
  EXPECT(program_for(&model, 1, CELLS + 1) == 99 && program_for(&model, 2, CELLS) == 99);
  EXPECT(program_for(&model, 1, 0) == 99 && program_for(&model, 1, -1) == 99);
}

/* What must be the same in all programs, changed in one. */
static void test_programs_that_contradict_each_other(void) {
  for (int change = 0; change < 11; change++) {
    family f;
    edgeq_model model;
    make_family(&f);
    EXPECT(edgeq_model_attach(&model, &f.images[0]) == EDGEQ_OK);
    edgeq_image *last = &f.images[3];
    edgeq_tensor_record *tensor = &f.tensors[1][0];
    uint32_t *const words[] = {&last->variant_count, &last->program_count, &last->index,  &last->flags,
                               &last->input_count,   &tensor->dtype,       &tensor->rank, &tensor->name};
    if (change < 8) {
      *words[change] ^= 1;
    } else if (change == 8) {
      last->cpu_features = 0x80;
    } else if (change == 9) {
      tensor->scale = 2.0;
    } else {
      tensor->zero_point = 1;
    }
    EXPECT(edgeq_model_attach(&model, &f.images[0]) == EDGEQ_ERROR_FORMAT && model.detail[0] != '\0');
    EXPECT(model.image == NULL);
  }
}

/* Every value of every 4-byte and 8-byte word of the records set to extremes: refused, or harmless to look at. */
static void test_hostile_records(void) {
  static const int64_t extremes[] = {-1, INT64_MAX, INT64_MIN, INT32_MAX, UINT32_MAX, INT64_C(1) << 40};
  fake f;
  for (size_t place = offsetof(fake, steps); place < offsetof(fake, strings); place += 4) {
    for (size_t i = 0; i < sizeof extremes / sizeof *extremes; i++) {
      for (size_t width = 4; width <= 8; width += 4) {
        make_fake(&f);
        memcpy((uint8_t *)&f + place, &extremes[i], width);
        edgeq_model model;
        if (edgeq_model_attach(&model, &f.image) != EDGEQ_OK) {
          continue;
        }
        edgeq_tensor_info info;
        EXPECT(edgeq_input_info(&model, 0, &info) == EDGEQ_OK && strlen(info.name) < sizeof f.strings);
        EXPECT(info.arena_offset + info.arena_size <= edgeq_arena_size(&model));
      }
    }
  }
}

static void test_contexts(void) {
  fake f;
  make_fake(&f);
  edgeq_model model;
  edgeq_context context;
  uint8_t *arena = aligned(CELLS * 4 + EDGEQ_ALIGNMENT);
  EXPECT(edgeq_model_attach(&model, &f.image) == EDGEQ_OK);
  EXPECT(edgeq_context_init(NULL, &model, arena, CELLS * 4, NULL) == EDGEQ_ERROR_ARGUMENT);
  EXPECT(edgeq_context_init(&context, NULL, arena, CELLS * 4, NULL) == EDGEQ_ERROR_ARGUMENT);
  EXPECT(edgeq_context_init(&context, &model, arena, CELLS * 4 - 1, NULL) == EDGEQ_ERROR_ARENA);
  EXPECT(edgeq_context_init(&context, &model, arena + 4, CELLS * 4, NULL) == EDGEQ_ERROR_ARENA);
  EXPECT(edgeq_run(&context) == EDGEQ_ERROR_ARGUMENT);
  EXPECT(edgeq_context_init(&context, &model, arena, CELLS * 4, NULL) == EDGEQ_OK);
  EXPECT(edgeq_input(&context, 0) == arena && edgeq_input(&context, 1) == NULL);
  EXPECT(edgeq_set_input(&context, 0, arena, 3) == EDGEQ_ERROR_SIZE);
  EXPECT(edgeq_set_input(&context, 1, arena, 3) == EDGEQ_ERROR_ARGUMENT);
  EXPECT(edgeq_quantize_input(&context, 0, NULL, CELLS) == EDGEQ_ERROR_ARGUMENT);
  refuse_at = 1;
  EXPECT(edgeq_run(&context) == EDGEQ_ERROR_STEP && strstr(context.detail, "step 1 (cells)") != NULL);
  refuse_at = -1;
  EXPECT(edgeq_run(&context) == EDGEQ_OK && context.detail[0] == '\0');
  free(arena);
}

/* The same bits for every number of threads and every grain; all slots below the number of threads. */
static void test_threads(void) {
  fake f;
  make_fake(&f);
  int32_t *want = aligned(CELLS * 4), *arena = aligned(CELLS * 4);
  edgeq_model model;
  edgeq_context context;
  for (uint32_t threads = 1; threads <= SLOTS + 1; threads++) {
    edgeq_pool *pool;
    EXPECT(edgeq_pool_create(&pool, threads) == EDGEQ_OK);
    for (uint32_t run = 0; run < 300; run++) {
      if (run % 50 == 0) { /* long enough for idle workers to fall asleep */
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
      }
      f.steps[run % STEPS].grain = 1 + run % 50;
      EXPECT(edgeq_model_attach(&model, &f.image) == EDGEQ_OK);
      for (int32_t cell = 0; cell < CELLS; cell++) {
        arena[cell] = want[cell] = cell * (int32_t)run;
      }
      EXPECT(edgeq_context_init(&context, &model, want, CELLS * 4, NULL) == EDGEQ_OK);
      EXPECT(edgeq_run(&context) == EDGEQ_OK);
      slots_used = 0;
      EXPECT(edgeq_context_init(&context, &model, arena, CELLS * 4, pool) == EDGEQ_OK);
      EXPECT(edgeq_run(&context) == EDGEQ_OK);
      EXPECT(memcmp(arena, want, CELLS * 4) == 0);
      EXPECT(slots_used >> (threads < SLOTS ? threads : SLOTS) == 0);
    }
    edgeq_pool_free(pool);
  }
  edgeq_pool *none;
  EXPECT(edgeq_pool_create(&none, 0) == EDGEQ_ERROR_ARGUMENT);
  EXPECT(edgeq_pool_create(&none, EDGEQ_MAX_THREADS + 1) == EDGEQ_ERROR_ARGUMENT);
  free(want);
  free(arena);
}

/* clip(rint(x * (float)(1 / scale)) + zero_point), written down directly. */
static double by_formula(float value, const edgeq_tensor_record *tensor, double low, double high) {
  double steps = (double)rintf(value * (float)(1.0 / tensor->scale)) + tensor->zero_point;
  steps = steps < low ? low : steps;
  return steps > high ? high : steps;
}

static edgeq_tensor_record strided(uint32_t dtype, uint32_t bias, int64_t stride) {
  edgeq_tensor_record tensor = fake_tensor();
  tensor.dtype = dtype;
  tensor.storage_bias = bias;
  tensor.strides[0] = stride;
  tensor.scale = 0.037;
  tensor.zero_point = dtype == EDGEQ_UINT8 ? 131 : -7;
  return tensor;
}

static void test_floats(void) {
  static const double lows[] = {0, -128, 0, -32768}, highs[] = {0, 127, 255, 32767};
  uint8_t *arena = aligned(CELLS * 2 * 5);
  float values[CELLS], back[CELLS];
  int16_t dense[CELLS];
  for (int i = 0; i < CELLS; i++) { /* many exact halves, and values far outside */
    values[i] = i % 7 == 0 ? (float)(i - 500) * 1e6f : (float)((i - 500) * 0.5 * 0.037);
  }
  values[0] = INFINITY;
  values[1] = -INFINITY;
  static const uint32_t dtypes[] = {EDGEQ_INT8, EDGEQ_INT8, EDGEQ_UINT8, EDGEQ_INT16};
  for (uint32_t kind = 0; kind < 16; kind++) { /* dtype, dense or strided, with the processor's instructions or not */
    const uint32_t dtype = dtypes[kind % 4];
    const edgeq_tensor_record tensor = strided(dtype, kind % 4 == 1 ? 0x80 : 0, kind & 4 ? 5 : 1);
    edgeq_tensor_quantize(arena, &tensor, values, kind & 8 ? edgeq_host_cpu_features() : 0);
    edgeq_tensor_load(arena, &tensor, dense);
    edgeq_tensor_dequantize(arena, &tensor, back);
    EXPECT(edgeq_tensor_difference(arena, &tensor, dense) == CELLS);
    for (int i = 0; i < CELLS; i++) {
      const int value = dtype == EDGEQ_INT8    ? ((int8_t *)dense)[i]
                        : dtype == EDGEQ_UINT8 ? ((uint8_t *)dense)[i]
                                               : dense[i];
      EXPECT(value == by_formula(values[i], &tensor, lows[dtype], highs[dtype]));
      EXPECT(back[i] == (float)(value - tensor.zero_point) * (float)tensor.scale);
    }
    edgeq_tensor_store(arena, &tensor, dense);
    EXPECT(edgeq_tensor_difference(arena, &tensor, dense) == CELLS);
    ((uint8_t *)dense)[(size_t)edgeq_dtype_size(dtype) * 321] ^= 1;
    EXPECT(edgeq_tensor_difference(arena, &tensor, dense) == 321);
  }
  free(arena);
}

int main(void) {
  test_hash();
  test_bad_images();
  test_programs();
  test_programs_that_contradict_each_other();
  test_hostile_records();
  test_contexts();
  test_threads();
  test_floats();
  puts("all passed");
  return 0;
}
