// Clipping by the norm of all gradients, decided on the GPU: nobody waits for the norm.

#include "common.cuh"

// norm = sqrt(square_sum), and
//     g = g max_norm / (norm + 1e-6)   where norm > max_norm
//     g = 0                            where norm is not finite: nothing of it may reach a weight
//
// g (n,), square_sum the sum of its squares -> norm, a single number. A thread for each g_i.
KERNEL void clip(float *g, float *norm, const float *square_sum, float max_norm, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float size = sqrtf(*square_sum);
    if (i == 0) *norm = size;
    if (!(size < INFINITY)) {
        g[i] = 0;
    } else if (size > max_norm) {
        g[i] *= max_norm / (size + 1e-6f);
    }
}
