/* The image: every field is checked before it is used, as if somebody had made it to break the reader. */
#include <string.h>

#include "internal.h"

/* Far above any real tensor, far below anything whose sums could wrap. */
#define LIMIT (UINT64_C(1) << 40)

uint32_t edgeq_dtype_size(uint32_t dtype) {
  switch (dtype) {
  case EDGEQ_INT8:
  case EDGEQ_UINT8:
    return 1;
  case EDGEQ_INT16:
    return 2;
  case EDGEQ_INT32:
    return 4;
  case EDGEQ_INT64:
    return 8;
  default:
    return 0;
  }
}

uint64_t edgeq_tensor_count(const edgeq_tensor_record *tensor) {
  uint64_t count = 1;
  for (uint32_t axis = 0; axis < tensor->rank; axis++) {
    count *= (uint64_t)tensor->shape[axis];
  }
  return count;
}

static edgeq_status check_header(char *detail, const edgeq_image *image, uint64_t size) {
  if ((uintptr_t)image % EDGEQ_ALIGNMENT != 0 || size < sizeof *image) {
    return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "the image is too short or not aligned");
  }
  if (memcmp(image->magic, EDGEQ_IMAGE_MAGIC, EDGEQ_MAGIC_SIZE) != 0) {
    return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "no image where the trailer points to");
  }
  if (image->abi_version != EDGEQ_ABI_VERSION || image->header_size != sizeof *image) {
    return edgeq_fail(detail, EDGEQ_ERROR_ABI, "image of ABI %u, this runtime has %u", (unsigned)image->abi_version,
                      EDGEQ_ABI_VERSION);
  }
  if (image->image_size != size || image->step_count == 0 || image->output_count == 0) {
    return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "the image's size or counts are wrong");
  }
  if (image->arena_size == 0 || image->arena_size > LIMIT || image->arena_alignment != EDGEQ_ALIGNMENT ||
      image->max_threads == 0 || image->max_threads > EDGEQ_MAX_THREADS) {
    return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "the image's arena or threads are out of range");
  }
  return EDGEQ_OK;
}

static edgeq_status check_ranges(char *detail, const edgeq_image *image) {
  const uint64_t size = image->image_size;
  const uint64_t tensors = (uint64_t)image->input_count + image->output_count;
  int good = edgeq_inside(image->steps, (uint64_t)image->step_count * sizeof(edgeq_step_record), size) &&
             edgeq_inside(image->tensors, tensors * sizeof(edgeq_tensor_record), size) &&
             edgeq_inside(image->strings, image->strings_size, size) &&
             edgeq_inside(image->weights, image->weights_size, size) &&
             edgeq_inside(image->manifest, image->manifest_size, size) &&
             image->golden_stride <= size && /* else the product below could wrap */
             size <= LIMIT / 256 && edgeq_inside(image->golden, image->golden_count * image->golden_stride, size);
  good = good && image->steps % 8 == 0 && image->tensors % 8 == 0 && image->golden % 8 == 0 &&
         image->weights % EDGEQ_ALIGNMENT == 0;
  if (!good) {
    return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "a table of the image is outside it or not aligned");
  }
  const uint8_t *strings = (const uint8_t *)image + image->strings;
  if (image->strings_size == 0 || image->strings_size > UINT32_MAX || strings[image->strings_size - 1] != 0) {
    return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "the image's strings don't end");
  }
  return EDGEQ_OK;
}

/* A zero point is a value of its own tensor. */
static int good_zero_point(uint32_t dtype, int32_t zero_point) {
  switch (dtype) {
  case EDGEQ_INT8:
    return zero_point >= INT8_MIN && zero_point <= INT8_MAX;
  case EDGEQ_UINT8:
    return zero_point >= 0 && zero_point <= UINT8_MAX;
  case EDGEQ_INT16:
    return zero_point >= INT16_MIN && zero_point <= INT16_MAX;
  default:
    return 1;
  }
}

/* Fields by themselves, then the place in the arena. */
static edgeq_status check_tensor(char *detail, const edgeq_image *image, const edgeq_tensor_record *tensor) {
  const uint32_t itemsize = edgeq_dtype_size(tensor->dtype);
  int good = itemsize != 0 && tensor->rank <= EDGEQ_MAX_RANK && tensor->name < image->strings_size &&
             tensor->layout < image->strings_size && tensor->scale >= 1e-30 && tensor->scale <= 1e30 &&
             good_zero_point(tensor->dtype, tensor->zero_point) &&
             (tensor->storage_bias == 0 || (tensor->storage_bias == 0x80 && tensor->dtype == EDGEQ_INT8));
  uint64_t count = 1, last = 0;
  for (uint32_t axis = 0; good && axis < tensor->rank; axis++) {
    const int64_t length = tensor->shape[axis], stride = tensor->strides[axis];
    good = length >= 1 && length <= INT32_MAX && stride >= 0 && stride <= INT32_MAX;
    if (good) {
      last += (uint64_t)(length - 1) * (uint64_t)stride; /* below 2^40 + 2^62: no wrap */
      good = count <= LIMIT / (uint64_t)length && last <= LIMIT;
      count *= good ? (uint64_t)length : 1;
    }
  }
  if (!good || tensor->size != (last + 1) * itemsize || tensor->offset % itemsize != 0 ||
      !edgeq_inside(tensor->offset, tensor->size, image->arena_size)) {
    return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "an input or output of the image is out of range");
  }
  return EDGEQ_OK;
}

static edgeq_status check_steps(char *detail, const edgeq_image *image) {
  const edgeq_step_record *steps = (const void *)((const uint8_t *)image + image->steps);
  for (uint32_t index = 0; index < image->step_count; index++) {
    const edgeq_step_record *step = &steps[index];
    if (step->name >= image->strings_size || step->kind >= image->strings_size || step->tasks == 0 ||
        step->tasks > INT32_MAX || step->grain == 0) {
      return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "step %u of the image is out of range", (unsigned)index);
    }
  }
  return EDGEQ_OK;
}

/* Inputs and outputs, and the golden vectors that are made of their values. */
static edgeq_status check_tensors(char *detail, const edgeq_image *image) {
  const edgeq_tensor_record *tensors = edgeq_image_tensors(image);
  uint64_t golden = 0;
  for (uint64_t index = 0; index < (uint64_t)image->input_count + image->output_count; index++) {
    const edgeq_status status = check_tensor(detail, image, &tensors[index]);
    if (status != EDGEQ_OK) {
      return status;
    }
    golden += (edgeq_tensor_count(&tensors[index]) * edgeq_dtype_size(tensors[index].dtype) + 7) / 8 * 8;
    golden = golden <= LIMIT ? golden : LIMIT + 1; /* stays wrong, can't wrap */
  }
  if (image->golden_count != 0 && golden != image->golden_stride) {
    return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "the golden vectors don't fit the inputs and outputs");
  }
  return EDGEQ_OK;
}

static edgeq_status check_image(char *detail, const edgeq_image *image, uint64_t size) {
  edgeq_status status = check_header(detail, image, size);
  if (status == EDGEQ_OK) {
    status = check_ranges(detail, image);
  }
  if (status == EDGEQ_OK) {
    status = check_steps(detail, image);
  }
  return status == EDGEQ_OK ? check_tensors(detail, image) : status;
}

/* All but the place in the arena, and but the shape if `program` differs. */
static int same_tensor(const edgeq_tensor_record *one, const edgeq_tensor_record *other, int same_shape) {
  return one->dtype == other->dtype && one->rank == other->rank && one->scale == other->scale &&
         one->zero_point == other->zero_point &&
         (!same_shape || memcmp(one->shape, other->shape, sizeof one->shape) == 0);
}

/* Image `index` against the first of all, of its variant, and of its program: see the head of artifact.h. */
static edgeq_status check_kinship(char *detail, const edgeq_image *images, uint32_t index) {
  const edgeq_image *image = &images[index];
  const uint32_t program = index % images->program_count;
  int good = image->index == index && image->variant_count == images->variant_count &&
             image->program_count == images->program_count && image->flags == images->flags &&
             image->input_count == images->input_count && image->output_count == images->output_count &&
             image->cpu_features == images[index - program].cpu_features;
  for (uint64_t place = 0; good && place < (uint64_t)image->input_count + image->output_count; place++) {
    const edgeq_tensor_record *tensor = &edgeq_image_tensors(image)[place];
    good = same_tensor(tensor, &edgeq_image_tensors(images)[place], 0) &&
           same_tensor(tensor, &edgeq_image_tensors(&images[program])[place], 1) &&
           strcmp(edgeq_image_text(image, tensor->name),
                  edgeq_image_text(images, edgeq_image_tensors(images)[place].name)) == 0;
  }
  return good ? EDGEQ_OK
              : edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "program %u contradicts the first one", (unsigned)index);
}

edgeq_status edgeq_images_check(char *detail, const edgeq_image *images, uint64_t size) {
  edgeq_status status = check_image(detail, images, size);
  if (status != EDGEQ_OK) {
    return status;
  }
  if (images->variant_count == 0 || images->variant_count > EDGEQ_MAX_VARIANTS || images->program_count == 0 ||
      images->program_count > EDGEQ_MAX_PROGRAMS || (images->flags & ~EDGEQ_IMAGE_PADS) != 0) {
    return edgeq_fail(detail, EDGEQ_ERROR_FORMAT, "the image's variants, programs or flags are out of range");
  }
  for (uint32_t index = 0; status == EDGEQ_OK && index < images->variant_count * images->program_count; index++) {
    const uint64_t before = (uint64_t)index * sizeof *images;
    /* size < before would wrap; check_header refuses what is left if it can't hold a header. */
    status = check_image(detail, &images[index], before <= size ? size - before : 0);
    if (status == EDGEQ_OK) {
      status = check_kinship(detail, images, index);
    }
  }
  return status;
}
