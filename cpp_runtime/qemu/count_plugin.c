/* QEMU plugin: how many guest instructions run between EDGEQ_MARK_BEGIN and EDGEQ_MARK_END, exactly.
 *
 * A block without a marker adds its length each time it is entered. In a block with one, every instruction counts on
 * its own, so that a marker in the middle of a block costs no precision. `out=FILE` gets one number a marked region,
 * in order of execution. `blocks=FILE` gets, for each block that ran in a region, the region's number, how often it ran
 * and the bytes of its instructions with points in between; the few instructions of blocks with a marker are left out.
 * Declares the few functions it needs: QEMU's header is no part of distributions' packages, and
 * its plugin interface differs between versions in two places that are told apart here (7.2 to 10). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mark.h"

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint64_t plugin_id;
typedef void (*run_callback)(unsigned cpu, void *data);

/* The leading fields of qemu_info_t, the same in all versions. */
typedef struct host_info {
  const char *target_name;
  struct {
    int lowest, current;
  } version;
} host_info;

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*made)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, run_callback run, int flags, void *data);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *at, run_callback run, int flags,
                                                   void *data);
extern void qemu_plugin_register_atexit_cb(plugin_id id, void (*end)(plugin_id, void *), void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *at);

EXPORT int qemu_plugin_version = 1;

enum { FORMS = 2 };

/* An architecture by QEMU's name, and its markers; 32-bit Arm has two instruction sets. */
typedef struct guest_info {
  const char *name;
  int is_x86;
  uint32_t begin[FORMS], end[FORMS];
} guest_info;

#define BEGIN_OF(hint) hint((uint32_t)EDGEQ_HINT_BEGIN)
#define END_OF(hint) hint((uint32_t)EDGEQ_HINT_END)
#define BOTH(marker) {(marker), (marker)}

static const guest_info GUESTS[] = {
    {"x86_64", 1, BOTH(EDGEQ_NOP_BEGIN), BOTH(EDGEQ_NOP_END)},
    {"aarch64", 0, BOTH(BEGIN_OF(EDGEQ_HINT)), BOTH(END_OF(EDGEQ_HINT))},
    {"arm",
     0,
     {BEGIN_OF(EDGEQ_HINT_ARM), BEGIN_OF(EDGEQ_THUMB_HINT)},
     {END_OF(EDGEQ_HINT_ARM), END_OF(EDGEQ_THUMB_HINT)}},
    {"riscv64", 0, BOTH(BEGIN_OF(EDGEQ_HINT_RISCV)), BOTH(END_OF(EDGEQ_HINT_RISCV))},
};

static const guest_info *guest;
static int api_version, is_open, has_failed;
static uint64_t counter, region;
static FILE *out, *profile;

/* A block without a marker, kept for the profile. */
typedef struct block_info {
  struct block_info *next;
  uint64_t runs, count;
  char text[]; /* hexadecimal */
} block_info;

static block_info *blocks;

/* QEMU refuses plugins of another interface version; scoreboards came with version 2. */
__attribute__((constructor)) static void choose_version(void) {
  if (dlsym(RTLD_DEFAULT, "qemu_plugin_scoreboard_new") != NULL) {
    qemu_plugin_version = 2;
  }
}

static void add(unsigned cpu, void *data) {
  (void)cpu;
  counter += (uintptr_t)data;
}

static void add_block(unsigned cpu, void *data) {
  (void)cpu;
  block_info *block = data;
  counter += block->count;
  block->runs++;
}

static void begin(unsigned cpu, void *data) {
  (void)cpu, (void)data;
  has_failed |= is_open;
  is_open = 1;
  counter = 0;
  for (block_info *block = blocks; block != NULL; block = block->next) {
    block->runs = 0;
  }
}

static void end(unsigned cpu, void *data) {
  (void)cpu, (void)data;
  /* The closing marker has been counted already: it is no part of the region. */
  has_failed |= !is_open || fprintf(out, "%" PRIu64 "\n", counter - 1) < 0;
  is_open = 0;
  for (block_info *block = blocks; profile != NULL && block != NULL; block = block->next) {
    if (block->runs != 0) {
      has_failed |= fprintf(profile, "%" PRIu64 " %" PRIu64 " %s\n", region, block->runs, block->text) < 0;
    }
  }
  region++;
}

/* Up to 8 bytes of an instruction, zero behind its end. */
static void bytes_of(const struct qemu_plugin_insn *at, size_t size, uint8_t bytes[8]) {
  static void *function;
  if (function == NULL) {
    function = dlsym(RTLD_DEFAULT, "qemu_plugin_insn_data");
  }
  memset(bytes, 0, 8);
  size = size < 8 ? size : 8;
  if (api_version >= 3) {
    size_t (*copy)(const struct qemu_plugin_insn *, void *, size_t);
    memcpy(&copy, &function, sizeof copy);
    copy(at, bytes, size);
  } else {
    const void *(*data)(const struct qemu_plugin_insn *);
    memcpy(&data, &function, sizeof data);
    memcpy(bytes, data(at), size);
  }
}

/* What runs when this instruction does: begin, end, or NULL for any that is no marker. */
static run_callback marker(const struct qemu_plugin_insn *at) {
  static const uint8_t nop[3] = {0x0f, 0x1f, 0x80};
  const size_t size = qemu_plugin_insn_size(at), prefix = guest->is_x86 ? sizeof nop : 0;
  uint8_t bytes[8];
  uint32_t word;
  /* In front of a page's end QEMU 7.2 adds the next Thumb instruction's first halfword to this one's bytes. */
  if (guest->is_x86 ? size != 7 : size < 4) {
    return NULL;
  }
  bytes_of(at, size, bytes);
  if (memcmp(bytes, nop, prefix) != 0) {
    return NULL;
  }
  memcpy(&word, bytes + prefix, sizeof word);
  for (int form = 0; form < FORMS; form++) {
    if (word == guest->begin[form] || word == guest->end[form]) {
      return word == guest->begin[form] ? begin : end;
    }
  }
  return NULL;
}

/* The block for the profile; NULL without memory. */
static block_info *keep(const struct qemu_plugin_tb *made, size_t count) {
  enum { TEXT = 17 }; /* of an instruction: 8 bytes and a point */
  block_info *block = malloc(sizeof *block + count * TEXT + 1);
  if (block == NULL) {
    has_failed = 1;
    return NULL;
  }
  char *text = block->text;
  for (size_t index = 0; index < count; index++) {
    const struct qemu_plugin_insn *at = qemu_plugin_tb_get_insn(made, index);
    const size_t size = qemu_plugin_insn_size(at);
    uint8_t bytes[8];
    bytes_of(at, size, bytes);
    for (size_t place = 0; place < size && place < sizeof bytes; place++) {
      text += sprintf(text, "%02x", bytes[place]);
    }
    *text++ = index + 1 < count ? '.' : '\0';
  }
  block->count = count;
  block->runs = 0;
  block->next = blocks;
  blocks = block;
  return block;
}

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
  (void)id;
  const size_t count = qemu_plugin_tb_n_insns(block);
  bool has_marker = false;
  for (size_t index = 0; index < count; index++) {
    has_marker |= marker(qemu_plugin_tb_get_insn(block, index)) != NULL;
  }
  block_info *kept = has_marker || profile == NULL ? NULL : keep(block, count);
  if (kept != NULL) {
    qemu_plugin_register_vcpu_tb_exec_cb(block, add_block, 0, kept);
    return;
  }
  if (!has_marker) {
    qemu_plugin_register_vcpu_tb_exec_cb(block, add, 0, (void *)(uintptr_t)count);
    return;
  }
  for (size_t index = 0; index < count; index++) {
    struct qemu_plugin_insn *at = qemu_plugin_tb_get_insn(block, index);
    const run_callback mark = marker(at);
    qemu_plugin_register_vcpu_insn_exec_cb(at, add, 0, (void *)(uintptr_t)1);
    if (mark != NULL) {
      qemu_plugin_register_vcpu_insn_exec_cb(at, mark, 0, NULL);
    }
  }
}

static void finished(plugin_id id, void *data) {
  (void)id, (void)data;
  /* "end" tells a whole file from one that a crash cut off. */
  fputs(has_failed || is_open ? "unbalanced markers\n" : "end\n", out);
  fclose(out);
  if (profile != NULL) {
    fclose(profile);
  }
}

EXPORT int qemu_plugin_install(plugin_id id, const host_info *info, int count, char **arguments) {
  api_version = info->version.current;
  for (size_t index = 0; index < sizeof GUESTS / sizeof *GUESTS; index++) {
    if (strcmp(info->target_name, GUESTS[index].name) == 0) {
      guest = &GUESTS[index];
    }
  }
  if (guest == NULL || count < 1 || count > 2 || strncmp(arguments[0], "out=", 4) != 0 ||
      (count == 2 && strncmp(arguments[1], "blocks=", 7) != 0)) {
    fputs("the counting plugin is for x86_64, aarch64, arm and riscv64 and takes out=FILE and blocks=FILE\n", stderr);
    return -1;
  }
  out = fopen(arguments[0] + 4, "w");
  profile = count == 2 ? fopen(arguments[1] + 7, "w") : NULL;
  if (out == NULL || (count == 2 && profile == NULL)) {
    perror("the counting plugin's files");
    return -1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, finished, NULL);
  return 0;
}
