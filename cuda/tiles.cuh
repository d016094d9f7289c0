// Which part of a matrix a block computes.
#pragma once

// Tiles are numbered down the columns of a group of GROUP rows of tiles. So 64 neighbours, which
// run at one time, need 8 + 8 stripes of the operands and not 1 + 64: these stay in the cache.
#define GROUP 8

struct Tile { int row, column; };

__device__ __forceinline__ Tile nth_tile(int number, int down, int across) {
    const int first = number / (GROUP * across) * GROUP;
    const int height = down - first < GROUP ? down - first : GROUP;
    const int inside = number - first * across;
    return {first + inside % height, inside / height};
}
