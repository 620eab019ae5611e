/* What the files of edgeq-run share. A program, not the library: it uses the heap and ends the process on errors. */
#ifndef EDGEQ_TOOL_H
#define EDGEQ_TOOL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "edgeq/edgeq.h"

enum { EXIT_USAGE = 2, NAME_SIZE = 256, MAX_AXES = 16 };

/* A dense array in memory. */
typedef struct array {
  char name[NAME_SIZE]; /* member of an .npz, "" otherwise */
  uint32_t dtype;       /* EDGEQ_INT8 …, FLOAT32, RAW */
  uint32_t rank;
  int64_t shape[MAX_AXES];
  uint8_t *data;
  size_t size; /* bytes */
} array;

#define FLOAT32 100u
#define RAW 101u /* bytes without a shape */

typedef struct array_list {
  array *items;
  size_t count;
} array_list;

/* Prints "edgeq-run: …" and ends the process with EXIT_USAGE. */
void stop(const char *format, ...) __attribute__((__format__(__printf__, 1, 2), noreturn));

void *must_allocate(size_t size);
size_t dtype_bytes(uint32_t dtype); /* FLOAT32 too */
const char *dtype_name(uint32_t dtype);
int ends_with(const char *text, const char *end);

/* files.c: a whole file. Writing goes to a file beside it that is renamed at the end. */
uint8_t *read_file(const char *path, size_t *size);
void write_file(const char *path, const uint8_t *data, size_t size);

/* npy.c: NumPy's format, version 1 to 3, C order, little-endian. */
array npy_parse(const char *where, const uint8_t *data, size_t size);
uint8_t *npy_build(const array *item, size_t *size);

/* npz.c: zip files of .npy members that are stored, not compressed. */
array_list npz_parse(const char *where, const uint8_t *data, size_t size);
uint8_t *npz_build(const array_list *list, size_t *size);

/* report.c */
void print_info(const edgeq_model *model);
void print_profile(const edgeq_model *model, const uint64_t *step_ns, size_t repeats);
void print_times(uint64_t *times, size_t count);
void print_array(const array *item);

/* ---- lengths.c: several programs, and inputs that are shorter than the one that takes them */

/* The one length that was padded, of axes that differ between programs; size 0: none was. */
typedef struct length_map {
  int64_t size;  /* in the program */
  int64_t given; /* of the caller's arrays */
} length_map;

/* The program for these inputs, one array for each; ends the process if there is none. */
uint32_t program_for_inputs(const edgeq_model *model, const array *inputs);

/* Pads what is shorter than `program` takes with what stands for the real zero. */
void pad_inputs(const edgeq_model *program, array *inputs, length_map *lengths);

/* Cuts the outputs back to the length of the inputs. */
void cut_outputs(const edgeq_model *program, array_list *outputs, const length_map *lengths);

#endif
