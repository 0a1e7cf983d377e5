// Root-mean-square normalisation:  y = w x_hat,  x_hat = x r,  r = 1 / sqrt(mean(x^2) + eps).
//
// x (N, C), w (C,) or null for 1 -> y (N, C); r (N,) is kept for the way back. With an h (N, C),
// this is add_rms_norm: sum = x + h is written, and is what is normalised; h and sum are null
// without. The derivations are in ops/rms_norm.py and ops/residual.py. C is a multiple of 4.

#include "common.cuh"

// One warp a row: lane l takes columns 4 l .. 4 l + 3, and those 128 further on, and so on.
KERNEL void rms_norm_forward(result *y, scalar *sum, float *r_rms, const scalar *x, const result *h,
                             const scalar *w, float eps, int N, int C) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= N) return;
    size_t at = (size_t)row * C;

    float squares = 0;
    for (int c = 4 * lane; c < C; c += 128) {
        float v[4];
        load4(v, x + at + c);
        if (h) {
            add4(v, h + at + c);
            store4(sum + at + c, v);
        }
        for (int i = 0; i < 4; i++) squares += v[i] * v[i];
    }
    float r = 1 / sqrtf(warp_sum(squares) / C + eps);
    if (h) x = sum;  // each lane reads what it wrote itself

    for (int c = 4 * lane; c < C; c += 128) {
        float v[4];
        load4(v, x + at + c);
        for (int i = 0; i < 4; i++) v[i] *= w ? r * to_float(w[c + i]) : r;
        store4(y + at + c, v);
    }
    if (lane == 0) r_rms[row] = r;
}

// dx = ds + r (dx_hat - x_hat mean(dx_hat x_hat)),  dx_hat = dy w;
// dw = sum of dy x_hat over rows.
//
// x: what was normalised. ds (N, C) or null: the gradient of sum. dh (N, C) or null: dx once more, as
// products take it.
// parts (blocks, C), null without w: dw of the ROWS rows of each block, which its warps take in turn;
// sum_parts in sums.cu adds them up. Shared memory: (warps, C) floats, in which each warp adds up its
// own.
const int ROWS = 32;

KERNEL void rms_norm_backward(scalar *dx, result *dh, float *parts, const scalar *ds,
                              const result *dy, const scalar *x, const scalar *w,
                              const float *r_rms, int N, int C) {
    DYNAMIC_SHARED(shared);
    int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float *sums = (float *)shared, *dw = sums + warp * C;  // of a warp's rows
    float zeros[4] = {};
    for (int c = 4 * lane; c < C; c += 128) store4(dw + c, zeros);

    int first = blockIdx.x * ROWS;
    for (int row = first + warp; row < min(first + ROWS, N); row += warps) {
        size_t at = (size_t)row * C;
        float r = r_rms[row];

        float along = 0;
        for (int c = 4 * lane; c < C; c += 128) {
            float g[4], v[4];
            load4(g, dy + at + c);
            load4(v, x + at + c);
            for (int i = 0; i < 4; i++) along += g[i] * (w ? to_float(w[c + i]) : 1) * v[i] * r;
        }
        along = warp_sum(along) / C;

        for (int c = 4 * lane; c < C; c += 128) {
            float g[4], v[4];
            load4(g, dy + at + c);
            load4(v, x + at + c);
            for (int i = 0; i < 4; i++) {
                float dx_hat = g[i] * (w ? to_float(w[c + i]) : 1), x_hat = v[i] * r;
                v[i] = g[i] * x_hat;
                g[i] = r * (dx_hat - x_hat * along);
            }
            add_to4(dw + c, v);
            if (ds) add4(g, ds + at + c);
            store4(dx + at + c, g);
            if (dh) store4(dh + at + c, g);
        }
    }
    if (!parts) return;
    __syncthreads();

    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        float sum = 0;
        for (int i = 0; i < warps; i++) sum += sums[i * C + c];
        parts[(size_t)blockIdx.x * C + c] = sum;
    }
}
