/* What a loaded model tells about itself. */
#include "internal.h"

const char *edgeq_text(const edgeq_model *model, uint32_t offset) {
  return edgeq_image_text(model->image, offset);
}

const edgeq_step_record *edgeq_steps(const edgeq_model *model) {
  return (const void *)((const uint8_t *)model->image + model->image->steps);
}

const edgeq_tensor_record *edgeq_tensor(const edgeq_model *model, int is_output, uint32_t index) {
  const edgeq_image *image = model != NULL ? model->image : NULL;
  if (image == NULL || index >= (is_output ? image->output_count : image->input_count)) {
    return NULL;
  }
  return edgeq_image_tensors(image) + (is_output ? (size_t)image->input_count : 0) + index;
}

static edgeq_status describe(const edgeq_model *model, const edgeq_tensor_record *tensor, edgeq_tensor_info *info) {
  if (tensor == NULL || info == NULL) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  *info = (edgeq_tensor_info){
      .name = edgeq_text(model, tensor->name),
      .layout = edgeq_text(model, tensor->layout),
      .dtype = tensor->dtype,
      .rank = tensor->rank,
      .shape = tensor->shape,
      .strides = tensor->strides,
      .scale = tensor->scale,
      .zero_point = tensor->zero_point,
      .storage_bias = tensor->storage_bias,
      .count = edgeq_tensor_count(tensor),
      .itemsize = edgeq_dtype_size(tensor->dtype),
      .arena_offset = tensor->offset,
      .arena_size = tensor->size,
  };
  return EDGEQ_OK;
}

edgeq_status edgeq_input_info(const edgeq_model *model, uint32_t index, edgeq_tensor_info *info) {
  return describe(model, edgeq_tensor(model, 0, index), info);
}

edgeq_status edgeq_output_info(const edgeq_model *model, uint32_t index, edgeq_tensor_info *info) {
  return describe(model, edgeq_tensor(model, 1, index), info);
}

edgeq_status edgeq_step_info_get(const edgeq_model *model, uint32_t index, edgeq_step_info *info) {
  if (info == NULL || index >= edgeq_step_count(model)) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  const edgeq_step_record *step = &edgeq_steps(model)[index];
  *info = (edgeq_step_info){
      .name = edgeq_text(model, step->name),
      .kind = edgeq_text(model, step->kind),
      .tasks = step->tasks,
      .grain = step->grain,
      .macs = step->macs,
      .bytes = step->bytes,
  };
  return EDGEQ_OK;
}

static const edgeq_image *image_of(const edgeq_model *model) {
  return model != NULL ? model->image : NULL;
}

size_t edgeq_arena_size(const edgeq_model *model) {
  const edgeq_image *image = image_of(model);
  uint64_t most = 0;
  for (uint32_t program = 0; image != NULL && program < model->stands_for; program++) {
    most = image[program].arena_size > most ? image[program].arena_size : most;
  }
  return (size_t)most;
}

uint32_t edgeq_max_threads(const edgeq_model *model) {
  const edgeq_image *image = image_of(model);
  return image != NULL ? image->max_threads : 0;
}

uint32_t edgeq_input_count(const edgeq_model *model) {
  const edgeq_image *image = image_of(model);
  return image != NULL ? image->input_count : 0;
}

uint32_t edgeq_output_count(const edgeq_model *model) {
  const edgeq_image *image = image_of(model);
  return image != NULL ? image->output_count : 0;
}

uint32_t edgeq_step_count(const edgeq_model *model) {
  const edgeq_image *image = image_of(model);
  return image != NULL ? image->step_count : 0;
}

const char *edgeq_manifest(const edgeq_model *model, size_t *size) {
  const edgeq_image *image = image_of(model);
  if (size != NULL) {
    *size = image != NULL ? (size_t)image->manifest_size : 0;
  }
  return image != NULL ? (const char *)image + image->manifest : NULL;
}
