/* Tables for people. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static void print_tensor(const char *role, const edgeq_tensor_info *info) {
  printf("%-7s %s  %s[", role, info->name, dtype_name(info->dtype));
  for (uint32_t axis = 0; axis < info->rank; axis++) {
    printf("%s%" PRId64, axis != 0 ? ", " : "", info->shape[axis]);
  }
  printf("]  scale %.9g, zero point %" PRId32 "%s%s\n", info->scale, info->zero_point,
         info->layout[0] != '\0' ? ", " : "", info->layout);
}

/* The inputs' shapes of each program, where there are several. */
static void print_programs(const edgeq_model *model) {
  edgeq_model program;
  for (uint32_t index = 0; edgeq_program_count(model) > 1 && edgeq_program(&program, model, index) == EDGEQ_OK;
       index++) {
    edgeq_tensor_info info;
    printf("program %" PRIu32 ", arena %zu bytes:", index, edgeq_arena_size(&program));
    for (uint32_t input = 0; edgeq_input_info(&program, input, &info) == EDGEQ_OK; input++) {
      printf(" %s[", info.name);
      for (uint32_t axis = 0; axis < info.rank; axis++) {
        printf("%s%" PRId64, axis != 0 ? ", " : "", info.shape[axis]);
      }
      printf("]");
    }
    puts("");
  }
}

void print_info(const edgeq_model *model) {
  edgeq_tensor_info info;
  for (uint32_t index = 0; edgeq_input_info(model, index, &info) == EDGEQ_OK; index++) {
    print_tensor("input", &info);
  }
  for (uint32_t index = 0; edgeq_output_info(model, index, &info) == EDGEQ_OK; index++) {
    print_tensor("output", &info);
  }
  uint64_t macs = 0;
  edgeq_step_info step;
  for (uint32_t index = 0; edgeq_step_info_get(model, index, &step) == EDGEQ_OK; index++) {
    macs += step.macs;
  }
  printf("steps   %" PRIu32 ", %" PRIu64 " multiply-accumulates\n", edgeq_step_count(model), macs);
  printf("arena   %zu bytes, up to %" PRIu32 " threads\n", edgeq_arena_size(model), edgeq_max_threads(model));
  printf("weights %" PRIu64 " bytes\n", model->image->weights_size);
  printf("code    %" PRIu64 " bytes\n", model->code_size);
  printf("golden  %" PRIu32 " vectors\n", model->image->golden_count);
  printf("variant %" PRIu32 " of %" PRIu32 ", program %" PRIu32 " of %" PRIu32 "%s\n", model->variant,
         edgeq_variant_count(model), model->image->index % edgeq_program_count(model), edgeq_program_count(model),
         edgeq_pads(model) ? ", shorter inputs are padded" : "");
  print_programs(model);
}

static int compare_times(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static uint64_t median(uint64_t *times, size_t count) {
  qsort(times, count, sizeof *times, compare_times);
  return count % 2 ? times[count / 2] : (times[count / 2 - 1] + times[count / 2]) / 2;
}

void print_times(uint64_t *times, size_t count) {
  const uint64_t middle = median(times, count);
  printf("%zu runs: median %.3f ms, min %.3f ms\n", count, (double)middle / 1e6, (double)times[0] / 1e6);
}

void print_profile(const edgeq_model *model, const uint64_t *step_ns, size_t repeats) {
  const uint32_t steps = edgeq_step_count(model);
  uint64_t *medians = must_allocate(steps * sizeof *medians), *column = must_allocate(repeats * sizeof *column);
  uint64_t total = 0;
  for (uint32_t index = 0; index < steps; index++) {
    for (size_t run = 0; run < repeats; run++) {
      column[run] = step_ns[run * steps + index];
    }
    medians[index] = median(column, repeats);
    total += medians[index];
  }
  printf("%4s  %-24s %10s %6s %9s  %s\n", "step", "op", "us", "%", "GMAC/s", "layer");
  for (uint32_t index = 0; index < steps; index++) {
    edgeq_step_info info;
    edgeq_step_info_get(model, index, &info);
    const double ns = (double)medians[index];
    printf("%4" PRIu32 "  %-24s %10.1f %6.1f", index, info.kind, ns / 1e3,
           total != 0 ? 100.0 * ns / (double)total : 0.0);
    if (info.macs != 0 && ns > 0) {
      printf(" %9.2f", (double)info.macs / ns);
    } else {
      printf(" %9s", "");
    }
    printf("  %s\n", info.name);
  }
  printf("sum of the medians over %zu runs: %.3f ms\n", repeats, (double)total / 1e6);
  free(column);
  free(medians);
}

static double element(const array *item, size_t index) {
  const uint8_t *at = item->data + index * dtype_bytes(item->dtype);
  int16_t half;
  int32_t word;
  int64_t wide;
  float real;
  switch (item->dtype) {
  case EDGEQ_INT8:
    return (int8_t)*at;
  case EDGEQ_UINT8:
    return *at;
  case EDGEQ_INT16:
    memcpy(&half, at, sizeof half);
    return half;
  case EDGEQ_INT32:
    memcpy(&word, at, sizeof word);
    return word;
  case FLOAT32:
    memcpy(&real, at, sizeof real);
    return (double)real;
  default:
    memcpy(&wide, at, sizeof wide);
    return (double)wide;
  }
}

void print_array(const array *item) {
  const size_t count = item->size / dtype_bytes(item->dtype), shown = count < 10 ? count : 10;
  printf("%s  %s[", item->name, dtype_name(item->dtype));
  for (uint32_t axis = 0; axis < item->rank; axis++) {
    printf("%s%" PRId64, axis != 0 ? ", " : "", item->shape[axis]);
  }
  printf("] ");
  for (size_t index = 0; index < shown; index++) {
    printf(" %.6g", element(item, index));
  }
  puts(shown < count ? " ..." : "");
}
