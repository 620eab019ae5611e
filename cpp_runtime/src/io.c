/* Inputs and outputs of a context, one at a time or in batches. */
#include "internal.h"

/* Values a task quantizes, about a quarter of a microsecond's work, and tasks that are worth a thread of their own. */
enum { TASK_VALUES = 1024, THREAD_TASKS = 24 };

/* Tensor `index` when `size` is what it should be, else NULL and the reason in `detail`. */
static const edgeq_tensor_record *matching(const edgeq_context *context, int is_output, uint32_t index,
                                           const void *values, uint64_t size, int in_bytes, edgeq_status *status) {
  const edgeq_tensor_record *tensor = context != NULL ? edgeq_tensor(context->model, is_output, index) : NULL;
  if (tensor == NULL || values == NULL) {
    *status = EDGEQ_ERROR_ARGUMENT;
    return NULL;
  }
  const uint64_t want = edgeq_tensor_count(tensor) * (in_bytes ? edgeq_dtype_size(tensor->dtype) : 1u);
  if (size != want) {
    *status = EDGEQ_ERROR_SIZE;
    return NULL;
  }
  *status = EDGEQ_OK;
  return tensor;
}

edgeq_status edgeq_set_input(edgeq_context *context, uint32_t index, const void *values, size_t size) {
  edgeq_status status;
  const edgeq_tensor_record *tensor = matching(context, 0, index, values, size, 1, &status);
  if (tensor != NULL) {
    edgeq_tensor_store(context->arena, tensor, values);
  }
  return status;
}

edgeq_status edgeq_get_output(const edgeq_context *context, uint32_t index, void *values, size_t size) {
  edgeq_status status;
  const edgeq_tensor_record *tensor = matching(context, 1, index, values, size, 1, &status);
  if (tensor != NULL) {
    edgeq_tensor_load(context->arena, tensor, values);
  }
  return status;
}

typedef struct quantize_job {
  const edgeq_context *context;
  const edgeq_tensor_record *tensor;
  const float *values;
  uint64_t count;
} quantize_job;

static int32_t quantize_tasks(const void *job, int32_t begin, int32_t end, int32_t slot) {
  const quantize_job *own = job;
  const uint64_t last = (uint64_t)end * TASK_VALUES;
  (void)slot;
  edgeq_tensor_quantize_part(own->context->arena, own->tensor, own->values, (uint64_t)begin * TASK_VALUES,
                             last < own->count ? last : own->count, own->context->model->cpu_features);
  return 0;
}

/* All values of a tensor; the pool shares large ones out and is awake when the run begins. */
static void quantize(const edgeq_context *context, const edgeq_tensor_record *tensor, const float *values) {
  const quantize_job job = {context, tensor, values, edgeq_tensor_count(tensor)};
  const uint64_t tasks = (job.count + TASK_VALUES - 1) / TASK_VALUES, worthwhile = tasks / THREAD_TASKS;
  edgeq_pool *pool = context->pool;
  if (pool == NULL || worthwhile < 2 || tasks > INT32_MAX || !edgeq_tensor_is_dense(tensor) ||
      !edgeq_pool_acquire(pool)) {
    edgeq_tensor_quantize(context->arena, tensor, values, context->model->cpu_features);
    return;
  }
  const uint32_t threads = edgeq_pool_threads(pool);
  const uint32_t chunks = worthwhile < threads ? (uint32_t)worthwhile : threads;
  if (chunks > 1) {
    edgeq_pool_run(pool, quantize_tasks, &job, (uint32_t)tasks, chunks); /* its code is 0 */
  } else {
    edgeq_tensor_quantize(context->arena, tensor, values, context->model->cpu_features);
  }
  edgeq_pool_release(pool);
}

edgeq_status edgeq_quantize_input(edgeq_context *context, uint32_t index, const float *values, size_t count) {
  edgeq_status status;
  const edgeq_tensor_record *tensor = matching(context, 0, index, values, count, 0, &status);
  if (tensor != NULL) {
    quantize(context, tensor, values);
  }
  return status;
}

edgeq_status edgeq_dequantize_output(const edgeq_context *context, uint32_t index, float *values, size_t count) {
  edgeq_status status;
  const edgeq_tensor_record *tensor = matching(context, 1, index, values, count, 0, &status);
  if (tensor != NULL) {
    edgeq_tensor_dequantize(context->arena, tensor, values);
  }
  return status;
}

static void batch_input(edgeq_context *context, uint32_t index, const edgeq_batch_array *array, size_t run) {
  const edgeq_tensor_record *tensor = edgeq_tensor(context->model, 0, index);
  const uint64_t count = edgeq_tensor_count(tensor);
  if (array->is_float) {
    quantize(context, tensor, (const float *)array->values + run * count);
  } else {
    const uint64_t size = count * edgeq_dtype_size(tensor->dtype);
    edgeq_tensor_store(context->arena, tensor, (const uint8_t *)array->values + run * size);
  }
}

static void batch_output(const edgeq_context *context, uint32_t index, const edgeq_batch_array *array, size_t run) {
  const edgeq_tensor_record *tensor = edgeq_tensor(context->model, 1, index);
  const uint64_t count = edgeq_tensor_count(tensor);
  if (array->is_float) {
    edgeq_tensor_dequantize(context->arena, tensor, (float *)array->values + run * count);
  } else {
    const uint64_t size = count * edgeq_dtype_size(tensor->dtype);
    edgeq_tensor_load(context->arena, tensor, (uint8_t *)array->values + run * size);
  }
}

edgeq_status edgeq_run_batch(edgeq_context *context, size_t runs, const edgeq_batch_array *inputs,
                             const edgeq_batch_array *outputs) {
  const edgeq_model *model = context != NULL ? context->model : NULL;
  if (model == NULL || (inputs == NULL && edgeq_input_count(model) != 0) || outputs == NULL) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  for (size_t run = 0; run < runs; run++) {
    for (uint32_t index = 0; index < edgeq_input_count(model); index++) {
      batch_input(context, index, &inputs[index], run);
    }
    const edgeq_status status = edgeq_run(context);
    if (status != EDGEQ_OK) {
      return status;
    }
    for (uint32_t index = 0; index < edgeq_output_count(model); index++) {
      batch_output(context, index, &outputs[index], run);
    }
  }
  return EDGEQ_OK;
}
