#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

const char *edgeq_status_string(edgeq_status status) {
  switch (status) {
  case EDGEQ_OK:
    return "no error";
  case EDGEQ_ERROR_ARGUMENT:
    return "a null pointer or an index out of range";
  case EDGEQ_ERROR_OPEN:
    return "the file can't be read or mapped";
  case EDGEQ_ERROR_TRUNCATED:
    return "the artifact is truncated";
  case EDGEQ_ERROR_FORMAT:
    return "the file is not an edgeq artifact, or contradicts itself";
  case EDGEQ_ERROR_ABI:
    return "the artifact was written for another version of the runtime";
  case EDGEQ_ERROR_ARCH:
    return "the artifact was built for another processor architecture";
  case EDGEQ_ERROR_CPU:
    return "the artifact needs CPU features that are missing here";
  case EDGEQ_ERROR_DIGEST:
    return "the artifact was changed after it was written";
  case EDGEQ_ERROR_ARENA:
    return "the arena is too small or not aligned";
  case EDGEQ_ERROR_STEP:
    return "a step of the model refused to run";
  case EDGEQ_ERROR_GOLDEN:
    return "the outputs differ from the golden vectors";
  case EDGEQ_ERROR_MEMORY:
    return "there is not enough memory, or no thread can be started";
  case EDGEQ_ERROR_SIZE:
    return "a buffer has the wrong size";
  }
  return "unknown status";
}

edgeq_status edgeq_fail(char *detail, edgeq_status status, const char *format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(detail, EDGEQ_DETAIL_SIZE, format, values);
  va_end(values);
  return status;
}
