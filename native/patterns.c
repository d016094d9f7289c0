/* Cuts of later models: tinygrad_edu/tokenizers/patterns.py explains them and numbers the rules. */
#include <string.h>

#include "kernels.h"

enum { OTHER, LETTER, NUMBER, SPACE, CONTINUES = 255 };

/* The bytes of a contraction in upper or lower case at text[i], 0 where there is none. */
static int64_t contraction(const uint8_t *text, int64_t i, int64_t n) {
    if (text[i] != '\'' || i + 1 == n) return 0;
    const uint8_t one = text[i + 1] | 0x20, two = i + 2 < n ? text[i + 2] : 0;
    if (one == 's' || one == 'd' || one == 'm' || one == 't') return 2;
    if (text[i + 1] == 0xC5 && two == 0xBF) return 3;                                     /* (3) */
    const bool three = (one == 'l' && (two | 0x20) == 'l') ||
                       ((one == 'v' || one == 'r') && (two | 0x20) == 'e');
    return three ? 3 : 0;
}

/* The end of the characters of one kind that begin at i. */
INLINE int64_t run(const uint8_t *classes, uint8_t kind, int64_t i, int64_t n) {
    while (i < n && (classes[i] == kind || classes[i] == CONTINUES)) i++;
    return i;
}

INLINE bool is_line_end(uint8_t byte) { return byte == '\r' || byte == '\n'; }

/* The end of a piece that begins with white space: the last three alternatives. */
static int64_t end_of_space(const uint8_t *text, const uint8_t *classes, bool whole_end, int64_t i,
                            int64_t n) {
    const int64_t end = run(classes, SPACE, i, n);
    int64_t last = end;
    if (end == n && whole_end) return end;                                                /* (2) */
    while (last > i && !is_line_end(text[last - 1])) last--;
    if (last > i) return last;
    for (last = end - 1; classes[last] == CONTINUES;) last--;
    return end == n || last == i ? end : last;
}

/* The end of the piece that begins at i, by (1). */
static int64_t end_of_piece(const uint8_t *text, const uint8_t *classes, int64_t digits,
                            bool whole_end, int64_t i, int64_t n) {
    const int64_t letters = contraction(text, i, n);
    if (letters) return i + letters;
    const uint8_t kind = classes[i];
    int64_t next = run(classes, CONTINUES, i + 1, n);
    const uint8_t following = next < n ? classes[next] : SPACE;
    if (kind == NUMBER) {
        for (int64_t k = 1; k < digits && next < n && classes[next] == NUMBER; k++)
            next = run(classes, CONTINUES, next + 1, n);
        return next;
    }
    if (kind == LETTER || (following == LETTER && !is_line_end(text[i])))
        return run(classes, LETTER, next, n);
    if (kind == OTHER || (following == OTHER && text[i] == ' ')) {
        next = run(classes, OTHER, next, n);
        while (next < n && is_line_end(text[next])) next++;
        return next;
    }
    return end_of_space(text, classes, whole_end, i, n);
}

void split_gpt4(bool *begins, const uint8_t *text, const uint8_t *classes, int64_t digits,
                bool whole_end, int64_t n) {
    memset(begins, 0, n);
    for (int64_t i = 0; i < n; i = end_of_piece(text, classes, digits, whole_end, i, n))
        begins[i] = true;
}

void split_digits(bool *begins, const uint8_t *text, const uint8_t *classes, int64_t n) {
    for (int64_t i = 0, end; i < n; i = end) {
        end = i;
        while (end < n && classes[end] != NUMBER) end++;
        split_gpt2(begins + i, text + i, classes + i, end - i);
        if (end == n) break;
        const int64_t digit = end;
        end = run(classes, CONTINUES, end + 1, n);
        memset(begins + digit, 0, end - digit);
        begins[digit] = true;                                                             /* (4) */
    }
}
