/* NumPy's .npz: a zip file with one .npy member per array. Only stored members: inflating would need a library. The zip
 * structures are those of PKWARE's APPNOTE 6.3, sections 4.3.7 (local header), 4.3.12 (central directory) and 4.3.16
 * (end). */
#include <stdlib.h>
#include <string.h>

#include "tool.h"

enum { LOCAL_SIZE = 30, CENTRAL_SIZE = 46, END_SIZE = 22, MAX_COMMENT = 65535 };

static uint32_t get16(const uint8_t *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t get32(const uint8_t *at) {
  return get16(at) | get16(at + 2) << 16;
}

static void put16(uint8_t *at, uint32_t value) {
  at[0] = (uint8_t)value;
  at[1] = (uint8_t)(value >> 8);
}

static void put32(uint8_t *at, uint32_t value) {
  put16(at, value);
  put16(at + 2, value >> 16);
}

/* CRC-32 of the zip format: reflected polynomial 0xedb88320. */
static uint32_t crc32(const uint8_t *data, size_t size) {
  uint32_t table[256];
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; bit++) {
      value = value >> 1 ^ ((value & 1) ? 0xedb88320u : 0);
    }
    table[byte] = value;
  }
  uint32_t crc = 0xffffffffu;
  for (size_t i = 0; i < size; i++) {
    crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
  }
  return ~crc;
}

static const uint8_t *find_end(const char *where, const uint8_t *data, size_t size) {
  for (size_t back = END_SIZE; back <= size && back <= END_SIZE + MAX_COMMENT; back++) {
    if (get32(data + size - back) == 0x06054b50u) {
      return data + size - back;
    }
  }
  stop("%s is not a .npz file, or it is truncated", where);
}

/* The bytes of the member that the central directory entry `at` describes. */
static const uint8_t *member(const char *where, const uint8_t *data, size_t size, const uint8_t *at, size_t *length) {
  if (get16(at + 10) != 0) {
    stop("%s is compressed; write it with np.savez instead of np.savez_compressed", where);
  }
  const uint64_t start = get32(at + 42);
  *length = get32(at + 24);
  if (start > size || size - start < LOCAL_SIZE || get32(data + start) != 0x04034b50u) {
    stop("%s: the .npz file is damaged", where);
  }
  const uint64_t begin = start + LOCAL_SIZE + get16(data + start + 26) + get16(data + start + 28);
  if (begin > size || *length > size - begin || crc32(data + begin, *length) != get32(at + 16)) {
    stop("%s: the .npz file is damaged, or larger than 4 GB", where);
  }
  return data + begin;
}

array_list npz_parse(const char *where, const uint8_t *data, size_t size) {
  const uint8_t *end = find_end(where, data, size);
  array_list list = {.count = get16(end + 10)};
  list.items = must_allocate((list.count + 1) * sizeof *list.items);
  size_t place = get32(end + 16);
  for (size_t index = 0; index < list.count; index++) {
    if (place > size || size - place < CENTRAL_SIZE || get32(data + place) != 0x02014b50u) {
      stop("%s: the .npz file is damaged", where);
    }
    const uint8_t *at = data + place;
    const size_t name_size = get16(at + 28);
    if (name_size > size - place - CENTRAL_SIZE || name_size >= NAME_SIZE) {
      stop("%s: the .npz file is damaged, or a name in it is too long", where);
    }
    size_t length;
    const uint8_t *content = member(where, data, size, at, &length);
    array *item = &list.items[index];
    *item = npy_parse(where, content, length);
    memcpy(item->name, at + CENTRAL_SIZE, name_size);
    if (ends_with(item->name, ".npy")) {
      item->name[name_size - 4] = '\0';
    }
    place += CENTRAL_SIZE + name_size + get16(at + 30) + get16(at + 32);
  }
  return list;
}

/* The fields that a local header and a central directory entry have in common, from "version needed" on. */
static void put_common(uint8_t *at, uint32_t crc, size_t size, size_t name_size) {
  put16(at, 20);                  /* version needed to extract: 2.0 */
  put16(at + 8, 0x21);            /* date: 1980-01-01, so that equal contents make equal files; time 0, stored */
  put32(at + 10, crc);            /* of the member */
  put32(at + 14, (uint32_t)size); /* compressed */
  put32(at + 18, (uint32_t)size); /* uncompressed */
  put16(at + 22, (uint32_t)name_size);
}

uint8_t *npz_build(const array_list *list, size_t *size) {
  size_t total = END_SIZE;
  for (size_t index = 0; index < list->count; index++) {
    total += LOCAL_SIZE + CENTRAL_SIZE + 2 * (NAME_SIZE + 4) + list->items[index].size + 1024;
  }
  if (total > UINT32_MAX) {
    stop("outputs above 4 GB don't fit into an .npz file; write one .npy per output");
  }
  uint8_t *data = must_allocate(total), *directory = must_allocate(total);
  size_t used = 0, listed = 0;
  for (size_t index = 0; index < list->count; index++) {
    char name[NAME_SIZE + 4];
    snprintf(name, sizeof name, "%.*s.npy", NAME_SIZE - 1, list->items[index].name);
    size_t length;
    uint8_t *content = npy_build(&list->items[index], &length);
    const size_t name_size = strlen(name);
    const uint32_t crc = crc32(content, length);
    uint8_t *entry = directory + listed, *local = data + used;
    put32(entry, 0x02014b50u);
    put16(entry + 4, 20);
    put_common(entry + 6, crc, length, name_size);
    put32(entry + 42, (uint32_t)used);
    memcpy(entry + CENTRAL_SIZE, name, name_size);
    listed += CENTRAL_SIZE + name_size;
    put32(local, 0x04034b50u);
    put_common(local + 4, crc, length, name_size);
    memcpy(local + LOCAL_SIZE, name, name_size);
    memcpy(local + LOCAL_SIZE + name_size, content, length);
    used += LOCAL_SIZE + name_size + length;
    free(content);
  }
  uint8_t *end = data + used + listed;
  memcpy(data + used, directory, listed);
  put32(end, 0x06054b50u);
  put16(end + 8, (uint32_t)list->count);
  put16(end + 10, (uint32_t)list->count);
  put32(end + 12, (uint32_t)listed);
  put32(end + 16, (uint32_t)used);
  free(directory);
  *size = used + listed + END_SIZE;
  return data;
}
