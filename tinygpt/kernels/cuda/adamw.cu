// AdamW over flat buffers. The formulas are in optim.py.

#include "common.cuh"

//     m = b1 m + (1 - b1) g
//     v = b2 v + (1 - b2) g^2
//     w = shrink w - step m / (root sqrt(v) + eps)
//
// w, g, m, v (n,) in float; copy (n,) or null gets w as it is stored for the products. norm, the
// norm of all gradients, or null: where it is not finite, nothing changes. numbers (3,), which are
// others in each step: root = 1 / sqrt(1 - b2^t), step = lr / (1 - b1^t), shrink = 1 - lr
// weight_decay.
KERNEL void adamw(float *w, float *m, float *v, scalar *copy, const float *g, const float *norm,
                  const float *numbers, float b1, float b2, float eps, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n || (norm && !(*norm < INFINITY))) return;
    float root = numbers[0], step = numbers[1], shrink = numbers[2], gradient = g[i];
    m[i] = b1 * m[i] + (1 - b1) * gradient;
    v[i] = b2 * v[i] + (1 - b2) * gradient * gradient;
    w[i] = shrink * w[i] - step * m[i] / (root * sqrtf(v[i]) + eps);
    if (copy) store(copy + i, w[i]);
}
