/* Between dense values of the caller and tensors in the arena: strides, storage bias, quantization. The only floating
 * point of the runtime; edgeq_run never comes here. Loops are written so that compilers vectorize them for the baseline
 * CPU. */
#include <math.h>
#include <string.h>

#include "internal.h"

enum { BIAS = 0x80 };

/* A tensor as rows: all axes but the last in `shape`/`strides`, axes that continue each other merged. */
typedef struct rows {
  uint32_t rank; /* of the outer axes */
  int64_t shape[EDGEQ_MAX_RANK];
  int64_t strides[EDGEQ_MAX_RANK];
  int64_t length; /* elements of a row */
  int64_t stride; /* between them */
} rows;

static rows rows_of(const edgeq_tensor_record *tensor) {
  rows found = {.length = 1, .stride = 1};
  int is_first = 1;
  for (uint32_t axis = tensor->rank; axis-- > 0;) {
    const int64_t length = tensor->shape[axis], stride = tensor->strides[axis];
    if (length == 1) {
      continue;
    }
    if (is_first) {
      found.length = length;
      found.stride = stride;
      is_first = 0;
    } else if (found.rank == 0 && stride == found.length * found.stride) {
      found.length *= length;
    } else {
      found.shape[found.rank] = length;
      found.strides[found.rank++] = stride;
    }
  }
  return found;
}

/* Steps to the next row; returns 0 behind the last. Outer axes are stored from the innermost to the outermost. */
static int next_row(const rows *r, int64_t place[EDGEQ_MAX_RANK], int64_t *offset) {
  for (uint32_t axis = 0; axis < r->rank; axis++) {
    *offset += r->strides[axis];
    if (++place[axis] < r->shape[axis]) {
      return 1;
    }
    *offset -= r->shape[axis] * r->strides[axis];
    place[axis] = 0;
  }
  return 0;
}

/* ---- integers to and from the arena ---- */

static void copy_row8(uint8_t *restrict to, int64_t to_stride, const uint8_t *restrict from, int64_t from_stride,
                      int64_t length, uint8_t bias) {
  if (to_stride == 1 && from_stride == 1) {
    for (int64_t i = 0; i < length; i++) {
      to[i] = from[i] ^ bias;
    }
    return;
  }
  for (int64_t i = 0; i < length; i++) {
    to[i * to_stride] = from[i * from_stride] ^ bias;
  }
}

/* memcpy because the caller's values need not be aligned; with a constant size it is one move. */
static void copy_row(uint8_t *to, int64_t to_stride, const uint8_t *from, int64_t from_stride, int64_t length,
                     uint32_t itemsize) {
  for (int64_t i = 0; i < length; i++) {
    switch (itemsize) {
    case 2:
      memcpy(to + 2 * i * to_stride, from + 2 * i * from_stride, 2);
      break;
    case 4:
      memcpy(to + 4 * i * to_stride, from + 4 * i * from_stride, 4);
      break;
    default:
      memcpy(to + 8 * i * to_stride, from + 8 * i * from_stride, 8);
    }
  }
}

void edgeq_tensor_store(uint8_t *arena, const edgeq_tensor_record *tensor, const void *values) {
  const rows r = rows_of(tensor);
  const uint32_t itemsize = edgeq_dtype_size(tensor->dtype);
  const uint8_t *from = values;
  int64_t place[EDGEQ_MAX_RANK] = {0}, offset = 0;
  do {
    uint8_t *to = arena + tensor->offset + offset * itemsize;
    if (itemsize == 1) {
      copy_row8(to, r.stride, from, 1, r.length, (uint8_t)tensor->storage_bias);
    } else {
      copy_row(to, r.stride, from, 1, r.length, itemsize);
    }
    from += r.length * itemsize;
  } while (next_row(&r, place, &offset));
}

void edgeq_tensor_load(const uint8_t *arena, const edgeq_tensor_record *tensor, void *values) {
  const rows r = rows_of(tensor);
  const uint32_t itemsize = edgeq_dtype_size(tensor->dtype);
  uint8_t *to = values;
  int64_t place[EDGEQ_MAX_RANK] = {0}, offset = 0;
  do {
    const uint8_t *from = arena + tensor->offset + offset * itemsize;
    if (itemsize == 1) {
      copy_row8(to, 1, from, r.stride, r.length, (uint8_t)tensor->storage_bias);
    } else {
      copy_row(to, 1, from, r.stride, r.length, itemsize);
    }
    to += r.length * itemsize;
  } while (next_row(&r, place, &offset));
}

uint64_t edgeq_tensor_difference(const uint8_t *arena, const edgeq_tensor_record *tensor, const void *values) {
  const rows r = rows_of(tensor);
  const uint32_t itemsize = edgeq_dtype_size(tensor->dtype);
  const uint8_t *want = values;
  uint64_t index = 0;
  int64_t place[EDGEQ_MAX_RANK] = {0}, offset = 0;
  do {
    const uint8_t *from = arena + tensor->offset + offset * itemsize;
    for (int64_t i = 0; i < r.length; i++, index++, want += itemsize) {
      uint8_t value[8];
      memcpy(value, from + i * r.stride * itemsize, itemsize);
      value[0] ^= (uint8_t)tensor->storage_bias; /* only ever set where the item is one byte */
      if (memcmp(value, want, itemsize) != 0) {
        return index;
      }
    }
  } while (next_row(&r, place, &offset));
  return index;
}

/* ---- floats ---- */

static edgeq_scaling scaling_of(const edgeq_tensor_record *tensor) {
  int32_t low = 0, high = 0;
  switch (tensor->dtype) {
  case EDGEQ_INT8:
    low = INT8_MIN;
    high = INT8_MAX;
    break;
  case EDGEQ_UINT8:
    high = UINT8_MAX;
    break;
  case EDGEQ_INT16:
    low = INT16_MIN;
    high = INT16_MAX;
    break;
  default:
    break; /* wider dtypes have their own path */
  }
  const int32_t zero = tensor->zero_point;
  const int is_narrow = tensor->dtype != EDGEQ_INT32 && tensor->dtype != EDGEQ_INT64;
  return (edgeq_scaling){
      .inverse = (float)(1.0 / tensor->scale),
      .scale = (float)tensor->scale,
      .low = is_narrow ? (float)(low - zero) : 0,
      .high = is_narrow ? (float)(high - zero) : 0,
      .zero = is_narrow ? zero + (int32_t)tensor->storage_bias : zero,
  };
}

static inline int32_t quantize_one(float value, const edgeq_scaling s) {
  float steps = value * s.inverse;
  steps = steps > s.low ? steps : s.low; /* NaN goes here */
  steps = steps < s.high ? steps : s.high;
  steps += EDGEQ_ROUND_MAGIC;
  int32_t bits;
  memcpy(&bits, &steps, sizeof bits);
  return bits - EDGEQ_ROUND_BITS + s.zero;
}

/* One row of each stored type. A biased int8 is a uint8 whose zero point is 128 higher. */
#define DEFINE_ROWS(type, name)                                                                                        \
  static void quantize_row_##name(void *restrict arena, int64_t stride, const float *restrict from, int64_t length,    \
                                  const edgeq_scaling s) {                                                             \
    type *to = arena;                                                                                                  \
    if (stride == 1) {                                                                                                 \
      for (int64_t i = 0; i < length; i++) {                                                                           \
        to[i] = (type)quantize_one(from[i], s);                                                                        \
      }                                                                                                                \
      return;                                                                                                          \
    }                                                                                                                  \
    for (int64_t i = 0; i < length; i++) {                                                                             \
      to[i * stride] = (type)quantize_one(from[i], s);                                                                 \
    }                                                                                                                  \
  }                                                                                                                    \
  static void dequantize_row_##name(float *restrict to, const void *restrict arena, int64_t stride, int64_t length,    \
                                    const edgeq_scaling s) {                                                           \
    const type *from = arena;                                                                                          \
    if (stride == 1) {                                                                                                 \
      for (int64_t i = 0; i < length; i++) {                                                                           \
        to[i] = (float)(from[i] - s.zero) * s.scale;                                                                   \
      }                                                                                                                \
      return;                                                                                                          \
    }                                                                                                                  \
    for (int64_t i = 0; i < length; i++) {                                                                             \
      to[i] = (float)(from[i * stride] - s.zero) * s.scale;                                                            \
    }                                                                                                                  \
  }

DEFINE_ROWS(int8_t, s8)
DEFINE_ROWS(uint8_t, u8)
DEFINE_ROWS(int16_t, s16)

/* 32 and 64 bits: rare, so exact before fast. The largest int64 has no double; its neighbour below 2^63 takes its
 * place. */
static void quantize_row_wide(void *arena, int64_t stride, const float *from, int64_t length, const edgeq_scaling s,
                              uint32_t dtype) {
  const double low = dtype == EDGEQ_INT32 ? -2147483648.0 : -9223372036854775808.0;
  const double high = dtype == EDGEQ_INT32 ? 2147483647.0 : 9223372036854774784.0;
  for (int64_t i = 0; i < length; i++) {
    double value = (double)rintf(from[i] * s.inverse) + s.zero;
    value = value > low ? value : low;
    value = value < high ? value : high;
    if (dtype == EDGEQ_INT32) {
      ((int32_t *)arena)[i * stride] = (int32_t)value;
    } else {
      ((int64_t *)arena)[i * stride] = (int64_t)value;
    }
  }
}

static void dequantize_row_wide(float *to, const void *arena, int64_t stride, int64_t length, const edgeq_scaling s,
                                uint32_t dtype) {
  for (int64_t i = 0; i < length; i++) {
    const int64_t value =
        dtype == EDGEQ_INT32 ? ((const int32_t *)arena)[i * stride] : ((const int64_t *)arena)[i * stride];
    /* Unsigned, so that the ends of int64 wrap as they do elsewhere instead of being undefined. */
    to[i] = (float)(int64_t)((uint64_t)value - (uint64_t)(int64_t)s.zero) * s.scale;
  }
}

/* How much of a row of bytes the processor's own instructions convert. */
static int64_t quantize_fast(uint8_t *to, int64_t stride, const float *from, int64_t length, const edgeq_scaling *s,
                             int is_signed, uint64_t features) {
#if defined(__x86_64__)
  if (stride == 1 && (features & EDGEQ_X86_AVX2) != 0) {
    return edgeq_quantize_bytes_avx2(to, from, length, s, is_signed);
  }
#else
  (void)to, (void)stride, (void)from, (void)length, (void)s, (void)is_signed, (void)features;
#endif
  return 0;
}

static void quantize_row(uint8_t *to, const edgeq_tensor_record *tensor, int64_t stride, const float *from,
                         int64_t length, const edgeq_scaling *s, uint64_t features) {
  if (tensor->dtype == EDGEQ_UINT8 || tensor->storage_bias == BIAS) {
    const int64_t done = quantize_fast(to, stride, from, length, s, 0, features);
    quantize_row_u8(to + done, stride, from + done, length - done, *s);
  } else if (tensor->dtype == EDGEQ_INT8) {
    const int64_t done = quantize_fast(to, stride, from, length, s, 1, features);
    quantize_row_s8(to + done, stride, from + done, length - done, *s);
  } else if (tensor->dtype == EDGEQ_INT16) {
    quantize_row_s16(to, stride, from, length, *s);
  } else {
    quantize_row_wide(to, stride, from, length, *s, tensor->dtype);
  }
}

int edgeq_tensor_is_dense(const edgeq_tensor_record *tensor) {
  const rows r = rows_of(tensor);
  return r.rank == 0 && r.stride == 1;
}

void edgeq_tensor_quantize_part(uint8_t *arena, const edgeq_tensor_record *tensor, const float *values, uint64_t begin,
                                uint64_t end, uint64_t features) {
  const edgeq_scaling s = scaling_of(tensor);
  uint8_t *to = arena + tensor->offset + begin * edgeq_dtype_size(tensor->dtype);
  quantize_row(to, tensor, 1, values + begin, (int64_t)(end - begin), &s, features);
}

void edgeq_tensor_quantize(uint8_t *arena, const edgeq_tensor_record *tensor, const float *values, uint64_t features) {
  const rows r = rows_of(tensor);
  const edgeq_scaling s = scaling_of(tensor);
  const uint32_t itemsize = edgeq_dtype_size(tensor->dtype);
  int64_t place[EDGEQ_MAX_RANK] = {0}, offset = 0;
  do {
    quantize_row(arena + tensor->offset + offset * itemsize, tensor, r.stride, values, r.length, &s, features);
    values += r.length;
  } while (next_row(&r, place, &offset));
}

void edgeq_tensor_dequantize(const uint8_t *arena, const edgeq_tensor_record *tensor, float *values) {
  const rows r = rows_of(tensor);
  const edgeq_scaling s = scaling_of(tensor);
  const uint32_t itemsize = edgeq_dtype_size(tensor->dtype);
  int64_t place[EDGEQ_MAX_RANK] = {0}, offset = 0;
  do {
    const uint8_t *from = arena + tensor->offset + offset * itemsize;
    if (tensor->dtype == EDGEQ_UINT8 || tensor->storage_bias == BIAS) {
      dequantize_row_u8(values, from, r.stride, r.length, s);
    } else if (tensor->dtype == EDGEQ_INT8) {
      dequantize_row_s8(values, from, r.stride, r.length, s);
    } else if (tensor->dtype == EDGEQ_INT16) {
      dequantize_row_s16(values, from, r.stride, r.length, s);
    } else {
      dequantize_row_wide(values, from, r.stride, r.length, s, tensor->dtype);
    }
    values += r.length;
  } while (next_row(&r, place, &offset));
}
