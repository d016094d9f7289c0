/* Every C kernel of the house, one line each: what Python may call.
 *
 * native/build.py reads this file to cffi line by line, and every .c file includes it, so the
 * compiler refuses a definition that differs. Only prototypes stand here; lines that begin with #
 * are for the compiler alone. Outputs come first, are overwritten and never read.
 */
#include "real.h"

void add_forward(real *y, const real *a, const real *b, int64_t n);
