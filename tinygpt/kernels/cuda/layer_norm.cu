// Layer normalisation:  y = w x_hat + b,  x_hat = (x - mean) r,  r = 1 / sqrt(variance + eps).
//
// x (N, C), w (C,), b (C,) or null -> y (N, C); mean and r (N,) are kept for the way back. With an
// h (N, C), this is add_layer_norm: sum = x + h is written, and is what is normalised; h and sum are
// null without. The derivations are in ops/layer_norm.py and ops/residual.py. C is a multiple of 4.

#include "common.cuh"

// One warp a row. Lane l takes columns 4 l .. 4 l + 3, and those 128 further on, and so on. What is
// read again comes from the cache.
KERNEL void layer_norm_forward(result *y, scalar *sum, float *mean, float *r_std, const scalar *x,
                               const result *h, const scalar *w, const scalar *b, float eps, int N,
                               int C) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= N) return;
    size_t at = (size_t)row * C;

    float total = 0;
    for (int c = 4 * lane; c < C; c += 128) {
        float v[4];
        load4(v, x + at + c);
        if (h) {
            add4(v, h + at + c);
            store4(sum + at + c, v);
        }
        for (int i = 0; i < 4; i++) total += v[i];
    }
    float m = warp_sum(total) / C;
    if (h) x = sum;  // each lane reads what it wrote itself

    float squares = 0;
    for (int c = 4 * lane; c < C; c += 128) {
        float v[4];
        load4(v, x + at + c);
        for (int i = 0; i < 4; i++) squares += (v[i] - m) * (v[i] - m);
    }
    float r = 1 / sqrtf(warp_sum(squares) / C + eps);

    for (int c = 4 * lane; c < C; c += 128) {
        float v[4];
        load4(v, x + at + c);
        for (int i = 0; i < 4; i++) {
            v[i] = (v[i] - m) * r * to_float(w[c + i]);
            if (b) v[i] += to_float(b[c + i]);
        }
        store4(y + at + c, v);
    }
    if (lane == 0) {
        mean[row] = m;
        r_std[row] = r;
    }
}

// dx = ds + r (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat)),  dx_hat = dy w;
// dw = sum of dy x_hat and db = sum of dy over rows.
//
// x: what was normalised. ds (N, C) or null: the gradient of sum. dh (N, C) or null: dx once more, as
// products take it.
// parts (blocks, 2, C): dw and db of the ROWS rows of each block, which its warps take in turn;
// sum_parts in sums.cu adds them up. Shared memory: (warps, 2, C) floats, in which each warp adds up
// its own.
const int ROWS = 32;

KERNEL void layer_norm_backward(scalar *dx, result *dh, float *parts, const scalar *ds,
                                const result *dy, const scalar *x, const scalar *w,
                                const float *mean, const float *r_std, int N, int C) {
    DYNAMIC_SHARED(shared);
    int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float *sums = (float *)shared, *dw = sums + 2 * warp * C, *db = dw + C;  // of a warp's rows
    float zeros[4] = {};
    for (int c = 4 * lane; c < C; c += 128) {
        store4(dw + c, zeros);
        store4(db + c, zeros);
    }

    int first = blockIdx.x * ROWS;
    for (int row = first + warp; row < min(first + ROWS, N); row += warps) {
        size_t at = (size_t)row * C;
        float m = mean[row], r = r_std[row];

        float average = 0, along = 0;
        for (int c = 4 * lane; c < C; c += 128) {
            float g[4], v[4];
            load4(g, dy + at + c);
            load4(v, x + at + c);
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
            load4(g, dy + at + c);
            load4(v, x + at + c);
            add_to4(db + c, g);
            for (int i = 0; i < 4; i++) {
                float dx_hat = g[i] * to_float(w[c + i]), x_hat = (v[i] - m) * r;
                v[i] = g[i] * x_hat;
                g[i] = r * (dx_hat - average - x_hat * along);
            }
            add_to4(dw + c, v);
            if (ds) add4(g, ds + at + c);
            store4(dx + at + c, g);
            if (dh) store4(dh + at + c, g);
        }
    }
    __syncthreads();

    for (int c = threadIdx.x; c < 2 * C; c += blockDim.x) {
        float sum = 0;
        for (int i = 0; i < warps; i++) sum += sums[2 * i * C + c];
        parts[(size_t)blockIdx.x * 2 * C + c] = sum;
    }
}
