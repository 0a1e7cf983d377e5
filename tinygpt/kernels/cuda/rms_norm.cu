// Root-mean-square normalisation:  y = w x_hat,  x_hat = x r,  r = 1 / sqrt(mean(x^2) + eps).
//
// x (N, C), w (C,) or null for 1 -> y (N, C); r (N,) is kept for the way back.
// The derivation is in ops/rms_norm.py. C is a multiple of 4.

#include "common.cuh"

// One warp a row: lane l takes columns 4 l .. 4 l + 3, and those 128 further on, and so on.
KERNEL void rms_norm_forward(result *y, float *r_rms, const scalar *x, const scalar *w, float eps,
                             int N, int C) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= N) return;
    x += (size_t)row * C;
    y += (size_t)row * C;

    float squares = 0;
    for (int c = 4 * lane; c < C; c += 128) {
        float v[4];
        load4(v, x + c);
        for (int i = 0; i < 4; i++) squares += v[i] * v[i];
    }
    float r = 1 / sqrtf(warp_sum(squares) / C + eps);

    for (int c = 4 * lane; c < C; c += 128) {
        float v[4];
        load4(v, x + c);
        for (int i = 0; i < 4; i++) v[i] *= w ? r * to_float(w[c + i]) : r;
        store4(y + c, v);
    }
    if (lane == 0) r_rms[row] = r;
}

// dx = carried + r (dx_hat - x_hat mean(dx_hat x_hat)),  dx_hat = dy w.
//
// carried (N, C) or null: what x has from others. One warp a row.
KERNEL void rms_norm_backward(scalar *dx, const result *dy, const scalar *carried, const scalar *x,
                              const scalar *w, const float *r_rms, int N, int C) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= N) return;
    dx += (size_t)row * C;
    dy += (size_t)row * C;
    x += (size_t)row * C;
    float r = r_rms[row];

    float along = 0;
    for (int c = 4 * lane; c < C; c += 128) {
        float g[4], v[4];
        load4(g, dy + c);
        load4(v, x + c);
        for (int i = 0; i < 4; i++) along += g[i] * (w ? to_float(w[c + i]) : 1) * v[i] * r;
    }
    along = warp_sum(along) / C;

    for (int c = 4 * lane; c < C; c += 128) {
        float g[4], v[4];
        load4(g, dy + c);
        load4(v, x + c);
        for (int i = 0; i < 4; i++) {
            float dx_hat = g[i] * (w ? to_float(w[c + i]) : 1);
            g[i] = r * (dx_hat - v[i] * r * along);
        }
        if (carried) add4(g, carried + (size_t)row * C + c);
        store4(dx + c, g);
    }
}

// dw = sum of dy x_hat over rows: parts (blocks, C), each of the ROWS rows of a block; sum_parts in
// sums.cu adds them up. A block is 32 columns by 8 rows of threads.
const int ROWS = 256;

KERNEL void rms_norm_backward_weight(float *parts, const result *dy, const scalar *x,
                                     const float *r_rms, int N, int C) {
    __shared__ float sums[8][32];
    int column = threadIdx.x, y = threadIdx.y;
    int c = blockIdx.x * 32 + column;
    int first = blockIdx.y * ROWS;

    float dw = 0;
    if (c < C) {
        for (int n = first + y; n < min(first + ROWS, N); n += 8) {
            dw += to_float(dy[(size_t)n * C + c]) * to_float(x[(size_t)n * C + c]) * r_rms[n];
        }
    }
    sums[y][column] = dw;
    __syncthreads();

    if (y == 0 && c < C) {
        float sum = 0;
        for (int i = 0; i < 8; i++) sum += sums[i][column];
        parts[(size_t)blockIdx.y * C + c] = sum;
    }
}
