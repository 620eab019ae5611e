/* Variants and programs: which part of an artifact a model stands for. */
#include <string.h>

#include "internal.h"

edgeq_status edgeq_features_check(char *detail, uint64_t needed) {
  const uint64_t missing = needed & ~edgeq_host_cpu_features();
  for (uint32_t bit = 0; bit < 64; bit++) {
    if (missing >> bit & 1) {
      const char *name = edgeq_cpu_feature_name(edgeq_host_arch(), bit);
      return edgeq_fail(detail, EDGEQ_ERROR_CPU, "this CPU has no %s (bit %u of the feature mask)",
                        name != NULL ? name : "feature of a newer edgeq", (unsigned)bit);
    }
  }
  return EDGEQ_OK;
}

static const edgeq_image *program_of(const edgeq_image *images, uint32_t variant, uint32_t program) {
  return &images[variant * images->program_count + program];
}

/* Describes and runs `image` from now on. */
static void point_to(edgeq_model *model, const edgeq_image *image, uint32_t stands_for) {
  model->image = image;
  model->variant = image->index / image->program_count;
  model->stands_for = stands_for;
  model->weights = (const uint8_t *)image + image->weights;
  model->step = (edgeq_step_fn)edgeq_entry_of(image);
  model->cpu_features = image->cpu_features;
}

edgeq_status edgeq_model_bind(edgeq_model *model, const edgeq_image *images) {
  const uint64_t host = edgeq_host_cpu_features();
  uint32_t variant = 0;
  while (variant + 1 < images->variant_count && (program_of(images, variant, 0)->cpu_features & ~host) != 0) {
    variant++;
  }
  const edgeq_image *image = program_of(images, variant, 0);
  const edgeq_status status = edgeq_features_check(model->detail, image->cpu_features);
  if (status == EDGEQ_OK) {
    model->images = images;
    point_to(model, image, images->program_count);
  }
  return status;
}

edgeq_status edgeq_model_attach(edgeq_model *model, const edgeq_image *image) {
  if (model == NULL) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  memset(model, 0, sizeof *model);
  if (image == NULL) {
    return edgeq_fail(model->detail, EDGEQ_ERROR_ARGUMENT, "no image was given");
  }
  const edgeq_status status = edgeq_images_check(model->detail, image, image->image_size);
  return status == EDGEQ_OK ? edgeq_model_bind(model, image) : status;
}

/* Copies what a model without a mapping of its own needs. `from` may be `to`. */
static edgeq_status derive(edgeq_model *to, const edgeq_model *from) {
  if (to == NULL || from == NULL || from->image == NULL || (to == from && from->mapping != NULL)) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  *to = (edgeq_model){.images = from->images, .code_size = from->code_size};
  return EDGEQ_OK;
}

uint32_t edgeq_program_count(const edgeq_model *model) {
  return model != NULL && model->image != NULL ? model->image->program_count : 0;
}

edgeq_status edgeq_program(edgeq_model *program, const edgeq_model *model, uint32_t index) {
  if (index >= edgeq_program_count(model)) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  const edgeq_image *image = program_of(model->images, model->variant, index);
  const edgeq_status status = derive(program, model);
  if (status == EDGEQ_OK) {
    point_to(program, image, 1);
  }
  return status;
}

uint32_t edgeq_variant_count(const edgeq_model *model) {
  return model != NULL && model->image != NULL ? model->image->variant_count : 0;
}

edgeq_status edgeq_variant(edgeq_model *other, const edgeq_model *model, uint32_t index) {
  if (index >= edgeq_variant_count(model)) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  const uint32_t program = model->image->index % model->image->program_count, stands_for = model->stands_for;
  const edgeq_image *image = program_of(model->images, index, program);
  edgeq_status status = derive(other, model);
  if (status == EDGEQ_OK) {
    status = edgeq_features_check(other->detail, image->cpu_features);
  }
  if (status == EDGEQ_OK) {
    point_to(other, image, stands_for);
  }
  return status;
}

int edgeq_pads(const edgeq_model *model) {
  return model != NULL && model->image != NULL && (model->image->flags & EDGEQ_IMAGE_PADS) != 0;
}

/* Whether this dimension is the same in every program: then nothing shorter fits. */
static int is_fixed(const edgeq_model *model, uint32_t input, uint32_t axis) {
  const edgeq_image *first = program_of(model->images, model->variant, 0);
  for (uint32_t program = 1; program < first->program_count; program++) {
    if (edgeq_image_tensors(&first[program])[input].shape[axis] != edgeq_image_tensors(first)[input].shape[axis]) {
      return 0;
    }
  }
  return 1;
}

enum { NO_FIT, FITS, EXACT };

/* How inputs of these shapes go into the program; `elements` receives how many values its inputs have. */
static int fit_of(const edgeq_model *model, uint32_t program, const int64_t *const *shapes, uint64_t *elements) {
  const edgeq_image *image = program_of(model->images, model->variant, program);
  int fit = EXACT;
  *elements = 0;
  for (uint32_t input = 0; input < image->input_count; input++) {
    const edgeq_tensor_record *tensor = &edgeq_image_tensors(image)[input];
    *elements += edgeq_tensor_count(tensor);
    for (uint32_t axis = 0; axis < tensor->rank; axis++) {
      const int64_t given = shapes[input][axis], size = tensor->shape[axis];
      if (given != size) {
        fit = FITS;
      }
      if (given < 1 || given > size || (given != size && is_fixed(model, input, axis))) {
        return NO_FIT;
      }
    }
  }
  return fit;
}

edgeq_status edgeq_program_for(const edgeq_model *model, const int64_t *const *shapes, uint32_t *index) {
  if (model == NULL || model->image == NULL || shapes == NULL || index == NULL) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  uint64_t least = UINT64_MAX;
  for (uint32_t program = 0; program < model->image->program_count; program++) {
    uint64_t elements;
    const int fit = fit_of(model, program, shapes, &elements);
    if (fit == EXACT) {
      *index = program;
      return EDGEQ_OK;
    }
    if (fit == FITS && edgeq_pads(model) && elements < least) {
      least = elements;
      *index = program;
    }
  }
  return least != UINT64_MAX ? EDGEQ_OK : EDGEQ_ERROR_SIZE;
}
