// Sums in a fixed order: the same bits in every run.

#include "common.cuh"

// y_c = sum over p of parts_pc, or where `old` says so y_c + that.     parts (P, C), whose rows
// begin `step` numbers apart -> y (C,). A block is 32 columns by at most 32 rows of threads.
KERNEL void __launch_bounds__(1024)
sum_parts(scalar *y, const float *parts, int step, int old, int P, int C) {
    __shared__ float sums[32][32];
    int column = threadIdx.x, row = threadIdx.y, rows = blockDim.y;
    int c = blockIdx.x * 32 + column;

    float sum = 0;
    if (c < C) {
        for (int p = row; p < P; p += rows) sum += parts[(size_t)p * step + c];
    }
    sums[row][column] = sum;
    __syncthreads();

    if (row == 0 && c < C) {
        sum = old ? to_float(y[c]) : 0;
        for (int i = 0; i < rows; i++) sum += sums[i][column];
        store(y + c, sum);
    }
}

// parts (blocks, C): for each ROWS rows of x (N, C), the sums of their columns; sum_parts adds them
// up. A block is 32 columns by 8 rows of threads.
const int ROWS = 256;

KERNEL void column_sums(float *parts, const scalar *x, int N, int C) {
    __shared__ float sums[8][32];
    int column = threadIdx.x, y = threadIdx.y;
    int c = blockIdx.x * 32 + column;
    int first = blockIdx.y * ROWS;

    float sum = 0;
    if (c < C) {
        for (int n = first + y; n < min(first + ROWS, N); n += 8) {
            sum += to_float(x[(size_t)n * C + c]);
        }
    }
    sums[y][column] = sum;
    __syncthreads();

    if (y == 0 && c < C) {
        sum = 0;
        for (int i = 0; i < 8; i++) sum += sums[i][column];
        parts[(size_t)blockIdx.y * C + c] = sum;
    }
}

// sums[block] = the sum of x_i^2 over the share of a block of 256 threads.     x (n,).
KERNEL void square_sums(float *sums, const scalar *x, long long n) {
    __shared__ float warps[8];
    float sum = 0;
    long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        sum += to_float(x[i]) * to_float(x[i]);
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
    __syncthreads();

    if (threadIdx.x == 0) {
        sum = 0;
        for (int i = 0; i < 8; i++) sum += warps[i];
        sums[blockIdx.x] = sum;
    }
}
