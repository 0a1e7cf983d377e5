// Attention without the matrix of weights: y = softmax(scale q k^T, where allowed) v, tile by tile.
//
// q, y (B, H, T, D), k and v (B, G, S, D), read where they lie: D numbers in a row, and any
// distance between batches, heads and times. y and the gradients are written as (B, T, H, D), the
// gradients perhaps into a wider array, whose times lie `step` numbers apart. Each
// of the G key heads serves R = H / G query heads. Causal: query t sees key s if s <= t + S - T.
// The derivation is in ops/scaled_dot_product_attention.py; the order of work is that of
// FlashAttention-2: Dao 2023, arXiv:2307.08691, algorithms 1 and 2, the second one cut in two (one
// kernel for dk and dv, one for dq) so that no two blocks add to the same place: the same bits in
// every run.
//
// Weights are kept as powers of 2. With l_t = log2 of a row's sum, p_ts = 2^(c q_t . k_s - l_t),
// where c = scale log2(e).
//
// A block has 4 warps and ROWS = 64 rows of its own, 16 to a warp, and walks over tiles of COLUMNS
// rows of the other side; the next tile is on its way while this one is worked on.

#include "tiles.cuh"
#include "philox.cuh"

const int ROWS = 64;
const int COLUMNS = D < 128 ? 64 : 32;  // fewer where the results alone fill the registers
const int THREADS = 128;
const int RUNS = COLUMNS / 16;  // dropout is drawn for runs of 16 keys

// ---- dropout: which of a warp's 16 x COLUMNS weights stay ---------------------------------------

// Each lane draws COLUMNS / 32 runs and hands them to those who need them. `rows` are queries.
// Run u of row r is draw RUNS r + u. element (0, 0) is the number of the first row's first key.
DEVICE void drop_rows_are_queries(float (&p)[COLUMNS / 8][4], Dropout dropout, u64 element, int S,
                                  float scale) {
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    unsigned drawn[COLUMNS / 32];
#pragma unroll
    for (int i = 0; i < COLUMNS / 32; i++) {
        int draw = lane + 32 * i, row = draw / RUNS, run = draw % RUNS;
        drawn[i] = kept_from(dropout, element + (u64)row * S + 16 * run);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
#pragma unroll
        for (int run = 0; run < RUNS; run++) {
            int draw = (g + 8 * r) * RUNS + run;  // in register 8 r RUNS / 32 of its lane
            unsigned kept = __shfl_sync(WHOLE_WARP, drawn[r * RUNS / 4], draw % 32);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int n = 2 * run + i / 2, c = i % 2;
                bool stays = kept >> (i / 2 * 8 + 2 * t + c) & 1;
                p[n][2 * r + c] *= stays ? scale : 0;
            }
        }
    }
}

// The same where rows are keys and columns queries: a run is the 16 keys of one query.
DEVICE void drop_rows_are_keys(float (&p)[COLUMNS / 8][4], Dropout dropout, u64 element, int S,
                               float scale) {
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    unsigned drawn[COLUMNS / 32];
#pragma unroll
    for (int i = 0; i < COLUMNS / 32; i++) {
        drawn[i] = kept_from(dropout, element + (u64)(lane + 32 * i) * S);
    }
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; n++) {
#pragma unroll
        for (int c = 0; c < 2; c++) {
            unsigned kept = __shfl_sync(WHOLE_WARP, drawn[n / 4], (8 * n + 2 * t + c) % 32);
            p[n][c] *= kept >> g & 1 ? scale : 0;
            p[n][c + 2] *= kept >> (g + 8) & 1 ? scale : 0;
        }
    }
}

// Tile j of k and of v (S, D), whose rows lie `step` numbers apart, each into one of two places, in
// turn: the tile before it is still in use.
DEVICE void load_keys(scalar *k_tiles, scalar *v_tiles, const scalar *k, const scalar *v, int j,
                      int S, int step) {
    int place = j % 2 * COLUMNS * D;
    load_tile<COLUMNS>(k_tiles + place, k, j * COLUMNS, S, step);
    load_tile<COLUMNS>(v_tiles + place, v, j * COLUMNS, S, step);
}

// ---- forward ------------------------------------------------------------------------------------

// y (B, T, H, D), l (B, H, T). A block for ROWS queries of a head: grid (ceil(T / ROWS), B H).
KERNEL void __launch_bounds__(THREADS)
attention_forward(scalar *y, float *l, const scalar *q, const scalar *k, const scalar *v, int H,
                  int G, int T, int S, int q_batch, int q_head, int q_time, int k_batch, int k_head,
                  int k_time, int causal, float c, u64 first, const u64 *key,
                  unsigned threshold, float keep_scale) {
    DYNAMIC_SHARED(shared);
    scalar *q_tile = (scalar *)shared;
    scalar *k_tiles = q_tile + ROWS * D, *v_tiles = k_tiles + 2 * COLUMNS * D;  // two of each
    int b = blockIdx.y / H, h = blockIdx.y % H, group = h / (H / G);
    int row0 = (gridDim.x - 1 - blockIdx.x) * ROWS;  // the longest rows first
    int warp_row = threadIdx.x / 32 * 16, lane = threadIdx.x % 32, t = lane % 4;
    int offset = S - T;
    q += (size_t)b * q_batch + h * q_head;
    k += (size_t)b * k_batch + group * k_head;
    v += (size_t)b * k_batch + group * k_head;
    Dropout dropout = {key, threshold};
    u64 element0 = first + ((u64)blockIdx.y * T + row0 + warp_row) * S;

    int seen = causal ? min(max(min(row0 + ROWS, T) + offset, 0), S) : S;  // keys, by any query
    int tiles = (seen + COLUMNS - 1) / COLUMNS;
    load_tile<ROWS>(q_tile, q, row0, T, q_time);
    load_keys(k_tiles, v_tiles, k, v, 0, S, k_time);
    copies_commit();

    float o[D / 8][4] = {};                     // the sum of p v so far
    float sum[2] = {0, 0};                      // of p, in rows g and g + 8: this lane's share
    float largest[2] = {-INFINITY, -INFINITY};  // p is 2^(score - largest)
    for (int j = 0; j < tiles; j++) {
        if (j + 1 < tiles) load_keys(k_tiles, v_tiles, k, v, j + 1, S, k_time);
        copies_commit();
        copies_wait<1>();
        __syncthreads();  // now the tile is there, for every thread

        float p[COLUMNS / 8][4];
        product_nt<COLUMNS>(p, q_tile, warp_row, k_tiles + j % 2 * COLUMNS * D);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int query = row0 + warp_row + lane / 4 + 8 * r;
            int edge = causal ? min(query + offset + 1, S) : S;  // keys from here on are not seen
            edge -= j * COLUMNS;
            float top = largest[r];
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; n++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float &x = p[n][2 * r + i];
                    x = 8 * n + 2 * t + i < edge ? x * c : -INFINITY;
                    top = fmaxf(top, x);
                }
            }
            top = fmaxf(top, __shfl_xor_sync(WHOLE_WARP, top, 1));  // the four lanes of a row
            top = fmaxf(top, __shfl_xor_sync(WHOLE_WARP, top, 2));
            float base = top == -INFINITY ? 0 : top;  // a row that has seen nothing yet
            float shrink = exp2f(largest[r] - base);
            largest[r] = top;
            sum[r] *= shrink;
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; n++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float &x = p[n][2 * r + i];
                    x = exp2f(x - base);
                    sum[r] += x;
                }
            }
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                o[n][2 * r] *= shrink;
                o[n][2 * r + 1] *= shrink;
            }
        }
        if (threshold) drop_rows_are_queries(p, dropout, element0 + j * COLUMNS, S, keep_scale);
        product_nn<COLUMNS>(o, p, v_tiles + j % 2 * COLUMNS * D);
        __syncthreads();  // done with the tile: the next copies may overwrite it
    }
    copies_wait<0>();

    for (int r = 0; r < 2; r++) {
        sum[r] += __shfl_xor_sync(WHOLE_WARP, sum[r], 1);
        sum[r] += __shfl_xor_sync(WHOLE_WARP, sum[r], 2);
        int row = row0 + warp_row + lane / 4 + 8 * r;
        if (t == 0 && row < T) l[(size_t)blockIdx.y * T + row] = largest[r] + log2f(sum[r]);
        if (sum[r] == 0) sum[r] = 1;  // a query that saw nothing: y = 0
    }
    y += ((size_t)b * T * H + h) * D;
    store_rows(y, o, row0 + warp_row, T, H * D, 1 / sum[0], 1 / sum[1]);
}

// ---- backward -----------------------------------------------------------------------------------

// dq = scale ds k, with ds = p ((dy v^T) m - delta), m the mask of dropout, and delta_t = sum over d
// of y_td dy_td, which is left for the other kernel.
// y, dy, dq (B, T, H, D), delta (B, H, T). A block for ROWS queries of a head, as forward.
KERNEL void __launch_bounds__(THREADS)
attention_backward_q(scalar *dq, int step, const scalar *y, const scalar *q, const scalar *k,
                     const scalar *v, const scalar *dy, const float *l, float *delta, int H, int G,
                     int T, int S, int q_batch, int q_head, int q_time, int k_batch, int k_head,
                     int k_time, int causal, float scale, float c, u64 first, const u64 *key,
                     unsigned threshold, float keep_scale) {
    DYNAMIC_SHARED(shared);
    scalar *q_tile = (scalar *)shared, *dy_tile = q_tile + ROWS * D;
    scalar *k_tiles = dy_tile + ROWS * D, *v_tiles = k_tiles + 2 * COLUMNS * D;  // two of each
    int b = blockIdx.y / H, h = blockIdx.y % H, group = h / (H / G);
    int row0 = (gridDim.x - 1 - blockIdx.x) * ROWS;
    int warp_row = threadIdx.x / 32 * 16, lane = threadIdx.x % 32, t = lane % 4;
    int offset = S - T;
    q += (size_t)b * q_batch + h * q_head;
    k += (size_t)b * k_batch + group * k_head;
    v += (size_t)b * k_batch + group * k_head;
    y += ((size_t)b * T * H + h) * D;
    dy += ((size_t)b * T * H + h) * D;
    Dropout dropout = {key, threshold};
    u64 element0 = first + ((u64)blockIdx.y * T + row0 + warp_row) * S;

    int seen = causal ? min(max(min(row0 + ROWS, T) + offset, 0), S) : S;
    int tiles = (seen + COLUMNS - 1) / COLUMNS;
    load_tile<ROWS>(q_tile, q, row0, T, q_time);
    load_tile<ROWS>(dy_tile, dy, row0, T, H * D);
    load_keys(k_tiles, v_tiles, k, v, 0, S, k_time);
    copies_commit();

    float l_q[2], delta_q[2] = {};
    for (int r = 0; r < 2; r++) {
        int row = row0 + warp_row + lane / 4 + 8 * r, near = min(row, T - 1);
        for (int d = 4 * t; d < D; d += 16) {  // the four lanes of a row
            float y4[4], dy4[4];
            load4(y4, y + (size_t)near * H * D + d);
            load4(dy4, dy + (size_t)near * H * D + d);
            for (int i = 0; i < 4; i++) delta_q[r] += y4[i] * dy4[i];
        }
        delta_q[r] += __shfl_xor_sync(WHOLE_WARP, delta_q[r], 1);
        delta_q[r] += __shfl_xor_sync(WHOLE_WARP, delta_q[r], 2);
        l_q[r] = l[(size_t)blockIdx.y * T + near];
        if (t == 0 && row < T) delta[(size_t)blockIdx.y * T + row] = delta_q[r];
    }
    float dq_rows[D / 8][4] = {};
    for (int j = 0; j < tiles; j++) {
        if (j + 1 < tiles) load_keys(k_tiles, v_tiles, k, v, j + 1, S, k_time);
        copies_commit();
        copies_wait<1>();
        __syncthreads();

        const scalar *k_now = k_tiles + j % 2 * COLUMNS * D;
        float p[COLUMNS / 8][4], ds[COLUMNS / 8][4];
        product_nt<COLUMNS>(p, q_tile, warp_row, k_now);
        product_nt<COLUMNS>(ds, dy_tile, warp_row, v_tiles + j % 2 * COLUMNS * D);  // for now dp
        if (threshold) drop_rows_are_queries(ds, dropout, element0 + j * COLUMNS, S, keep_scale);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int query = row0 + warp_row + lane / 4 + 8 * r;
            int edge = causal ? min(query + offset + 1, S) : S;
            edge -= j * COLUMNS;
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; n++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float x = p[n][2 * r + i];
                    float weight = 8 * n + 2 * t + i < edge ? exp2f(x * c - l_q[r]) : 0;
                    ds[n][2 * r + i] = weight * (ds[n][2 * r + i] - delta_q[r]);
                }
            }
        }
        product_nn<COLUMNS>(dq_rows, ds, k_now);
        __syncthreads();
    }
    copies_wait<0>();

    dq += (size_t)b * T * step + h * D;
    store_rows(dq, dq_rows, row0 + warp_row, T, step, scale, scale);
}

// dv = (p m)^T dy and dk = scale ds^T q.
// dk, dv (B, S, G, D), dy (B, T, H, D). A block for ROWS keys of a head: grid (ceil(S / ROWS),
// B G). It walks over the queries, of all query heads that it serves, that may see its first key.
// Rows are keys, columns queries: s^T = k q^T and dp^T = v dy^T.
KERNEL void __launch_bounds__(THREADS, 2)
attention_backward_kv(scalar *dk, scalar *dv, int step, const scalar *q, const scalar *k,
                      const scalar *v, const scalar *dy, const float *l, const float *delta, int H,
                      int G, int T, int S, int q_batch, int q_head, int q_time, int k_batch,
                      int k_head, int k_time, int causal, float scale, float c, u64 first,
                      const u64 *key, unsigned threshold, float keep_scale) {
    DYNAMIC_SHARED(shared);
    scalar *k_tile = (scalar *)shared, *v_tile = k_tile + ROWS * D;
    scalar *q_tiles = v_tile + ROWS * D, *dy_tiles = q_tiles + 2 * COLUMNS * D;  // two of each
    int b = blockIdx.y / G, group = blockIdx.y % G, R = H / G;
    int row0 = blockIdx.x * ROWS;
    int warp_row = threadIdx.x / 32 * 16, lane = threadIdx.x % 32, t = lane % 4;
    int offset = S - T;
    q += (size_t)b * q_batch;
    k += (size_t)b * k_batch + group * k_head;
    v += (size_t)b * k_batch + group * k_head;
    dy += (size_t)b * T * H * D;
    Dropout dropout = {key, threshold};

    int start = causal ? min(max(row0 - offset, 0), T) / COLUMNS : 0;  // the first tile to see us
    int tiles = max((T + COLUMNS - 1) / COLUMNS - start, 0);           // for each of R heads
    load_tile<ROWS>(k_tile, k, row0, S, k_time);
    load_tile<ROWS>(v_tile, v, row0, S, k_time);
    if (tiles > 0) {
        int h = group * R;
        load_tile<COLUMNS>(q_tiles, q + h * q_head, start * COLUMNS, T, q_time);
        load_tile<COLUMNS>(dy_tiles, dy + h * D, start * COLUMNS, T, H * D);
    }
    copies_commit();

    float dk_rows[D / 8][4] = {}, dv_rows[D / 8][4] = {};
    for (int j = 0; j < R * tiles; j++) {
        int h = group * R + j / tiles, column0 = (start + j % tiles) * COLUMNS;
        if (j + 1 < R * tiles) {
            int next = (j + 1) % 2 * COLUMNS * D;
            int next_h = group * R + (j + 1) / tiles, at = (start + (j + 1) % tiles) * COLUMNS;
            load_tile<COLUMNS>(q_tiles + next, q + next_h * q_head, at, T, q_time);
            load_tile<COLUMNS>(dy_tiles + next, dy + next_h * D, at, T, H * D);
        }
        copies_commit();
        copies_wait<1>();
        __syncthreads();

        const scalar *q_now = q_tiles + j % 2 * COLUMNS * D;
        const scalar *dy_now = dy_tiles + j % 2 * COLUMNS * D;
        const float *l_now = l + ((size_t)b * H + h) * T + column0;
        const float *delta_now = delta + ((size_t)b * H + h) * T + column0;
        float p[COLUMNS / 8][4], ds[COLUMNS / 8][4];
        product_nt<COLUMNS>(p, k_tile, warp_row, q_now);
        product_nt<COLUMNS>(ds, v_tile, warp_row, dy_now);  // for now dp
        u64 element = first + (((u64)b * H + h) * T + column0) * S + row0 + warp_row;
        if (threshold) drop_rows_are_keys(ds, dropout, element, S, keep_scale);
#pragma unroll
        for (int n = 0; n < COLUMNS / 8; n++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int column = 8 * n + 2 * t + i, query = column0 + column;
                float l_q = query < T ? l_now[column] : INFINITY;  // then p is 0
                float delta_q = query < T ? delta_now[column] : 0;
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    int key = row0 + warp_row + lane / 4 + 8 * r;
                    bool allowed = !causal || key <= query + offset;
                    float &x = p[n][2 * r + i], &y = ds[n][2 * r + i];
                    x = allowed ? exp2f(x * c - l_q) : 0;
                    y = x * (y - delta_q);
                }
            }
        }
        if (threshold) drop_rows_are_keys(p, dropout, element, S, keep_scale);
        product_nn<COLUMNS>(dv_rows, p, dy_now);
        product_nn<COLUMNS>(dk_rows, ds, q_now);
        __syncthreads();
    }
    copies_wait<0>();

    dk += (size_t)b * S * step + group * D;
    dv += (size_t)b * S * step + group * D;
    store_rows(dk, dk_rows, row0 + warp_row, S, step, scale, scale);
    store_rows(dv, dv_rows, row0 + warp_row, S, step, 1, 1);
}
