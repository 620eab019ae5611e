/* Which program of an artifact the given arrays are for, and how shorter ones are padded for it and cut afterwards. */
#include <stdlib.h>
#include <string.h>

#include "tool.h"

typedef edgeq_status (*info_fn)(const edgeq_model *, uint32_t, edgeq_tensor_info *);

/* The dimensions of one sample in the terms of the model's input: without a sample axis in front, merged or not. */
static void sample_shape(const array *item, const edgeq_tensor_info *info, int64_t *shape) {
  if (item->dtype == RAW || item->rank < info->rank || item->rank > info->rank + 1) {
    memset(shape, 0, EDGEQ_MAX_RANK * sizeof *shape); /* fits nowhere */
    return;
  }
  memcpy(shape, item->shape + (item->rank - info->rank), info->rank * sizeof *shape);
  if (item->rank == info->rank && info->rank != 0 && shape[0] > info->shape[0] && shape[0] % info->shape[0] == 0) {
    shape[0] = info->shape[0];
  }
}

uint32_t program_for_inputs(const edgeq_model *model, const array *inputs) {
  const uint32_t count = edgeq_input_count(model);
  int64_t (*shapes)[EDGEQ_MAX_RANK] = must_allocate((count + 1) * sizeof *shapes);
  const int64_t **rows = must_allocate((count + 1) * sizeof *rows);
  for (uint32_t index = 0; index < count; index++) {
    edgeq_tensor_info info;
    edgeq_input_info(model, index, &info);
    sample_shape(&inputs[index], &info, shapes[index]);
    rows[index] = shapes[index];
  }
  uint32_t program = 0;
  if (edgeq_program_for(model, rows, &program) != EDGEQ_OK) {
    stop("no program of the model takes inputs of these shapes%s; --info lists the programs",
         edgeq_pads(model) ? "" : ", and padding to a longer one would change this model's outputs");
  }
  free(rows);
  free(shapes);
  return program;
}

static int varies(const edgeq_model *model, info_fn describe, uint32_t index, uint32_t axis) {
  edgeq_tensor_info first, other;
  edgeq_model program;
  describe(model, index, &first);
  for (uint32_t place = 0; place < edgeq_program_count(model); place++) {
    if (edgeq_program(&program, model, place) == EDGEQ_OK && describe(&program, index, &other) == EDGEQ_OK &&
        other.shape[axis] != first.shape[axis]) {
      return 1;
    }
  }
  return 0;
}

/* `item` with the last `rank` of its dimensions replaced: cut, or filled up with the integer `fill`. */
static void resize(array *item, const int64_t *shape, uint32_t rank, int64_t fill) {
  array made = *item;
  const uint32_t front = item->rank - rank;
  const size_t width = dtype_bytes(item->dtype);
  uint8_t unit[8] = {0}; /* a float 0 is all zero bits */
  if (item->dtype != FLOAT32) {
    memcpy(unit, &fill, width); /* little-endian: the low bytes come first */
  }
  memcpy(made.shape + front, shape, rank * sizeof *shape);
  size_t count = 1, rows = 1, last = item->rank - 1;
  for (uint32_t axis = 0; axis < made.rank; axis++) {
    count *= (size_t)made.shape[axis];
    rows *= axis < last ? (size_t)made.shape[axis] : 1;
  }
  made.size = count * width;
  made.data = must_allocate(made.size);
  const int64_t kept = item->shape[last] < made.shape[last] ? item->shape[last] : made.shape[last];
  for (size_t row = 0; row < rows; row++) {
    uint8_t *to = made.data + row * (size_t)made.shape[last] * width;
    size_t rest = row, source = 0, step = 1;
    int inside = 1;
    for (uint32_t axis = (uint32_t)last; axis-- > 0;) {
      const size_t place = rest % (size_t)made.shape[axis];
      rest /= (size_t)made.shape[axis];
      inside = inside && place < (size_t)item->shape[axis];
      source += place * step;
      step *= (size_t)item->shape[axis];
    }
    for (int64_t place = inside ? kept : 0; place < made.shape[last]; place++) {
      memcpy(to + (size_t)place * width, unit, width);
    }
    if (inside) {
      memcpy(to, item->data + source * (size_t)item->shape[last] * width, (size_t)kept * width);
    }
  }
  free(item->data);
  *item = made;
}

void pad_inputs(const edgeq_model *program, array *inputs, length_map *lengths) {
  for (uint32_t index = 0; index < edgeq_input_count(program); index++) {
    edgeq_tensor_info info;
    edgeq_input_info(program, index, &info);
    array *item = &inputs[index];
    if (item->dtype == RAW || item->rank < info.rank || info.rank == 0) {
      continue;
    }
    int64_t shape[EDGEQ_MAX_RANK];
    memcpy(shape, item->shape + (item->rank - info.rank), info.rank * sizeof *shape);
    int shorter = 0;
    for (uint32_t axis = 0; axis < info.rank; axis++) {
      if (shape[axis] >= info.shape[axis] || !varies(program, edgeq_input_info, index, axis)) {
        continue;
      }
      if (lengths->size != 0 && (lengths->size != info.shape[axis] || lengths->given != shape[axis])) {
        stop("input %s has another length than the inputs before it", info.name);
      }
      *lengths = (length_map){.size = info.shape[axis], .given = shape[axis]};
      shape[axis] = info.shape[axis];
      shorter = 1;
    }
    if (shorter) {
      resize(item, shape, info.rank, info.zero_point);
    }
  }
}

void cut_outputs(const edgeq_model *program, array_list *outputs, const length_map *lengths) {
  for (uint32_t index = 0; lengths->size != 0 && index < outputs->count; index++) {
    edgeq_tensor_info info;
    edgeq_output_info(program, index, &info);
    array *item = &outputs->items[index];
    int64_t shape[EDGEQ_MAX_RANK];
    memcpy(shape, item->shape + (item->rank - info.rank), info.rank * sizeof *shape);
    int longer = 0;
    for (uint32_t axis = 0; axis < info.rank; axis++) {
      if (info.shape[axis] == lengths->size && varies(program, edgeq_output_info, index, axis)) {
        shape[axis] = lengths->given;
        longer = 1;
      }
    }
    if (longer) {
      resize(item, shape, info.rank, 0);
    }
  }
}
