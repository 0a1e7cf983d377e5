// Products of tiles: rows of D numbers in shared memory, 16 rows of the result to a warp.
//
// A warp holds a result of 16 rows and COLUMNS columns as float s[COLUMNS / 8][4]. With
// g = lane / 4 and t = lane % 4, a lane has of each 8 columns, from 8 n on,
//     s[n][0], s[n][1]:   row g,      columns 8 n + 2 t and the next
//     s[n][2], s[n][3]:   row g + 8,  the same columns
// This is how the tensor cores have it (see bf16_mma in ptx.cuh). For bf16 and f16 they do the work;
// for float, where they would round, each lane computes its own elements.
//
// D is set when a file is compiled: 32, 64 or 128.

#include "common.cuh"

const int CHUNK = 16 / sizeof(scalar);    // numbers in 16 bytes, the unit in which tiles are copied
const int CHUNKS = D / CHUNK;             // of them in a row

// Where chunk `chunk` of row `row` lies. In a plain layout, the 8 rows that are read at once would
// meet in the same banks of shared memory; so the chunks of a row change places, by its number.
template <typename T>
DEVICE T *tile_at(T *tile, int row, int chunk) {
    int turn = CHUNKS >= 8 ? row % 8 : row / (8 / CHUNKS) % CHUNKS;
    return tile + (row * CHUNKS + (chunk ^ turn)) * CHUNK;
}

// Rows first .. first + ROWS - 1 of x (n, D), `stride` numbers apart, into a tile. They are there
// when the copies have been waited for. Behind the last row comes the last row again.
template <int ROWS>
DEVICE void load_tile(scalar *tile, const scalar *x, int first, int n, int stride) {
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += blockDim.x) {
        int row = i / CHUNKS, chunk = i % CHUNKS;
        const scalar *from = x + (size_t)min(first + row, n - 1) * stride + chunk * CHUNK;
        copy16(tile_at(tile, row, chunk), from);
    }
}

// What tensor cores work on: scalar, if it has 16 bits.
template <typename T> struct Half { typedef T type; };
template <> struct Half<float> { typedef bf16 type; };
typedef Half<scalar>::type half;

DEVICE void mma(bf16, float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    bf16_mma(c, a, b0, b1);
}

DEVICE void mma(f16, float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    f16_mma(c, a, b0, b1);
}

DEVICE unsigned pair(bf16, float first, float second) { return bf16_pair(first, second); }

DEVICE unsigned pair(f16, float first, float second) { return f16_pair(first, second); }

// s = a b^T.     a (16, D): rows row0 .. row0 + 15 of a tile; b (COLUMNS, D): a tile.
template <int COLUMNS>
DEVICE void product_nt(float (&s)[COLUMNS / 8][4], const half *a, int row0, const half *b) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; n++) {
        for (int i = 0; i < 4; i++) s[n][i] = 0;
    }
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        unsigned x[4];
        ldmatrix4(x, tile_at(a, row0 + lane % 16, 2 * k + lane / 16));
#pragma unroll
        for (int n = 0; n < COLUMNS / 16; n++) {
            unsigned y[4];
            int row = 16 * n + lane % 8 + lane / 16 * 8;
            ldmatrix4(y, tile_at(b, row, 2 * k + lane / 8 % 2));
            mma(half(), s[2 * n], x, y[0], y[1]);
            mma(half(), s[2 * n + 1], x, y[2], y[3]);
        }
    }
}

template <int COLUMNS>
DEVICE void product_nt(float (&s)[COLUMNS / 8][4], const float *a, int row0, const float *b) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; n++) {
        for (int i = 0; i < 4; i++) s[n][i] = 0;
    }
#pragma unroll 1
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        const float *a0 = tile_at(a, row0 + g, chunk), *a1 = tile_at(a, row0 + g + 8, chunk);
#pragma unroll
        for (int n = 0; n < COLUMNS / 8; n++) {
#pragma unroll
            for (int c = 0; c < 2; c++) {
                const float *y = tile_at(b, 8 * n + 2 * t + c, chunk);
#pragma unroll
                for (int i = 0; i < CHUNK; i++) {
                    s[n][c] += a0[i] * y[i];
                    s[n][c + 2] += a1[i] * y[i];
                }
            }
        }
    }
}

// o += p b.     p (16, ROWS), o (16, D): results as above; b (ROWS, D): a tile.
template <int ROWS>
DEVICE void product_nn(float (&o)[D / 8][4], const float (&p)[ROWS / 8][4], const half *b) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < ROWS / 16; k++) {
        unsigned x[4] = {  // a lane has just the elements of p that mma wants of it
            pair(half(), p[2 * k][0], p[2 * k][1]),
            pair(half(), p[2 * k][2], p[2 * k][3]),
            pair(half(), p[2 * k + 1][0], p[2 * k + 1][1]),
            pair(half(), p[2 * k + 1][2], p[2 * k + 1][3]),
        };
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            unsigned y[4];
            ldmatrix4_transposed(y, tile_at(b, 16 * k + lane % 16, 2 * n + lane / 16));
            mma(half(), o[2 * n], x, y[0], y[1]);
            mma(half(), o[2 * n + 1], x, y[2], y[3]);
        }
    }
}

template <int ROWS>
DEVICE void product_nn(float (&o)[D / 8][4], const float (&p)[ROWS / 8][4], const float *b) {
    int lane = threadIdx.x % 32, t = lane % 4;
#pragma unroll
    for (int k = 0; k < ROWS / 8; k++) {
#pragma unroll 1
        for (int column = 0; column < 8; column++) {
            int c = column % 2, owner = lane - t + column / 2;  // the lane that has it, as its c-th
            float p0 = __shfl_sync(WHOLE_WARP, c == 0 ? p[k][0] : p[k][1], owner);
            float p1 = __shfl_sync(WHOLE_WARP, c == 0 ? p[k][2] : p[k][3], owner);
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                const float *y = tile_at(b, 8 * k + column, 2 * n + t / 2) + 2 * (t % 2);
                o[n][0] += p0 * y[0];
                o[n][1] += p0 * y[1];
                o[n][2] += p1 * y[0];
                o[n][3] += p1 * y[1];
            }
        }
    }
}

// y_r = scale_r o_r for the rows from row0 on, those below n, `stride` numbers apart.
DEVICE void store_rows(scalar *y, const float (&o)[D / 8][4], int row0, int n, int stride,
                       float scale0, float scale1) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = row0 + g + 8 * r;
        if (row >= n) continue;
        float scale = r == 0 ? scale0 : scale1;
#pragma unroll
        for (int c = 0; c < D / 8; c++) {
            scalar *at = y + (size_t)row * stride + 8 * c + 2 * t;
            store(at, o[c][2 * r] * scale);
            store(at + 1, o[c][2 * r + 1] * scale);
        }
    }
}
