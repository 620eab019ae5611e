/* Inputs and outputs of a context, one at a time or in batches. */
#include "internal.h"

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

edgeq_status edgeq_quantize_input(edgeq_context *context, uint32_t index, const float *values, size_t count) {
  edgeq_status status;
  const edgeq_tensor_record *tensor = matching(context, 0, index, values, count, 0, &status);
  if (tensor != NULL) {
    edgeq_tensor_quantize(context->arena, tensor, values, context->model->cpu_features);
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
    edgeq_tensor_quantize(context->arena, tensor, (const float *)array->values + run * count,
                          context->model->cpu_features);
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
