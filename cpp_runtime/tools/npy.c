/* NumPy's .npy: magic, version, header length, a Python dict literal, data. The format is described in NumPy's
 * numpy.lib.format documentation. */
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static const char MAGIC[] = "\x93NUMPY";
enum { MAGIC_SIZE = 6, DATA_ALIGNMENT = 64 };

typedef struct code {
  const char *text;
  uint32_t dtype;
} code;

static const code CODES[] = {
    {"|i1", EDGEQ_INT8},  {"|u1", EDGEQ_UINT8}, {"<i2", EDGEQ_INT16},
    {"<i4", EDGEQ_INT32}, {"<i8", EDGEQ_INT64}, {"<f4", FLOAT32},
};

/* Position behind `key` and its colon in the header, or NULL. */
static const char *value_of(const char *header, const char *key) {
  const char *found = strstr(header, key);
  found = found != NULL ? strchr(found, ':') : NULL;
  return found != NULL ? found + 1 + strspn(found + 1, " ") : NULL;
}

static void parse_dtype(const char *where, const char *value, array *item, int *is_double) {
  char text[16] = {0};
  if (value == NULL || (*value != '\'' && *value != '"')) {
    stop("%s: structured arrays can't be inputs", where);
  }
  for (size_t i = 0; i + 1 < sizeof text && value[1 + i] != value[0] && value[1 + i] != '\0'; i++) {
    text[i] = value[1 + i];
  }
  *is_double = strcmp(text, "<f8") == 0;
  item->dtype = *is_double ? FLOAT32 : 0;
  for (size_t i = 0; i < sizeof CODES / sizeof *CODES; i++) {
    item->dtype = strcmp(text, CODES[i].text) == 0 ? CODES[i].dtype : item->dtype;
  }
  if (item->dtype == 0) {
    stop("%s: dtype %s; possible are int8, uint8, int16, int32, int64, float32 and float64, little-endian", where,
         text);
  }
}

/* Fills shape and rank; returns the number of elements, at most `limit`. */
static size_t parse_shape(const char *where, const char *value, array *item, size_t limit) {
  if (value == NULL || *value != '(') {
    stop("%s: the .npy header has no shape", where);
  }
  size_t count = 1;
  for (value++; *value != ')' && *value != '\0'; value += strspn(value, ", ")) {
    char *end;
    const long long length = strtoll(value, &end, 10);
    if (end == value || length < 0 || item->rank == MAX_AXES) {
      stop("%s: the shape in the .npy header can't be read", where);
    }
    if (length != 0 && count > limit / (size_t)length) {
      stop("%s: the .npy file is truncated", where);
    }
    count *= (size_t)length;
    item->shape[item->rank++] = length;
    value = end + strspn(end, "L");
  }
  return count;
}

static void copy_values(array *item, const uint8_t *data, size_t count, int is_double) {
  item->size = count * dtype_bytes(item->dtype);
  item->data = must_allocate(item->size);
  if (!is_double) {
    memcpy(item->data, data, item->size);
    return;
  }
  for (size_t i = 0; i < count; i++) {
    double value;
    memcpy(&value, data + i * sizeof value, sizeof value);
    const float narrow = (float)value;
    memcpy(item->data + i * sizeof narrow, &narrow, sizeof narrow);
  }
}

array npy_parse(const char *where, const uint8_t *data, size_t size) {
  if (size < MAGIC_SIZE + 6 || memcmp(data, MAGIC, MAGIC_SIZE) != 0) {
    stop("%s is not a .npy file", where);
  }
  const size_t is_long = data[MAGIC_SIZE] >= 2; /* the major version decides the width of the length */
  const size_t start = MAGIC_SIZE + 2 + (is_long ? 4 : 2);
  size_t length = (size_t)data[8] | (size_t)data[9] << 8;
  length |= is_long ? (size_t)data[10] << 16 | (size_t)data[11] << 24 : 0;
  if (length > size - start) {
    stop("%s: the .npy file is truncated", where);
  }
  char *header = must_allocate(length + 1);
  memcpy(header, data + start, length);
  array item = {.rank = 0};
  int is_double = 0;
  parse_dtype(where, value_of(header, "descr"), &item, &is_double);
  const char *order = value_of(header, "fortran_order");
  if (order == NULL || strncmp(order, "False", 5) != 0) {
    stop("%s: Fortran order; save it with np.ascontiguousarray", where);
  }
  const size_t itemsize = is_double ? 8 : dtype_bytes(item.dtype), left = size - start - length;
  const size_t count = parse_shape(where, value_of(header, "shape"), &item, left / itemsize);
  if (count * itemsize > left) {
    stop("%s: the .npy file is truncated", where);
  }
  copy_values(&item, data + start + length, count, is_double);
  free(header);
  return item;
}

uint8_t *npy_build(const array *item, size_t *size) {
  char header[640];
  const char *type = "<f4";
  for (size_t i = 0; i < sizeof CODES / sizeof *CODES; i++) {
    type = CODES[i].dtype == item->dtype ? CODES[i].text : type;
  }
  int used = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (", type);
  for (uint32_t axis = 0; axis < item->rank; axis++) {
    used += snprintf(header + used, sizeof header - (size_t)used, "%lld,%s", (long long)item->shape[axis],
                     axis + 1 < item->rank ? " " : "");
  }
  used += snprintf(header + used, sizeof header - (size_t)used, "), }");
  const size_t prefix = MAGIC_SIZE + 4;
  const size_t start = (prefix + (size_t)used + 1 + DATA_ALIGNMENT - 1) / DATA_ALIGNMENT * DATA_ALIGNMENT;
  const size_t length = start - prefix;
  *size = start + item->size;
  uint8_t *data = must_allocate(*size);
  memcpy(data, MAGIC, MAGIC_SIZE);
  data[6] = 1;
  data[8] = (uint8_t)length;
  data[9] = (uint8_t)(length >> 8);
  memset(data + prefix, ' ', length);
  memcpy(data + prefix, header, (size_t)used);
  data[start - 1] = '\n';
  memcpy(data + start, item->data, item->size);
  return data;
}
