/* Contexts and runs. */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif
#include <string.h>
#include <time.h>

#include "internal.h"

/* Neither 0 nor 0x80: a kernel that reads what it never wrote gives itself away. */
enum { POISON = 0xa5 };

uint64_t edgeq_clock_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

edgeq_status edgeq_context_init(edgeq_context *context, const edgeq_model *model, void *arena, size_t arena_size,
                                edgeq_pool *pool) {
  if (context == NULL) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  memset(context, 0, sizeof *context);
  if (model == NULL || model->image == NULL || arena == NULL) {
    return edgeq_fail(context->detail, EDGEQ_ERROR_ARGUMENT, "a loaded model and an arena are needed");
  }
  if (arena_size < edgeq_arena_size(model)) {
    return edgeq_fail(context->detail, EDGEQ_ERROR_ARENA, "the arena has %llu bytes, the model needs %llu",
                      (unsigned long long)arena_size, (unsigned long long)edgeq_arena_size(model));
  }
  if ((uintptr_t)arena % EDGEQ_ALIGNMENT != 0) {
    return edgeq_fail(context->detail, EDGEQ_ERROR_ARENA, "the arena doesn't start on a multiple of %u bytes",
                      EDGEQ_ALIGNMENT);
  }
  context->model = model;
  context->arena = arena;
  context->pool = pool;
  return EDGEQ_OK;
}

static void *place_of(const edgeq_context *context, int is_output, uint32_t index) {
  const edgeq_tensor_record *tensor = context != NULL ? edgeq_tensor(context->model, is_output, index) : NULL;
  return tensor != NULL ? context->arena + tensor->offset : NULL;
}

void *edgeq_input(const edgeq_context *context, uint32_t index) {
  return place_of(context, 0, index);
}

const void *edgeq_output(const edgeq_context *context, uint32_t index) {
  return place_of(context, 1, index);
}

static uint32_t chunks_of(const edgeq_step_record *step, uint32_t threads) {
  const uint32_t worthwhile = step->tasks / step->grain;
  return worthwhile < threads ? worthwhile : threads;
}

static int has_shared_step(const edgeq_model *model, uint32_t threads) {
  const edgeq_step_record *steps = edgeq_steps(model);
  for (uint32_t index = 0; index < model->image->step_count; index++) {
    if (chunks_of(&steps[index], threads) > 1) {
      return 1;
    }
  }
  return 0;
}

typedef struct step_job {
  const edgeq_model *model;
  uint8_t *arena;
  int32_t step;
} step_job;

static int32_t run_tasks(const void *job, int32_t begin, int32_t end, int32_t slot) {
  const step_job *own = job;
  return own->model->step(own->step, begin, end, slot, own->arena, own->model->weights);
}

/* Runs all steps on up to `threads` threads; `step_ns` may be NULL. */
static edgeq_status run_steps(edgeq_context *context, edgeq_pool *pool, uint32_t threads, uint64_t *step_ns) {
  const edgeq_model *model = context->model;
  const edgeq_step_record *steps = edgeq_steps(model);
  if (threads > 1 && has_shared_step(model, threads)) {
    edgeq_pool_call(pool);
  }
  uint64_t before = step_ns != NULL ? edgeq_clock_ns() : 0;
  for (uint32_t index = 0; index < model->image->step_count; index++) {
    const uint32_t chunks = chunks_of(&steps[index], threads), tasks = steps[index].tasks;
    const step_job job = {model, context->arena, (int32_t)index};
    const int32_t code =
        chunks > 1 ? edgeq_pool_run(pool, run_tasks, &job, tasks, chunks) : run_tasks(&job, 0, (int32_t)tasks, 0);
    if (code != 0) {
      return edgeq_fail(context->detail, EDGEQ_ERROR_STEP, "step %u (%.100s) ended with code %d", (unsigned)index,
                        edgeq_text(model, steps[index].name), (int)code);
    }
    if (step_ns != NULL) {
      const uint64_t now = edgeq_clock_ns();
      step_ns[index] = now - before;
      before = now;
    }
  }
  return EDGEQ_OK;
}

edgeq_status edgeq_run_profiled(edgeq_context *context, uint64_t *step_ns) {
  if (context == NULL || context->model == NULL) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  context->detail[0] = '\0';
  edgeq_pool *pool = context->pool;
  uint32_t threads = 1;
  if (pool != NULL && context->model->image->max_threads > 1 && edgeq_pool_acquire(pool)) {
    const uint32_t most = context->model->image->max_threads, have = edgeq_pool_threads(pool);
    threads = have < most ? have : most;
  } else {
    pool = NULL;
  }
  const edgeq_status status = run_steps(context, pool, threads, step_ns);
  if (pool != NULL) {
    edgeq_pool_release(pool);
  }
  return status;
}

edgeq_status edgeq_run(edgeq_context *context) {
  return edgeq_run_profiled(context, NULL);
}

/* Copies one golden vector in, runs, compares. */
static edgeq_status verify_one(edgeq_context *context, uint32_t vector) {
  const edgeq_model *model = context->model;
  const edgeq_image *image = model->image;
  const uint8_t *values = (const uint8_t *)image + image->golden + vector * image->golden_stride;
  memset(context->arena, POISON, image->arena_size);
  for (uint32_t index = 0; index < image->input_count; index++) {
    const edgeq_tensor_record *tensor = edgeq_tensor(model, 0, index);
    edgeq_tensor_store(context->arena, tensor, values);
    values += (edgeq_tensor_count(tensor) * edgeq_dtype_size(tensor->dtype) + 7) / 8 * 8;
  }
  const edgeq_status status = edgeq_run(context);
  if (status != EDGEQ_OK) {
    return status;
  }
  for (uint32_t index = 0; index < image->output_count; index++) {
    const edgeq_tensor_record *tensor = edgeq_tensor(model, 1, index);
    const uint64_t count = edgeq_tensor_count(tensor), place = edgeq_tensor_difference(context->arena, tensor, values);
    if (place != count) {
      return edgeq_fail(context->detail, EDGEQ_ERROR_GOLDEN, "golden vector %u: output %.80s differs at element %llu",
                        (unsigned)vector, edgeq_text(model, tensor->name), (unsigned long long)place);
    }
    values += (count * edgeq_dtype_size(tensor->dtype) + 7) / 8 * 8;
  }
  return EDGEQ_OK;
}

edgeq_status edgeq_verify(edgeq_context *context, uint32_t *vectors) {
  if (context == NULL || context->model == NULL) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  const uint32_t count = context->model->image->golden_count;
  if (vectors != NULL) {
    *vectors = count;
  }
  for (uint32_t vector = 0; vector < count; vector++) {
    const edgeq_status status = verify_one(context, vector);
    if (status != EDGEQ_OK) {
      return status;
    }
  }
  return EDGEQ_OK;
}
