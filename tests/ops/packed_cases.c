/* Calls of native/packed*.c that tests/ops/test_packed_on_arm.py has written into a file, on the
 * CPU that this is built for: reads what each call needs, and writes what it says. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels.h"

static void *take(FILE *from, int64_t count) {
    void *memory = malloc(count + 1);
    if (!memory || fread(memory, 1, count, from) != (size_t)count) exit(2);
    return memory;
}

int main(int count, char **names) {
    FILE *from = fopen(names[1], "rb"), *to = fopen(names[2], "wb");
    int64_t n[5];
    while (count == 3 && fread(n, sizeof n, 1, from) == 1) {
        const int64_t kind = n[0], N = n[1], K = n[2], F = n[3], row = n[4];
        const int64_t parts = kind == 0 || kind == 1 || kind == 30 ? 0 : K / 32;
        float *x = take(from, 4 * N * K), *scale = malloc(4 * N * parts + 1);
        uint8_t *blocks = take(from, F * row);
        int8_t *q = malloc(N * K + 1);
        int32_t *sum = malloc(4 * N * parts + 1);
        float *y = malloc(4 * N * F), *wide = malloc(4 * F * K);
        if (parts) quantize_rows(q, scale, sum, x, N, K);
        packed_product(y, x, q, scale, sum, blocks, kind, N, K, F, row, 0, F);
        unpack_rows(wide, blocks, kind, F, K, row);
        fwrite(y, 4, N * F, to);
        fwrite(wide, 4, F * K, to);
        free(x), free(scale), free(blocks), free(q), free(sum), free(y), free(wide);
    }
    return fclose(to);
}
