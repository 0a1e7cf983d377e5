// Cross-entropy and its gradient in one pass over the logits, which may be overwritten.

#include "common.cuh"

// Both the largest of a set of numbers, and the sum of e^(number - largest) over it.
struct Softmax {
    float largest, sum;
};

DEVICE Softmax join(Softmax a, Softmax b) {
    float largest = fmaxf(a.largest, b.largest);
    if (largest == -INFINITY) return a;  // neither has seen a number yet
    float sum = a.sum * expf(a.largest - largest) + b.sum * expf(b.largest - largest);
    return {largest, sum};
}

// Numbers j .. j + 3 of a row of V, with -infinity for those behind its end. even: rows begin at
// multiples of four numbers.
DEVICE void get4(float (&z)[4], const scalar *row, int j, int V, bool even) {
    if (even && j + 4 <= V) return load4(z, row + j);
    for (int i = 0; i < 4; i++) z[i] = j + i < V ? to_float(row[j + i]) : -INFINITY;
}

DEVICE void put4(scalar *row, const float (&z)[4], int j, int V, bool even) {
    if (even && j + 4 <= V) return store4(row + j, z);
    for (int i = 0; i < 4 && j + i < V; i++) store(row + j + i, z[i]);
}

// With p = softmax(logits), for a row whose target counts:
//     losses = log sum_j e^(z_j) - z_target
//     dlogits = p - one_hot(target)
// and 0 for both where the target is ignore_index. What is missing is dloss / n.
//
// logits (N, V), targets (N,) -> losses (N,), dlogits (N, V), which may be the logits themselves.
// Rows of both begin `step` numbers apart. A block a row; at most 1024 threads, four numbers to a
// thread at a time. keeps: there is shared memory for a row, so that it is read once.
KERNEL void __launch_bounds__(1024, 2)
cross_entropy(scalar *dlogits, float *losses, const scalar *logits, const long long *targets,
              long long ignore_index, int V, int step, int keeps) {
    DYNAMIC_SHARED(shared);
    __shared__ Softmax warps[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, stride = 4 * blockDim.x;
    bool even = step % 4 == 0;
    long long target = targets[blockIdx.x];
    logits += (size_t)blockIdx.x * step;
    dlogits += (size_t)blockIdx.x * step;

    if (target == ignore_index) {
        float zeros[4] = {};
        for (int j = 4 * threadIdx.x; j < V; j += stride) put4(dlogits, zeros, j, V, even);
        if (threadIdx.x == 0) losses[blockIdx.x] = 0;
        return;
    }

    float z[4];
    scalar *kept = (scalar *)shared;
    Softmax row = {-INFINITY, 0};
    for (int j = 4 * threadIdx.x; j < V; j += stride) {
        get4(z, logits, j, V, even);
        if (keeps) put4(kept, z, j, V, true);
        float largest = fmaxf(fmaxf(z[0], z[1]), fmaxf(z[2], z[3]));
        if (largest == -INFINITY) continue;
        float sum = 0;
        for (int i = 0; i < 4; i++) sum += expf(z[i] - largest);
        row = join(row, {largest, sum});
    }
    for (int o = 16; o > 0; o /= 2) {
        Softmax other = {__shfl_xor_sync(WHOLE_WARP, row.largest, o),
                         __shfl_xor_sync(WHOLE_WARP, row.sum, o)};
        row = join(row, other);
    }
    if (lane == 0) warps[warp] = row;
    float z_target = to_float(logits[target]);
    __syncthreads();  // from here on the logits may be overwritten

    row = warps[0];
    for (int i = 1; i < blockDim.x / 32; i++) row = join(row, warps[i]);
    for (int j = 4 * threadIdx.x; j < V; j += stride) {  // a thread reads what it kept itself
        get4(z, keeps ? kept : logits, j, V, keeps || even);
        for (int i = 0; i < 4; i++) {
            float p = expf(z[i] - row.largest) / row.sum;
            z[i] = j + i == target ? p - 1 : p;
        }
        put4(dlogits, z, j, V, even);
    }
    if (threadIdx.x == 0) losses[blockIdx.x] = logf(row.sum) + row.largest - z_target;
}

// n = how many of the N targets count, at least 1, and the mean of their losses.
//
// losses, targets (N,) -> mean: the mean, and n. One block of 1024 threads.
KERNEL void __launch_bounds__(1024)
mean_loss(float *mean, const float *losses, const long long *targets, long long ignore_index,
          int N) {
    __shared__ float sums[32], counts[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;

    float sum = 0, count = 0;  // of a thread's share, which has far fewer than 2^24
    for (int i = threadIdx.x; i < N; i += blockDim.x) {
        sum += losses[i];
        count += targets[i] != ignore_index;
    }
    sum = warp_sum(sum);
    count = warp_sum(count);
    if (lane == 0) sums[warp] = sum, counts[warp] = count;
    __syncthreads();

    if (threadIdx.x == 0) {
        sum = count = 0;
        for (int i = 0; i < 32; i++) {
            sum += sums[i];
            count += counts[i];
        }
        count = fmaxf(count, 1);
        mean[0] = sum / count;
        mean[1] = count;
    }
}
