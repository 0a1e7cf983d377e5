// Other activations. The derivations are in ops/pointwise.py.
//
// x (n,) -> y (n,); on the way back dy (n,) -> dx (n,).

#include "elementwise.cuh"

// y = max(x, 0);  y' = 1 where x > 0
DEVICE float relu(float x) { return fmaxf(x, 0); }

DEVICE float relu_slope(float x) { return x > 0 ? 1 : 0; }

// y = max(x, 0)^2;  y' = 2 max(x, 0)
DEVICE float relu2(float x) { return fmaxf(x, 0) * fmaxf(x, 0); }

DEVICE float relu2_slope(float x) { return 2 * fmaxf(x, 0); }

// y = x s, s = 1 / (1 + e^-x);  y' = s + y (1 - s)
DEVICE float silu(float x) { return x / (1 + expf(-x)); }

DEVICE float silu_slope(float x) {
    float s = 1 / (1 + expf(-x));
    return s + x * s * (1 - s);
}

KERNEL void relu_forward(scalar *y, const scalar *x, int n) { each<relu>(y, x, n); }

KERNEL void relu_backward(scalar *dx, const scalar *dy, const scalar *x, int n) {
    each_backward<relu_slope>(dx, dy, x, n);
}

KERNEL void relu2_forward(scalar *y, const scalar *x, int n) { each<relu2>(y, x, n); }

KERNEL void relu2_backward(scalar *dx, const scalar *dy, const scalar *x, int n) {
    each_backward<relu2_slope>(dx, dy, x, n);
}

KERNEL void silu_forward(scalar *y, const scalar *x, int n) { each<silu>(y, x, n); }

KERNEL void silu_backward(scalar *dx, const scalar *dy, const scalar *x, int n) {
    each_backward<silu_slope>(dx, dy, x, n);
}
