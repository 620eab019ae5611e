/* Small things: errors, memory, whole files. */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

void stop(const char *format, ...) {
  va_list values;
  va_start(values, format);
  fputs("edgeq-run: ", stderr);
  vfprintf(stderr, format, values);
  fputc('\n', stderr);
  va_end(values);
  exit(EXIT_USAGE);
}

void *must_allocate(size_t size) {
  void *memory = calloc(1, size != 0 ? size : 1);
  if (memory == NULL) {
    stop("no memory for %zu bytes", size);
  }
  return memory;
}

size_t dtype_bytes(uint32_t dtype) {
  switch (dtype) {
  case EDGEQ_INT8:
  case EDGEQ_UINT8:
  case RAW:
    return 1;
  case EDGEQ_INT16:
    return 2;
  case EDGEQ_INT32:
  case FLOAT32:
    return 4;
  default:
    return 8;
  }
}

const char *dtype_name(uint32_t dtype) {
  static const char *const names[] = {"?", "int8", "uint8", "int16", "int32", "int64"};
  if (dtype == FLOAT32) {
    return "float32";
  }
  return dtype < sizeof names / sizeof *names ? names[dtype] : "raw";
}

int ends_with(const char *text, const char *end) {
  const size_t have = strlen(text), want = strlen(end);
  return have >= want && strcmp(text + have - want, end) == 0;
}

uint8_t *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    stop("%s can't be opened: %s", path, strerror(errno));
  }
  size_t capacity = 1 << 16, used = 0;
  uint8_t *data = must_allocate(capacity);
  for (;;) {
    used += fread(data + used, 1, capacity - used, file);
    if (used < capacity) {
      break;
    }
    capacity *= 2;
    uint8_t *larger = realloc(data, capacity);
    if (larger == NULL) {
      stop("no memory for %s", path);
    }
    data = larger;
  }
  if (ferror(file)) {
    stop("%s can't be read: %s", path, strerror(errno));
  }
  fclose(file);
  *size = used;
  return data;
}

void write_file(const char *path, const uint8_t *data, size_t size) {
  const size_t length = strlen(path) + 32;
  char *temporary = must_allocate(length);
  snprintf(temporary, length, "%s.%ld.tmp", path, (long)getpid());
  FILE *file = fopen(temporary, "wb");
  if (file == NULL) {
    stop("%s can't be written: %s", path, strerror(errno));
  }
  const int is_complete = fwrite(data, 1, size, file) == size;
  if (fclose(file) != 0 || !is_complete || rename(temporary, path) != 0) {
    const int reason = errno;
    remove(temporary);
    stop("%s can't be written: %s", path, strerror(reason));
  }
  free(temporary);
}
