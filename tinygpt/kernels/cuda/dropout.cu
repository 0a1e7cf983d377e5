// Dropout:  y = x keep / (1 - p).  The way back is the same function of dy.

#include "common.cuh"
#include "philox.cuh"

// x (n,), element i being number first + i of the whole batch -> y (n,). scale is 1 / (1 - p).
//
// A warp for 512 elements, beginning at a multiple of 16: each lane draws 16 of them, and then they
// are dealt out so that neighbouring lanes write neighbouring elements.
KERNEL void dropout(result *y, const scalar *x, u64 first, const u64 *key, unsigned threshold,
                    float scale, int n) {
    int warp = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    u64 start = first / 16 * 16 + (u64)warp * 512;  // the number of the warp's first element
    unsigned kept = kept_block({key, threshold}, start / 16 + lane);
    for (int i = 0; i < 16; i++) {
        int element = 32 * i + lane;
        unsigned stays = __shfl_sync(WHOLE_WARP, kept, element / 16) >> (element % 16) & 1;
        long long at = (long long)(start + element - first);
        if (at >= 0 && at < n) store(y + at, stays ? to_float(x[at]) * scale : 0);
    }
}
