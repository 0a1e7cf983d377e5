// What every kernel starts from: how numbers are stored, and how a warp adds them up.
//
// scalar is float, bf16 or f16, chosen when a file is compiled: the type in which activations and
// weights are stored. result is that of what goes on to the products: scalar, or a shorter one. All
// arithmetic is in float. Kernels that read activations four at a time want them aligned to four,
// which whoever launches them sees to.

#include "ptx.cuh"

struct bf16 {
    unsigned short bits;  // the upper half of a float
};

struct f16 {
    unsigned short bits;  // IEEE 754's binary16: more fraction, and nothing above 65504
};

DEVICE float to_float(float x) { return x; }

DEVICE float to_float(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }

DEVICE float to_float(f16 x) { return f16_to_float(x.bits); }

DEVICE void store(float *p, float x) { *p = x; }

DEVICE void store(bf16 *p, float x) { p->bits = bf16_bits(x); }

DEVICE void store(f16 *p, float x) { p->bits = f16_bits(x); }

template <typename T>
struct __align__(4 * sizeof(T)) Four {
    T v[4];
};

template <typename T>
DEVICE void load4(float (&x)[4], const T *p) {
    Four<T> four = *(const Four<T> *)p;
    for (int i = 0; i < 4; i++) x[i] = to_float(four.v[i]);
}

template <typename T>
DEVICE void store4(T *p, const float (&x)[4]) {
    Four<T> four;
    for (int i = 0; i < 4; i++) store(&four.v[i], x[i]);
    *(Four<T> *)p = four;
}

// x += the four numbers at p.
template <typename T>
DEVICE void add4(float (&x)[4], const T *p) {
    float more[4];
    load4(more, p);
    for (int i = 0; i < 4; i++) x[i] += more[i];
}

// The four numbers at p += x.
DEVICE void add_to4(float *p, const float (&x)[4]) {
    float sum[4];
    load4(sum, p);
    for (int i = 0; i < 4; i++) sum[i] += x[i];
    store4(p, sum);
}

const unsigned WHOLE_WARP = 0xffffffffu;

// The sum over a warp, in every lane. A butterfly: always the same order, so always the same bits.
DEVICE float warp_sum(float x) {
    for (int o = 16; o > 0; o /= 2) x += __shfl_xor_sync(WHOLE_WARP, x, o);
    return x;
}
