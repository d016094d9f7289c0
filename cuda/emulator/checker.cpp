#include "runtime.h"
void checker_starts_launch(Launch*){} void checker_starts_block(Worker*){} void checker_ends_block(Worker*){} void checker_ends_launch(Launch*){}
void check_access(const void*, size_t, bool, bool, const void*, const Site*){}
EXPORT void emulator_atomic(const void*, int) {}
