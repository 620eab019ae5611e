/* edgeq-run: runs an artifact from the command line. */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

enum { MAX_FILES = 64 };

static const char USAGE[] =
    "usage: edgeq-run MODEL.edgeq [options]\n"
    "\n"
    "  -i, --input [NAME=]FILE    .npy, .npz (uncompressed; members named like the inputs), anything else: raw "
    "integers.\n"
    "                             Floats are quantized. A sample axis in front runs the model once per sample.\n"
    "  -o, --output [NAME=]FILE   .npy or raw for one output, .npz for all\n"
    "      --dequantize           outputs as float32 (the default when an input is float)\n"
    "      --integers             outputs as integers (the default otherwise)\n"
    "      --threads N            threads that share a run (default 1)\n"
    "      --repeat N             run N times more and print median and minimum\n"
    "      --profile              print the time of every step\n"
    "      --times FILE.npy       write nanoseconds: [runs] of --repeat, or [runs, steps] of --profile\n"
    "      --verify               run the golden vectors inside the artifact\n"
    "      --program N            take program N (default: the one for the inputs' shapes, which may be padded)\n"
    "      --variant N            take variant N (default: the best that this CPU can run)\n"
    "      --info                 print what the artifact is\n"
    "      --version              print the runtime's version\n";

typedef struct file_option {
  const char *name; /* "" when none was given */
  const char *path;
} file_option;

typedef struct options {
  const char *model, *times;
  file_option inputs[MAX_FILES], outputs[MAX_FILES];
  size_t input_count, output_count;
  long threads, repeat;
  long program, variant; /* -1: by the inputs, by the CPU */
  int profile, verify, info;
  int dequantize; /* -1: as the inputs are */
} options;

typedef struct session {
  edgeq_model loaded; /* or one variant of it */
  edgeq_model model;  /* the program that runs */
  edgeq_model file;   /* owns the mapping */
  edgeq_context context;
  edgeq_pool *pool;
  void *memory;
} session;

static void check(edgeq_status status, const char *where, const char *detail) {
  if (status != EDGEQ_OK) {
    stop("%s: %s%s%s", where, edgeq_status_string(status), detail[0] != '\0' ? ": " : "", detail);
  }
}

/* ---- options ---- */

static file_option split(char *text) {
  char *equals = strchr(text, '=');
  if (equals == NULL) {
    return (file_option){"", text};
  }
  *equals = '\0';
  return (file_option){text, equals + 1};
}

static void add_file(file_option *files, size_t *count, char *text) {
  if (*count == MAX_FILES) {
    stop("more than %d files", MAX_FILES);
  }
  files[(*count)++] = split(text);
}

static long number(const char *option, const char *text, long least, long most) {
  char *end;
  const long value = strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < least || value > most) {
    stop("%s needs a number from %ld to %ld, not %s", option, least, most, text);
  }
  return value;
}

static options parse_options(int argc, char **argv) {
  static const struct option known[] = {
      {"input", required_argument, NULL, 'i'},
      {"output", required_argument, NULL, 'o'},
      {"threads", required_argument, NULL, 't'},
      {"repeat", required_argument, NULL, 'r'},
      {"program", required_argument, NULL, 'P'},
      {"variant", required_argument, NULL, 'A'},
      {"profile", no_argument, NULL, 'p'},
      {"times", required_argument, NULL, 'T'},
      {"verify", no_argument, NULL, 'v'},
      {"info", no_argument, NULL, 'n'},
      {"dequantize", no_argument, NULL, 'd'},
      {"integers", no_argument, NULL, 'q'},
      {"help", no_argument, NULL, 'h'},
      {"version", no_argument, NULL, 'V'},
      {NULL, 0, NULL, 0},
  };
  options chosen = {.threads = 1, .dequantize = -1, .program = -1, .variant = -1};
  for (int letter; (letter = getopt_long(argc, argv, "i:o:h", known, NULL)) != -1;) {
    switch (letter) {
    case 'i':
      add_file(chosen.inputs, &chosen.input_count, optarg);
      break;
    case 'o':
      add_file(chosen.outputs, &chosen.output_count, optarg);
      break;
    case 't':
      chosen.threads = number("--threads", optarg, 1, EDGEQ_MAX_THREADS);
      break;
    case 'r':
      chosen.repeat = number("--repeat", optarg, 1, 1000000);
      break;
    case 'P':
      chosen.program = number("--program", optarg, 0, EDGEQ_MAX_PROGRAMS - 1);
      break;
    case 'A':
      chosen.variant = number("--variant", optarg, 0, EDGEQ_MAX_VARIANTS - 1);
      break;
    case 'p':
      chosen.profile = 1;
      break;
    case 'T':
      chosen.times = optarg;
      break;
    case 'v':
      chosen.verify = 1;
      break;
    case 'n':
      chosen.info = 1;
      break;
    case 'd':
    case 'q':
      chosen.dequantize = letter == 'd';
      break;
    case 'h':
      fputs(USAGE, stdout);
      exit(0);
    case 'V':
      printf("edgeq-run %s, artifact ABI %u\n", EDGEQ_VERSION, EDGEQ_ABI_VERSION);
      exit(0);
    default:
      fputs(USAGE, stderr);
      exit(EXIT_USAGE);
    }
  }
  if (optind + 1 != argc) {
    fputs(USAGE, stderr);
    exit(EXIT_USAGE);
  }
  if (chosen.times != NULL && chosen.repeat == 0 && !chosen.profile) {
    stop("--times needs --repeat or --profile");
  }
  chosen.model = argv[optind];
  return chosen;
}

/* ---- inputs ---- */

static array_list read_arrays(const char *path) {
  size_t size;
  uint8_t *data = read_file(path, &size);
  array_list list = {.count = 1};
  if (ends_with(path, ".npz")) {
    list = npz_parse(path, data, size);
    free(data);
  } else if (ends_with(path, ".npy")) {
    list.items = must_allocate(sizeof *list.items);
    list.items[0] = npy_parse(path, data, size);
    free(data);
  } else {
    list.items = must_allocate(sizeof *list.items);
    list.items[0] = (array){.dtype = RAW, .data = data, .size = size};
  }
  return list;
}

static uint32_t input_index(const edgeq_model *model, const char *path, const char *name) {
  edgeq_tensor_info info;
  for (uint32_t index = 0; edgeq_input_info(model, index, &info) == EDGEQ_OK; index++) {
    if (strcmp(info.name, name) == 0) {
      return index;
    }
  }
  stop("%s: the model has no input %s", path, name);
}

/* How an array relates to the model's tensor. */
typedef struct fit {
  size_t runs;
  int is_batch;  /* a sample axis in front */
  int is_merged; /* samples merged into the tensor's own leading axis */
} fit;

static int same_axes(const int64_t *a, const int64_t *b, uint32_t count) {
  return memcmp(a, b, count * sizeof *a) == 0;
}

static fit fit_of(const array *item, const edgeq_tensor_info *info) {
  const uint64_t one = info->count * (item->dtype == RAW ? info->itemsize : 1);
  if (item->dtype == RAW && item->size % one == 0 && item->size != 0) {
    return (fit){item->size / one, item->size != one, 0};
  }
  if (item->dtype != RAW && item->rank == info->rank && same_axes(item->shape, info->shape, info->rank)) {
    return (fit){1, 0, 0};
  }
  if (item->dtype != RAW && item->rank == info->rank + 1 && same_axes(item->shape + 1, info->shape, info->rank)) {
    return (fit){(size_t)item->shape[0], 1, 0};
  }
  if (item->dtype != RAW && info->rank != 0 && item->rank == info->rank &&
      same_axes(item->shape + 1, info->shape + 1, info->rank - 1) && item->shape[0] % info->shape[0] == 0) {
    return (fit){(size_t)(item->shape[0] / info->shape[0]), 1, 1};
  }
  stop("input %s has the wrong size or shape: %zu bytes of %s, the model takes %" PRIu64 " values of %s per run",
       info->name, item->size, dtype_name(item->dtype), info->count, dtype_name(info->dtype));
}

static void check_values(const array *item, const edgeq_tensor_info *info) {
  if (item->dtype == FLOAT32) {
    for (size_t i = 0; i < item->size / sizeof(float); i++) {
      float value;
      memcpy(&value, item->data + i * sizeof value, sizeof value);
      if (value != value) {
        stop("input %s holds NaN", info->name);
      }
    }
  } else if (item->dtype != RAW && item->dtype != info->dtype) {
    stop("input %s is %s, the model takes float32 (to be quantized) or %s", info->name, dtype_name(item->dtype),
         dtype_name(info->dtype));
  }
}

/* One array per model input, in its order; zeros when no file was given at all. */
static array *read_inputs(const edgeq_model *model, const options *chosen) {
  const uint32_t count = edgeq_input_count(model);
  array *inputs = must_allocate((count + 1) * sizeof *inputs);
  uint32_t unnamed = 0;
  for (size_t file = 0; file < chosen->input_count; file++) {
    const file_option *option = &chosen->inputs[file];
    array_list list = read_arrays(option->path);
    for (size_t member = 0; member < list.count; member++) {
      const char *name = option->name[0] != '\0' ? option->name : list.items[member].name;
      const uint32_t index = name[0] != '\0' ? input_index(model, option->path, name) : unnamed++;
      if (index >= count || inputs[index].data != NULL) {
        stop("%s: more arrays than the model's %" PRIu32 " inputs, or the same input twice", option->path, count);
      }
      inputs[index] = list.items[member];
    }
    free(list.items);
  }
  for (uint32_t index = 0; index < count; index++) {
    edgeq_tensor_info info;
    edgeq_input_info(model, index, &info);
    if (inputs[index].data == NULL && chosen->input_count != 0) {
      stop("no file for input %s", info.name);
    }
    if (inputs[index].data == NULL) {
      inputs[index] = (array){.dtype = RAW, .size = info.count * info.itemsize};
      inputs[index].data = must_allocate(inputs[index].size);
    }
    check_values(&inputs[index], &info);
  }
  return inputs;
}

/* ---- running ---- */

static array make_output(const edgeq_tensor_info *info, const fit *shape, int as_float) {
  array made = {.dtype = as_float ? FLOAT32 : info->dtype};
  snprintf(made.name, sizeof made.name, "%s", info->name);
  if (shape->is_batch && !(shape->is_merged && info->rank != 0)) {
    made.shape[made.rank++] = (int64_t)shape->runs;
  }
  for (uint32_t axis = 0; axis < info->rank; axis++) {
    made.shape[made.rank++] = info->shape[axis];
  }
  if (shape->is_merged && info->rank != 0) {
    made.shape[0] *= (int64_t)shape->runs;
  }
  made.size = shape->runs * info->count * dtype_bytes(made.dtype);
  made.data = must_allocate(made.size);
  return made;
}

static array_list run_inputs(session *s, const options *chosen, array *inputs) {
  const uint32_t input_count = edgeq_input_count(&s->model);
  array_list outputs = {.count = edgeq_output_count(&s->model)};
  outputs.items = must_allocate(outputs.count * sizeof *outputs.items);
  edgeq_batch_array *from = must_allocate((input_count + 1) * sizeof *from);
  edgeq_batch_array *to = must_allocate(outputs.count * sizeof *to);
  fit shape = {1, 0, 0};
  int has_float = 0;
  for (uint32_t index = 0; index < input_count; index++) {
    edgeq_tensor_info info;
    edgeq_input_info(&s->model, index, &info);
    const fit this_one = fit_of(&inputs[index], &info);
    if (index != 0 && this_one.runs != shape.runs) {
      stop("the inputs have different numbers of samples");
    }
    shape = this_one;
    from[index] = (edgeq_batch_array){inputs[index].data, inputs[index].dtype == FLOAT32, 0};
    has_float |= inputs[index].dtype == FLOAT32;
  }
  const int as_float = chosen->dequantize >= 0 ? chosen->dequantize : has_float;
  for (uint32_t index = 0; index < outputs.count; index++) {
    edgeq_tensor_info info;
    edgeq_output_info(&s->model, index, &info);
    outputs.items[index] = make_output(&info, &shape, as_float);
    to[index] = (edgeq_batch_array){outputs.items[index].data, (uint32_t)as_float, 0};
  }
  check(edgeq_run_batch(&s->context, shape.runs, from, to), chosen->model, s->context.detail);
  free(from);
  free(to);
  return outputs;
}

static void write_outputs(const options *chosen, const array_list *outputs) {
  for (size_t file = 0; file < chosen->output_count; file++) {
    const file_option *option = &chosen->outputs[file];
    const array *item = outputs->count == 1 ? &outputs->items[0] : NULL;
    for (size_t index = 0; index < outputs->count; index++) {
      item = strcmp(outputs->items[index].name, option->name) == 0 ? &outputs->items[index] : item;
    }
    size_t size;
    uint8_t *data;
    if (option->name[0] != '\0' && (item == NULL || strcmp(item->name, option->name) != 0)) {
      stop("the model has no output %s", option->name);
    }
    if (ends_with(option->path, ".npz") && option->name[0] == '\0') {
      data = npz_build(outputs, &size);
    } else if (item == NULL) {
      stop("%s: the model has %zu outputs; write .npz, or name one: NAME=FILE", option->path, outputs->count);
    } else if (ends_with(option->path, ".npy")) {
      data = npy_build(item, &size);
    } else {
      write_file(option->path, item->data, item->size);
      continue;
    }
    write_file(option->path, data, size);
    free(data);
  }
}

static void write_times(const options *chosen, uint64_t *times, size_t runs, size_t steps) {
  if (chosen->times == NULL) {
    return;
  }
  array item = {.dtype = EDGEQ_INT64, .rank = steps != 0 ? 2 : 1, .data = (uint8_t *)times};
  item.shape[0] = (int64_t)runs;
  item.shape[1] = (int64_t)steps;
  item.size = runs * (steps != 0 ? steps : 1) * sizeof *times;
  size_t size;
  uint8_t *data = npy_build(&item, &size);
  write_file(chosen->times, data, size);
  free(data);
}

static void measure_runs(session *s, const options *chosen, size_t repeats) {
  uint64_t *times = must_allocate(repeats * sizeof *times);
  for (size_t run = 0; run < repeats; run++) {
    const uint64_t before = edgeq_clock_ns();
    check(edgeq_run(&s->context), chosen->model, s->context.detail);
    times[run] = edgeq_clock_ns() - before;
  }
  if (!chosen->profile) {
    write_times(chosen, times, repeats, 0);
  }
  print_times(times, repeats); /* sorts them */
  free(times);
}

static void measure_steps(session *s, const options *chosen, size_t repeats) {
  const uint32_t steps = edgeq_step_count(&s->model);
  uint64_t *times = must_allocate(repeats * steps * sizeof *times);
  for (size_t run = 0; run < repeats; run++) {
    check(edgeq_run_profiled(&s->context, times + run * steps), chosen->model, s->context.detail);
  }
  write_times(chosen, times, repeats, steps);
  print_profile(&s->model, times, repeats);
  free(times);
}

static void measure(session *s, const options *chosen) {
  const size_t repeats = chosen->repeat != 0 ? (size_t)chosen->repeat : 20;
  if (chosen->repeat != 0) {
    measure_runs(s, chosen, repeats);
  }
  if (chosen->profile) {
    measure_steps(s, chosen, repeats);
  }
}

static void open_session(session *s, const options *chosen) {
  memset(s, 0, sizeof *s);
  check(edgeq_model_load(&s->file, chosen->model, NULL), chosen->model, s->file.detail);
  const uint32_t variant = chosen->variant >= 0 ? (uint32_t)chosen->variant : s->file.variant;
  check(edgeq_variant(&s->loaded, &s->file, variant), "--variant", s->loaded.detail);
  const uint32_t program = chosen->program >= 0 ? (uint32_t)chosen->program : 0;
  check(edgeq_program(&s->model, &s->loaded, program), "--program", "");
  if (chosen->threads > 1) {
    check(edgeq_pool_create(&s->pool, (uint32_t)chosen->threads), "threads", "");
  }
}

/* A context for the program, in memory of its own. */
static void prepare(session *s, const options *chosen) {
  const size_t size = edgeq_arena_size(&s->model);
  free(s->memory);
  if (posix_memalign(&s->memory, EDGEQ_ALIGNMENT, size) != 0) {
    stop("no memory for an arena of %zu bytes", size);
  }
  check(edgeq_context_init(&s->context, &s->model, s->memory, size, s->pool), chosen->model, s->context.detail);
}

/* Golden vectors of every program and variant, but those that options leave out or that this CPU can't run. */
static void verify_all(session *s, const options *chosen) {
  const edgeq_model first = s->model;
  uint32_t total = 0;
  edgeq_model variant;
  for (uint32_t index = 0; index < edgeq_variant_count(&s->file); index++) {
    const int wanted = chosen->variant < 0 || (uint32_t)chosen->variant == index;
    const edgeq_status status = edgeq_variant(&variant, &s->file, index);
    if (wanted && status == EDGEQ_ERROR_CPU) {
      fprintf(stderr, "edgeq-run: variant %" PRIu32 " is not run: %s\n", index, variant.detail);
    }
    for (uint32_t program = 0; wanted && status == EDGEQ_OK && program < edgeq_program_count(&variant); program++) {
      uint32_t vectors = 0;
      if (chosen->program >= 0 && (uint32_t)chosen->program != program) {
        continue;
      }
      check(edgeq_program(&s->model, &variant, program), chosen->model, "");
      prepare(s, chosen);
      check(edgeq_verify(&s->context, &vectors), chosen->model, s->context.detail);
      total += vectors;
    }
  }
  printf("%" PRIu32 " golden vectors, every output value the same\n", total);
  s->model = first;
}

static void run_files(session *s, const options *chosen) {
  array *inputs = read_inputs(&s->model, chosen);
  length_map lengths = {0, 0};
  if (chosen->program < 0 && chosen->input_count != 0 && edgeq_program_count(&s->model) > 1) {
    check(edgeq_program(&s->model, &s->loaded, program_for_inputs(&s->loaded, inputs)), chosen->model, "");
    pad_inputs(&s->model, inputs, &lengths);
  }
  prepare(s, chosen);
  array_list outputs = run_inputs(s, chosen, inputs);
  cut_outputs(&s->model, &outputs, &lengths);
  write_outputs(chosen, &outputs);
  for (size_t index = 0; index < outputs.count && chosen->output_count == 0; index++) {
    print_array(&outputs.items[index]);
  }
  measure(s, chosen);
  for (size_t index = 0; index < outputs.count; index++) {
    free(outputs.items[index].data);
  }
  free(outputs.items);
  for (uint32_t index = 0; index < edgeq_input_count(&s->model); index++) {
    free(inputs[index].data);
  }
  free(inputs);
}

int main(int argc, char **argv) {
  const options chosen = parse_options(argc, argv);
  session s;
  open_session(&s, &chosen);
  if (chosen.info) {
    print_info(chosen.program >= 0 ? &s.model : &s.loaded);
  }
  if (chosen.verify) {
    verify_all(&s, &chosen);
  }
  if (chosen.input_count != 0 || chosen.repeat != 0 || chosen.profile || !(chosen.info || chosen.verify)) {
    run_files(&s, &chosen);
  }
  edgeq_pool_free(s.pool);
  edgeq_model_free(&s.file);
  free(s.memory);
  return 0;
}
