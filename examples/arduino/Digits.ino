// Reads one digit and prints which one it is. Pixels go from 0 (black) to 16.
#include <digits.h>

DIGITS_ARENA(arena);

static const uint8_t pixels[DIGITS_INPUT_ELEMENTS] = {
    0, 0,  5, 13,  9,  1, 0, 0,  //
    0, 0, 13, 15, 10, 15, 5, 0,  //
    0, 3, 15,  2,  0, 11, 8, 0,  //
    0, 4, 12,  0,  0,  8, 8, 0,  //
    0, 5,  8,  0,  0,  9, 8, 0,  //
    0, 4, 11,  0,  1, 12, 7, 0,  //
    0, 2, 14,  5, 10, 12, 0, 0,  //
    0, 0,  6, 13, 10,  0, 0, 0,
};

void setup() {
  Serial.begin(115200);
}

void loop() {
  int8_t *input = digits_input(arena);
  for (uint32_t i = 0; i < DIGITS_INPUT_ELEMENTS; i++) {
    // real value = DIGITS_INPUT_SCALE * (q - DIGITS_INPUT_ZERO_POINT)
    long q = lroundf(pixels[i] / DIGITS_INPUT_SCALE) + DIGITS_INPUT_ZERO_POINT;
    input[i] = static_cast<int8_t>(q < -128 ? -128 : q > 127 ? 127 : q);
  }
  digits_run(arena);
  const int8_t *scores = digits_output(arena);
  uint32_t best = 0;
  for (uint32_t i = 1; i < DIGITS_OUTPUT_ELEMENTS; i++) {
    best = scores[i] > scores[best] ? i : best;
  }
  Serial.println(best);
  delay(1000);
}
