/* Three fibers take turns in the middle of a computation that keeps 8 doubles and 6 integers alive,
 * more than fit into registers that a call may change. Each must end as if nobody had come between.
 */
#include "fiber.h"

#include <stdio.h>
#include <stdlib.h>

const int FIBERS = 3, TURNS = 1000;
const size_t BYTES = 64 << 10;
static Fiber home, fibers[FIBERS];
static double results[FIBERS];
static bool taking_turns;

static void pause_of(int me) {
    if (taking_turns) fiber_switch(fibers[me], me + 1 < FIBERS ? fibers[me + 1] : home);
}

static double compute(int me) {
    double a = me + 1, b = a / 3, c = a / 5, d = a / 7, e = a / 11, f = a / 13, g = a / 17, h = 1;
    long i = me, j = i + 2, k = j * 3, l = k ^ 5, m = l + i, n = 1;
    for (int turn = 0; turn < TURNS; turn++) {
        a = b * 0.5 + h, b = c - a, c = d * 0.25 + b, d = e - c, e = f * 0.5, f = g + 0.125 * a;
        g = h - 0.5 * f, h = 0.5 * (a - g), i = j * 5 + 1, j = k ^ i, k = l + j, l = m * 3, m = n ^ l;
        n = i + 7;
        i %= 1 << 20, j %= 1 << 20, k %= 1 << 20, l %= 1 << 20, m %= 1 << 20, n %= 1 << 20;
        pause_of(me);
    }
    return a + b + c + d + e + f + g + h + i + j + k + l + m + n;
}

static int started;
static void body() {
    const int me = started++;
    results[me] = compute(me);
    for (;;) pause_of(me);
}

int main() {
    taking_turns = true;
    for (Fiber& fiber : fibers)
        fiber_start(fiber, (char*)aligned_alloc(64, BYTES) + BYTES, BYTES, body);
    for (int turn = 0; turn <= TURNS; turn++) fiber_switch(home, fibers[0]);
    taking_turns = false;
    for (int me = 0; me < FIBERS; me++)
        if (results[me] != compute(me)) return printf("fiber %d: %g\n", me, results[me]), 1;
    puts("every fiber is undisturbed");
}
