/* Calls the compiled function `model` on arrays from standard input.
 *
 * In:  int64 number of inputs, outputs, sizes; the sizes; for each input its bytes (int64) and data.
 * Out: int64 code; if it is 0, for each output its bytes (int64) and data.
 * The workspace is not aligned on purpose, and everything the function writes to has a border that
 * must stay as it was; exit status 3 says that it did not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model.h"

enum { BORDER = 128, FILL = 0xA5, ODD = 1 };

static int64_t number(void) {
  int64_t value;
  if (fread(&value, sizeof value, 1, stdin) != 1) exit(2);
  return value;
}

static void tell(int64_t value) { fwrite(&value, sizeof value, 1, stdout); }

static unsigned char *bordered(size_t bytes) {
  unsigned char *p = malloc(bytes + 2 * BORDER);
  if (!p) exit(2);
  memset(p, FILL, bytes + 2 * BORDER);
  return p + BORDER;
}

static void check(const unsigned char *p, size_t bytes) {
  for (int i = 0; i < BORDER - ODD; i++)
    if (p[bytes + (size_t)i] != FILL || p[-1 - i] != FILL) exit(3);
}

int main(void) {
  int64_t ninputs = number(), noutputs = number(), nsizes = number();
  int64_t *sizes = calloc((size_t)nsizes + 1, sizeof *sizes);
  const void **inputs = calloc((size_t)ninputs + 1, sizeof *inputs);
  void **outputs = calloc((size_t)noutputs + 1, sizeof *outputs);
  for (int64_t i = 0; i < nsizes; i++) sizes[i] = number();
  for (int64_t i = 0; i < ninputs; i++) {
    size_t bytes = (size_t)number();
    void *p = malloc(bytes + 1);
    if (fread(p, 1, bytes, stdin) != bytes) exit(2);
    inputs[i] = p;
  }
  size_t space = model_workspace_bytes(sizes);
  if (space == (size_t)-1) space = 0;
  unsigned char *workspace = bordered(space + ODD);
  for (int64_t i = 0; i < noutputs; i++) {
    size_t bytes = model_output_bytes(sizes, (int32_t)i);
    outputs[i] = bordered(bytes == (size_t)-1 ? 0 : bytes);
  }
  if (model_output_bytes(sizes, (int32_t)noutputs) != (size_t)-1) return 4;
  int32_t code = model(inputs, outputs, sizes, space ? workspace + ODD : NULL);
  tell(code);
  check(workspace + ODD, space);
  if (code) return 0;
  for (int64_t i = 0; i < noutputs; i++) {
    size_t bytes = model_output_bytes(sizes, (int32_t)i);
    check(outputs[i], bytes);
    tell((int64_t)bytes);
    fwrite(outputs[i], 1, bytes, stdout);
  }
  return 0;
}
