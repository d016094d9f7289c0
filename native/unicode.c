/* Characters of any bytes: tinygrad_edu/tokenizers/unicode.py explains it and numbers the lines. */
#include "kernels.h"

enum { CONTINUES = 255 };

/* The code point at text[i], and in `length` its bytes; a byte that is no UTF-8 by (2). */
INLINE uint32_t point_at(const uint8_t *text, int64_t i, int64_t n, int64_t *length) {
    const uint32_t byte = text[i];
    const int64_t bytes = byte < 0xC0 || byte > 0xF7 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t point = byte & 0x7F >> bytes;                                                /* (1) */
    bool valid = bytes > 1 && i + bytes <= n;
    for (int64_t j = i + 1; valid && j < i + bytes; j++) {
        valid = (text[j] & 0xC0) == 0x80;
        point = point << 6 | (text[j] & 0x3F);
    }
    valid = valid && least[bytes] <= point && point < 0x110000 && point >> 11 != 0xD800 >> 11;
    *length = valid ? bytes : 1;
    return valid ? point : 0xDC00 + byte;                                                 /* (2) */
}

void classify(uint8_t *classes, const uint8_t *text, const uint8_t *table, int64_t n) {
    for (int64_t i = 0; i < n;) {
        if (text[i] < 0x80) {
            classes[i] = table[text[i]];
            i++;
            continue;
        }
        int64_t length;
        classes[i] = table[point_at(text, i, n, &length)];                                /* (3) */
        for (int64_t j = 1; j < length; j++) classes[i + j] = CONTINUES;
        i += length;
    }
}
