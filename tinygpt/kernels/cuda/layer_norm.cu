// Layer normalisation:  y = w x_hat + b,  x_hat = (x - mean) r,  r = 1 / sqrt(variance + eps).
//
// x (N, C), w (C,), b (C,) or null -> y (N, C); mean and r (N,) are kept for the way back.
// The derivation is in ops/layer_norm.py. C is a multiple of 4.

#include "common.cuh"

// One warp a row. Lane l takes columns 4 l .. 4 l + 3, and those 128 further on, and so on. What is
// read again comes from the cache.
KERNEL void layer_norm_forward(result *y, float *mean, float *r_std, const scalar *x,
                               const scalar *w, const scalar *b, float eps, int N, int C) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= N) return;
    x += (size_t)row * C;
    y += (size_t)row * C;

    float sum = 0;
    for (int c = 4 * lane; c < C; c += 128) {
        float v[4];
        load4(v, x + c);
        for (int i = 0; i < 4; i++) sum += v[i];
    }
    float m = warp_sum(sum) / C;

    float squares = 0;
    for (int c = 4 * lane; c < C; c += 128) {
        float v[4];
        load4(v, x + c);
        for (int i = 0; i < 4; i++) squares += (v[i] - m) * (v[i] - m);
    }
    float r = 1 / sqrtf(warp_sum(squares) / C + eps);

    for (int c = 4 * lane; c < C; c += 128) {
        float v[4];
        load4(v, x + c);
        for (int i = 0; i < 4; i++) {
            v[i] = (v[i] - m) * r * to_float(w[c + i]);
            if (b) v[i] += to_float(b[c + i]);
        }
        store4(y + c, v);
    }
    if (lane == 0) {
        mean[row] = m;
        r_std[row] = r;
    }
}

// dx = carried + r (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat)),  dx_hat = dy w.
//
// carried (N, C) or null: what x has from others. One warp a row.
KERNEL void layer_norm_backward(scalar *dx, const result *dy, const scalar *carried,
                                const scalar *x, const scalar *w, const float *mean,
                                const float *r_std, int N, int C) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= N) return;
    dx += (size_t)row * C;
    dy += (size_t)row * C;
    x += (size_t)row * C;
    float m = mean[row], r = r_std[row];

    float average = 0, along = 0;
    for (int c = 4 * lane; c < C; c += 128) {
        float g[4], v[4];
        load4(g, dy + c);
        load4(v, x + c);
        for (int i = 0; i < 4; i++) {
            float dx_hat = g[i] * to_float(w[c + i]);
            average += dx_hat;
            along += dx_hat * (v[i] - m) * r;
        }
    }
    average = warp_sum(average) / C;
    along = warp_sum(along) / C;

    for (int c = 4 * lane; c < C; c += 128) {
        float g[4], v[4];
        load4(g, dy + c);
        load4(v, x + c);
        for (int i = 0; i < 4; i++) {
            float dx_hat = g[i] * to_float(w[c + i]), x_hat = (v[i] - m) * r;
            g[i] = r * (dx_hat - average - x_hat * along);
        }
        if (carried) add4(g, carried + (size_t)row * C + c);
        store4(dx + c, g);
    }
}

// dw = sum of dy x_hat and db = sum of dy over rows: parts (blocks, 2, C), each of the ROWS rows of
// a block; sum_parts in sums.cu adds them up. A block is 32 columns by 8 rows of threads.
const int ROWS = 256;

KERNEL void layer_norm_backward_weight(float *parts, const result *dy, const scalar *x,
                                       const float *mean, const float *r_std, int N, int C) {
    __shared__ float sums[2][8][32];
    int column = threadIdx.x, y = threadIdx.y;
    int c = blockIdx.x * 32 + column;
    int first = blockIdx.y * ROWS;

    float dw = 0, db = 0;
    if (c < C) {
        for (int n = first + y; n < min(first + ROWS, N); n += 8) {
            float g = to_float(dy[(size_t)n * C + c]);
            dw += g * (to_float(x[(size_t)n * C + c]) - mean[n]) * r_std[n];
            db += g;
        }
    }
    sums[0][y][column] = dw;
    sums[1][y][column] = db;
    __syncthreads();

    if (y < 2 && c < C) {  // row 0 of threads adds up dw, row 1 db
        float sum = 0;
        for (int i = 0; i < 8; i++) sum += sums[y][i][column];
        parts[((size_t)blockIdx.y * 2 + y) * C + c] = sum;
    }
}
