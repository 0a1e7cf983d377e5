// Embedding: rows of a table w (V, C), looked up by ids (N,).

#include "common.cuh"

// y_n = w[ids_n].     A block a row.
KERNEL void embedding_forward(scalar *y, const scalar *w, const long long *ids, int C) {
    const scalar *row = w + (size_t)ids[blockIdx.x] * C;
    y += (size_t)blockIdx.x * C;
    for (int c = threadIdx.x; c < C; c += blockDim.x) y[c] = row[c];
}

// dw_v += sum of dy_n over the places n with ids_n = v, without atomics: the same bits each time.
//
// The ids come sorted, order (N,) being the place of each in ids, so that equal ones form a run.
// The sorted list is cut into chunks of CHUNK, a block each, and a run that lies within one chunk
// is summed there. One that does not leaves a part in every chunk that it touches,
//     parts[chunk][0]   of the run that began before the chunk
//     parts[chunk][1]   of the run that begins in the chunk and goes on behind it
// which embedding_backward_join adds up, in order. Rows of dw that no id asked for stay as they
// are.
const int CHUNK = 128;

DEVICE void add(scalar *p, float x) { store(p, to_float(*p) + x); }

KERNEL void embedding_backward(scalar *dw, float *parts, const scalar *dy,
                               const long long *sorted, const long long *order, int N, int C) {
    int chunk = blockIdx.x, c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= C) return;
    int first = chunk * CHUNK, end = min(first + CHUNK, N);
    bool began_before = chunk > 0 && sorted[first - 1] == sorted[first];

    float sum = 0;
    for (int i = first; i < end; i++) {
        sum += to_float(dy[order[i] * C + c]);
        bool goes_on = i + 1 < N && sorted[i + 1] == sorted[i];
        if (goes_on && i + 1 < end) continue;
        if (began_before) {
            parts[((size_t)chunk * 2 + 0) * C + c] = sum;
        } else if (goes_on) {
            parts[((size_t)chunk * 2 + 1) * C + c] = sum;
        } else {
            add(dw + sorted[i] * C + c, sum);
        }
        sum = 0;
        began_before = false;
    }
}

// A block for each chunk: the run that begins in it and goes on, if there is one.
KERNEL void embedding_backward_join(scalar *dw, const float *parts, const long long *sorted, int N,
                                    int C) {
    int chunk = blockIdx.x, c = blockIdx.y * blockDim.x + threadIdx.x;
    int first = chunk * CHUNK, end = first + CHUNK;
    if (c >= C || end >= N || sorted[end - 1] != sorted[end]) return;
    long long id = sorted[end];
    if (sorted[first] == id && chunk > 0 && sorted[first - 1] == id) return;  // began before

    float sum = parts[((size_t)chunk * 2 + 1) * C + c];
    for (; end < N && sorted[end] == id; end += CHUNK) {
        chunk++;
        sum += parts[((size_t)chunk * 2 + 0) * C + c];
    }
    add(dw + id * C + c, sum);
}
