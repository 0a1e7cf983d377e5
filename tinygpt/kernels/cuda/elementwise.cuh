// A function of one number, applied to every element: a thread for four neighbours.

#include "common.cuh"

// y_i = f(x_i).     x (n,) -> y (n,)
template <float f(float)>
DEVICE void each(scalar *y, const scalar *x, int n) {
    int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (i + 4 <= n) {
        float v[4];
        load4(v, x + i);
        for (int j = 0; j < 4; j++) v[j] = f(v[j]);
        store4(y + i, v);
    } else {
        for (; i < n; i++) store(y + i, f(to_float(x[i])));
    }
}

// dx_i = dy_i slope(x_i), slope = f'.     dy (n,), x (n,) -> dx (n,)
template <float slope(float)>
DEVICE void each_backward(scalar *dx, const scalar *dy, const scalar *x, int n) {
    int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (i + 4 <= n) {
        float v[4], g[4];
        load4(v, x + i);
        load4(g, dy + i);
        for (int j = 0; j < 4; j++) g[j] *= slope(v[j]);
        store4(dx + i, g);
    } else {
        for (; i < n; i++) store(dx + i, to_float(dy[i]) * slope(to_float(x[i])));
    }
}
