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

// With p = softmax(logits), for a row whose target counts:
//     losses = log sum_j e^(z_j) - z_target
//     dlogits = p - one_hot(target)
// and 0 for both where the target is ignore_index. What is missing is dloss / n.
//
// logits (N, V), targets (N,) -> losses (N,), dlogits (N, V), which may be the logits themselves.
// Rows of both begin `step` numbers apart. A block a row; at most 1024 threads.
KERNEL void cross_entropy(scalar *dlogits, float *losses, const scalar *logits,
                          const long long *targets, long long ignore_index, int V, int step) {
    __shared__ Softmax warps[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    long long target = targets[blockIdx.x];
    logits += (size_t)blockIdx.x * step;
    dlogits += (size_t)blockIdx.x * step;

    if (target == ignore_index) {
        for (int j = threadIdx.x; j < V; j += blockDim.x) store(dlogits + j, 0);
        if (threadIdx.x == 0) losses[blockIdx.x] = 0;
        return;
    }

    Softmax row = {-INFINITY, 0};
    for (int j = threadIdx.x; j < V; j += blockDim.x) row = join(row, {to_float(logits[j]), 1});
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
    for (int j = threadIdx.x; j < V; j += blockDim.x) {
        float p = expf(to_float(logits[j]) - row.largest) / row.sum;
        store(dlogits + j, j == target ? p - 1 : p);
    }
    if (threadIdx.x == 0) losses[blockIdx.x] = logf(row.sum) + row.largest - z_target;
}

// n = how many of the N targets count, at least 1, and the mean of their losses.
//
// losses, targets (N,) -> mean: the mean, and n. One block of 1024 threads.
KERNEL void mean_loss(float *mean, const float *losses, const long long *targets,
                      long long ignore_index, int N) {
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
