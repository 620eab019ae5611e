/* edgeq runtime: loads a `.edgeq` artifact and runs it.
 *
 *   edgeq_model model;
 *   edgeq_context context;
 *   edgeq_model_load(&model, "model.edgeq", NULL);                        // checks everything, then maps the file
 *   edgeq_context_init(&context, &model, arena, edgeq_arena_size(&model), NULL);
 *   memcpy(edgeq_input(&context, 0), pixels, n);                          // or edgeq_quantize_input for floats
 *   edgeq_run(&context);                                                  // result: edgeq_output(&context, 0)
 *
 * Nothing here uses the heap except edgeq_pool_create. A model is constant after loading and may be shared by threads;
 * a context and its arena belong to one thread at a time. Every function that can fail returns an edgeq_status; a model
 * that failed to load is empty and may be freed.
 */
#ifndef EDGEQ_EDGEQ_H
#define EDGEQ_EDGEQ_H

#include <stddef.h>
#include <stdint.h>

#include "edgeq/artifact.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define EDGEQ_API __attribute__((visibility("default")))
#else
#define EDGEQ_API
#endif

#define EDGEQ_VERSION "0.1.0"
#define EDGEQ_DETAIL_SIZE 160

typedef enum edgeq_status {
  EDGEQ_OK = 0,
  EDGEQ_ERROR_ARGUMENT = 1,  /* a null pointer, an index out of range */
  EDGEQ_ERROR_OPEN = 2,      /* the file can't be opened, read or mapped */
  EDGEQ_ERROR_TRUNCATED = 3, /* shorter than it says, or than any artifact */
  EDGEQ_ERROR_FORMAT = 4,    /* not an artifact, or contradicting itself */
  EDGEQ_ERROR_ABI = 5,       /* written for another version of this runtime */
  EDGEQ_ERROR_ARCH = 6,      /* built for another processor architecture */
  EDGEQ_ERROR_CPU = 7,       /* needs CPU features that aren't here */
  EDGEQ_ERROR_DIGEST = 8,    /* changed after it was written */
  EDGEQ_ERROR_ARENA = 9,     /* arena too small or not aligned */
  EDGEQ_ERROR_STEP = 10,     /* a step refused to run */
  EDGEQ_ERROR_GOLDEN = 11,   /* outputs differ from the golden vectors */
  EDGEQ_ERROR_MEMORY = 12,   /* no memory, or no thread */
  EDGEQ_ERROR_SIZE = 13      /* a buffer of the wrong size */
} edgeq_status;

/* One constant English sentence. */
EDGEQ_API const char *edgeq_status_string(edgeq_status status);

/* ---- models ---------------------------------------------------------------------------------------------------- */

/* edgeq_load_options.flags */
#define EDGEQ_LOAD_COPY 1u        /* copy into private memory: later changes of the file can't be seen */
#define EDGEQ_LOAD_SKIP_DIGEST 2u /* don't hash: for files this process has checked before */

typedef struct edgeq_load_options {
  uint32_t flags;
  uint32_t reserved; /* 0 */
} edgeq_load_options;

/* Caller's storage; the fields are the runtime's. */
typedef struct edgeq_model {
  const edgeq_image *image;  /* the program that is described and run */
  const edgeq_image *images; /* all of them: [variants * programs] */
  edgeq_step_fn step;
  const uint8_t *weights;
  void *mapping;
  size_t mapping_size;
  uint64_t cpu_features; /* of the variant */
  uint64_t code_size;    /* of the whole artifact */
  uint32_t variant;
  uint32_t stands_for;            /* programs: 1, or all of the variant's */
  char detail[EDGEQ_DETAIL_SIZE]; /* why the last call on this model failed, "" if it didn't */
} edgeq_model;

typedef struct edgeq_tensor_info {
  const char *name;
  const char *layout; /* a note for people, "" when dense */
  uint32_t dtype;     /* EDGEQ_INT8 … */
  uint32_t rank;
  const int64_t *shape;   /* [rank], elements */
  const int64_t *strides; /* [rank], elements */
  double scale;           /* real = scale * (q - zero_point) */
  int32_t zero_point;
  uint32_t storage_bias; /* 0, or 0x80: int8 values lie in the arena as value + 128 */
  uint64_t count;        /* elements */
  uint64_t itemsize;     /* bytes of an element */
  uint64_t arena_offset; /* bytes */
  uint64_t arena_size;   /* bytes in the arena, first to last element */
} edgeq_tensor_info;

typedef struct edgeq_step_info {
  const char *name;
  const char *kind;
  uint32_t tasks;
  uint32_t grain;
  uint64_t macs;
  uint64_t bytes;
} edgeq_step_info;

/* Loads the file `path`. Checks size, ABI, architecture, CPU features and digest before any byte of it is used, then
 * every offset; maps code and constants read-only, shared with other processes. Of several variants the best that this
 * CPU can run is taken. `options` may be NULL. */
EDGEQ_API edgeq_status edgeq_model_load(edgeq_model *model, const char *path, const edgeq_load_options *options);

/* The same from memory: `size` bytes of a whole artifact, copied, not needed afterwards. */
EDGEQ_API edgeq_status edgeq_model_load_bytes(edgeq_model *model, const void *bytes, size_t size,
                                              const edgeq_load_options *options);

/* A model whose image is linked into this program (symbol edgeq_model): checks it, maps nothing. */
EDGEQ_API edgeq_status edgeq_model_attach(edgeq_model *model, const edgeq_image *image);

/* Unmaps. Contexts of the model must not be used afterwards. */
EDGEQ_API void edgeq_model_free(edgeq_model *model);

/* Bytes, to start on a multiple of EDGEQ_ALIGNMENT: enough for every program that `model` stands for. */
EDGEQ_API size_t edgeq_arena_size(const edgeq_model *model);
EDGEQ_API uint32_t edgeq_max_threads(const edgeq_model *model);
EDGEQ_API uint32_t edgeq_input_count(const edgeq_model *model);
EDGEQ_API uint32_t edgeq_output_count(const edgeq_model *model);
EDGEQ_API uint32_t edgeq_step_count(const edgeq_model *model);
EDGEQ_API edgeq_status edgeq_input_info(const edgeq_model *model, uint32_t index, edgeq_tensor_info *info);
EDGEQ_API edgeq_status edgeq_output_info(const edgeq_model *model, uint32_t index, edgeq_tensor_info *info);
EDGEQ_API edgeq_status edgeq_step_info_get(const edgeq_model *model, uint32_t index, edgeq_step_info *info);

/* JSON text, not NUL-terminated; `size` receives its bytes. */
EDGEQ_API const char *edgeq_manifest(const edgeq_model *model, size_t *size);

/* ---- programs --------------------------------------------------------------------------------------------------
 *
 * An artifact may hold the model for several input shapes, a program each, and for several kinds of CPU, a variant
 * each. A loaded model describes and runs program 0 of its variant; the functions below make another edgeq_model that
 * is one program of it. That one maps nothing, needs no free, and lasts as long as the loaded model. Programs may take
 * turns in one arena of edgeq_arena_size(loaded model) bytes, each with a context of its own:
 *
 *   edgeq_program(&longer, &model, 1);
 *   edgeq_context_init(&context, &longer, arena, arena_size, NULL);
 */

EDGEQ_API uint32_t edgeq_program_count(const edgeq_model *model); /* of the loaded model's variant */

/* Makes `program` the program `index` of the variant that `model` is of. `program` may be `model` only if that is none
 * that was loaded. */
EDGEQ_API edgeq_status edgeq_program(edgeq_model *program, const edgeq_model *model, uint32_t index);

/* The program for inputs of these shapes (`shapes[i]`: the dimensions of input i, as many as its rank): the one with
 * just them, else, if the artifact pads (edgeq_pads), the smallest into which all fit. EDGEQ_ERROR_SIZE if there is
 * none. */
EDGEQ_API edgeq_status edgeq_program_for(const edgeq_model *model, const int64_t *const *shapes, uint32_t *index);

/* Whether shorter inputs may be padded with zeros: see EDGEQ_IMAGE_PADS. */
EDGEQ_API int edgeq_pads(const edgeq_model *model);

EDGEQ_API uint32_t edgeq_variant_count(const edgeq_model *model);

/* Makes `other` the same as `model`, in the variant `index`; EDGEQ_ERROR_CPU if this CPU can't run that one. For tests
 * and comparisons: loading has taken the best already. */
EDGEQ_API edgeq_status edgeq_variant(edgeq_model *other, const edgeq_model *model, uint32_t index);

/* ---- threads --------------------------------------------------------------------------------------------------- */

typedef struct edgeq_pool edgeq_pool;

/* A pool that runs steps on `threads` threads, the caller's included. Idle threads sleep. One pool may serve many
 * contexts; of two runs at the same time the second does without it. Results never depend on a pool. */
EDGEQ_API edgeq_status edgeq_pool_create(edgeq_pool **pool, uint32_t threads);
EDGEQ_API void edgeq_pool_free(edgeq_pool *pool);

/* ---- running --------------------------------------------------------------------------------------------------- */

/* Caller's storage; the fields are the runtime's. */
typedef struct edgeq_context {
  const edgeq_model *model;
  uint8_t *arena;
  edgeq_pool *pool;
  char detail[EDGEQ_DETAIL_SIZE]; /* why the last call on this context failed, "" if it didn't */
} edgeq_context;

/* `arena` holds edgeq_arena_size bytes on a multiple of EDGEQ_ALIGNMENT and belongs to the context from now on; its
 * contents don't matter. `pool` may be NULL: everything on the caller's thread. */
EDGEQ_API edgeq_status edgeq_context_init(edgeq_context *context, const edgeq_model *model, void *arena,
                                          size_t arena_size, edgeq_pool *pool);

/* Where input or output `index` lies in the arena, as edgeq_input_info describes it; NULL if there is none. Inputs must
 * be written before every run: their place may be reused by it. */
EDGEQ_API void *edgeq_input(const edgeq_context *context, uint32_t index);
EDGEQ_API const void *edgeq_output(const edgeq_context *context, uint32_t index);

/* Runs all steps. No heap, no files, no system calls but those that wake and join the pool's threads. */
EDGEQ_API edgeq_status edgeq_run(edgeq_context *context);

/* The same, and the time of each step in nanoseconds into `step_ns` [edgeq_step_count]. */
EDGEQ_API edgeq_status edgeq_run_profiled(edgeq_context *context, uint64_t *step_ns);

/* Runs the golden vectors of the artifact and compares every output value. The arena is filled with a pattern before
 * each, so that nothing can depend on what was in it. `vectors` (may be NULL) receives how many there are. */
EDGEQ_API edgeq_status edgeq_verify(edgeq_context *context, uint32_t *vectors);

/* ---- moving data in and out ------------------------------------------------------------------------------------ */

/* Dense integers of the tensor's dtype <-> the arena (strides and storage bias applied). `size` is in bytes and must be
 * count * itemsize. */
EDGEQ_API edgeq_status edgeq_set_input(edgeq_context *context, uint32_t index, const void *values, size_t size);
EDGEQ_API edgeq_status edgeq_get_output(const edgeq_context *context, uint32_t index, void *values, size_t size);

/* Dense floats <-> the arena. q = clip(rint(x * (float)(1 / scale)) + zero_point), halves to even, NaN to the lowest
 * value; x = (float)scale * (q - zero_point). `count` is in elements. The only floating point of the runtime. */
EDGEQ_API edgeq_status edgeq_quantize_input(edgeq_context *context, uint32_t index, const float *values, size_t count);
EDGEQ_API edgeq_status edgeq_dequantize_output(const edgeq_context *context, uint32_t index, float *values,
                                               size_t count);

/* edgeq_run_batch: how the values of one input or output are given. */
typedef struct edgeq_batch_array {
  void *values;      /* [runs, count] dense */
  uint32_t is_float; /* 0: integers of the tensor's dtype, 1: float32 */
  uint32_t reserved; /* 0 */
} edgeq_batch_array;

/* Runs `runs` times over consecutive inputs; outputs go one behind the other. */
EDGEQ_API edgeq_status edgeq_run_batch(edgeq_context *context, size_t runs, const edgeq_batch_array *inputs,
                                       const edgeq_batch_array *outputs);

/* ---- this machine ---------------------------------------------------------------------------------------------- */

EDGEQ_API uint32_t edgeq_host_arch(void);         /* EDGEQ_ARCH_…, 0 if unknown */
EDGEQ_API uint64_t edgeq_host_cpu_features(void); /* bits as in edgeq_trailer.cpu_features */
/* Name of one feature bit, such as "avx2"; NULL if there is no such bit. */
EDGEQ_API const char *edgeq_cpu_feature_name(uint32_t arch, uint32_t bit);
EDGEQ_API uint64_t edgeq_clock_ns(void); /* monotonic */

/* BLAKE2b (RFC 7693) without key, 32 bytes of output. */
EDGEQ_API void edgeq_blake2b_256(uint8_t digest[EDGEQ_DIGEST_SIZE], const void *data, size_t size);

#ifdef __cplusplus
}
#endif

#endif
