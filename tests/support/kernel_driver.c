/* Runs one kernel on operands from a file and writes them back: `driver FILE T0 T1`.
 * File: uint32 count, then count x uint32 bytes, then the operands' bytes (slack included). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef KERNEL
#error "compile with -DKERNEL=symbol"
#endif

void KERNEL(int32_t, int32_t, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *,
            void *);

#define MAX_OPERANDS 12

int main(int argc, char **argv) {
  if (argc != 4)
    return 2;
  FILE *file = fopen(argv[1], "r+b");
  uint32_t count = 0, bytes[MAX_OPERANDS] = {0};
  void *operand[MAX_OPERANDS] = {0};
  if (!file || fread(&count, 4, 1, file) != 1 || count > MAX_OPERANDS)
    return 3;
  if (fread(bytes, 4, count, file) != count)
    return 4;
  long start = ftell(file);
  for (uint32_t i = 0; i < count; ++i) {
    operand[i] = aligned_alloc(64, (bytes[i] + 127) / 64 * 64);
    if (!operand[i] || fread(operand[i], 1, bytes[i], file) != bytes[i])
      return 5;
  }
  KERNEL(atoi(argv[2]), atoi(argv[3]), operand[0], operand[1], operand[2], operand[3], operand[4], operand[5],
         operand[6], operand[7], operand[8], operand[9], operand[10], operand[11]);
  fseek(file, start, SEEK_SET);
  for (uint32_t i = 0; i < count; ++i)
    if (fwrite(operand[i], 1, bytes[i], file) != bytes[i])
      return 6;
  return fclose(file) ? 7 : 0;
}
