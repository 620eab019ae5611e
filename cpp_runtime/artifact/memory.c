/* memcpy, memmove, memset and memcmp for the code inside artifacts: LLVM emits calls to them, and an artifact imports
 * nothing. Built with -ffreestanding -fno-builtin, linked into each artifact, hidden; what isn't called is dropped by
 * the linker. Not part of the runtime library. */
#include <stddef.h>
#include <stdint.h>

#define HIDDEN __attribute__((visibility("hidden")))

#if defined(__riscv)
/* Unaligned words may be slow or trap here, and the compiler would call memcpy to move a block of them: memcpy itself.
 */
typedef struct block {
  uint64_t lo, hi;
} __attribute__((may_alias)) block;

static int has_blocks(const void *a, const void *b) {
  return (((uintptr_t)a | (uintptr_t)b) & (sizeof(uint64_t) - 1)) == 0;
}
#else
/* Unaligned 16-byte moves: the compiler makes one vector load and store of each. */
typedef struct block {
  uint64_t lo, hi;
} __attribute__((packed, may_alias)) block;

static int has_blocks(const void *a, const void *b) {
  (void)a, (void)b;
  return 1;
}
#endif

HIDDEN void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  uint8_t *t = to;
  const uint8_t *f = from;
  for (int moves = has_blocks(t, f); moves && size >= sizeof(block); size -= sizeof(block)) {
    *(block *)t = *(const block *)f;
    t += sizeof(block), f += sizeof(block);
  }
  for (; size != 0; size--) {
    *t++ = *f++;
  }
  return to;
}

HIDDEN void *memmove(void *to, const void *from, size_t size) {
  uint8_t *t = to;
  const uint8_t *f = from;
  if ((uintptr_t)t - (uintptr_t)f >= size) { /* `to` isn't inside [from, from + size): forwards is safe */
    for (int moves = has_blocks(t, f); moves && size >= sizeof(block); size -= sizeof(block)) {
      *(block *)t = *(const block *)f;
      t += sizeof(block), f += sizeof(block);
    }
    for (; size != 0; size--) {
      *t++ = *f++;
    }
    return to;
  }
  for (int moves = has_blocks(t + size, f + size); moves && size >= sizeof(block); size -= sizeof(block)) {
    *(block *)(t + size - sizeof(block)) = *(const block *)(f + size - sizeof(block));
  }
  for (; size != 0; size--) {
    t[size - 1] = f[size - 1];
  }
  return to;
}

HIDDEN void *memset(void *to, int value, size_t size) {
  uint8_t *t = to;
  const uint64_t word = 0x0101010101010101u * (uint8_t)value;
  const block filled = {word, word};
  for (int moves = has_blocks(t, t); moves && size >= sizeof(block); size -= sizeof(block), t += sizeof(block)) {
    *(block *)t = filled;
  }
  for (; size != 0; size--) {
    *t++ = (uint8_t)value;
  }
  return to;
}

HIDDEN int memcmp(const void *a, const void *b, size_t size) {
  const uint8_t *x = a;
  const uint8_t *y = b;
  for (; size != 0; size--, x++, y++) {
    if (*x != *y) {
      return *x < *y ? -1 : 1;
    }
  }
  return 0;
}
