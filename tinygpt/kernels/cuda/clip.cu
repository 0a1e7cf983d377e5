// Clipping by the norm of all gradients, decided on the GPU: nobody waits for the norm.

#include "common.cuh"

// With g standing for g / scale, where there is a scale: norm = sqrt(sum of g_i^2), and
//     g = g max_norm / (norm + 1e-6)   where norm > max_norm
//     g = 0                            where norm is not finite: nothing of it may reach a weight
//
// g (n,), square_sum the sum of its squares, scale a number or null -> norm, a number. A thread for
// each g_i.
KERNEL void clip(float *g, float *norm, const float *square_sum, const float *scale, float max_norm,
                 int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float factor = scale ? 1 / *scale : 1;
    float size = sqrtf(*square_sum) * factor;
    if (i == 0) *norm = size;
    if (size > max_norm) factor *= max_norm / (size + 1e-6f);
    if (!(size < INFINITY)) {
        g[i] = 0;
    } else if (factor != 1) {
        g[i] *= factor;
    }
}

// state: the scale of the loss, good steps in a row, bad steps in all. A step is good where the norm
// of its gradients is finite. One thread.
KERNEL void change_scale(float *state, const float *norm, int grow_after) {
    if (*norm < INFINITY) {
        state[1] += 1;
        if (state[1] < grow_after) return;
        state[0] *= 2;
    } else {
        state[0] /= 2;
        state[2] += 1;
    }
    state[1] = 0;
}
