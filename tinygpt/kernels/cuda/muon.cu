// Muon on one matrix: what is done around the products. The formulas are in optim.py. A thread for
// each number.

#include "common.cuh"

//     m = momentum m + g
//     u = g + momentum m
//
// g, m, u (n,). norm, the norm of all gradients, or null: where it is not finite, m stays.
KERNEL void running_gradient(float *u, float *m, const float *g, const float *norm, float momentum,
                             int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    if (!norm || *norm < INFINITY) m[i] = momentum * m[i] + g[i];
    u[i] = g[i] + momentum * m[i];
}

// u = u / (sqrt(sum of u_i^2) + 1e-7): every singular value is at most 1.     u (n,).
KERNEL void unit(float *u, const float *square_sum, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) u[i] /= sqrtf(*square_sum) + 1e-7f;
}

// What the product of a round, q = a 1 + (b 1 + c g) g, starts from:
//     factor = b 1 + c g
//     q = a 1
// g, factor, q (n, n), where 1 is the matrix with ones on its diagonal.
KERNEL void start_round(float *factor, float *q, const float *g, float a, float b, float c, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n * n) return;
    bool diagonal = i / n == i % n;
    factor[i] = (diagonal ? b : 0) + c * g[i];
    q[i] = diagonal ? a : 0;
}

//     w = shrink w - lr scale direction
//
// w, direction (n,); copy (n,) or null gets w as it is stored for the products. norm as above: where
// it is not finite, nothing changes. numbers: one that AdamW needs, then lr and shrink, which are
// others in each step.
KERNEL void muon(float *w, scalar *copy, const float *direction, const float *norm,
                 const float *numbers, float scale, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n || (norm && !(*norm < INFINITY))) return;
    float lr = numbers[1], shrink = numbers[2];
    w[i] = shrink * w[i] - lr * scale * direction[i];
    if (copy) store(copy + i, w[i]);
}
