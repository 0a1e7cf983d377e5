// Runs CUDA kernels on a CPU: a fibre for each thread, one block at a time.
//
// Barriers, shuffles, tensor-core products and asynchronous copies do what they do on a GPU. In
// between, threads run in an order that a seed chooses, so that what a GPU would do only now and
// then, where a barrier is missing, happens here in some order for certain:
//     order 0     warps, lanes and blocks take turns from first to last
//     order 1     from last to first
//     others      at random: a warp runs as far as it can before another one does
// In even orders an asynchronous copy lands as late as it may, in odd ones at once. Shared memory
// begins as NaN in every block.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#define EMULATED
#define KERNEL static
#define DEVICE static inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("gpu_shared")))
#define DYNAMIC_SHARED(name) unsigned char *name = gpu::dynamic_shared

extern char __start_gpu_shared[] __attribute__((weak)), __stop_gpu_shared[] __attribute__((weak));

struct Index { unsigned x, y, z; };
static Index threadIdx, blockIdx, blockDim, gridDim;

namespace gpu {

// ---- fibres -------------------------------------------------------------------------------------

enum State { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, FINISHED };
enum Place { BARRIER, SHUFFLE, MATRIX };  // which instruction a warp meets at

struct Fibre {
    ucontext_t start;
    jmp_buf here;
    bool started;
    State state;
    Place place;
    unsigned mask;
    int round;  // exchanges so far: even and odd ones use different slots
    std::vector<char> stack;
};

struct Copy { void *to; const void *from; };

const int MOST = 1024;
static std::vector<Fibre> fibres(MOST);
static std::vector<std::vector<Copy>> copies[MOST];  // by thread: groups, the last one still open
static jmp_buf scheduler;
static int current, order;
static int bug = -1;  // the planted bug that is to show, if any
static std::string error;
static void (*body)();
alignas(1024) static unsigned char dynamic_shared[228 << 10];
static unsigned char slots[2][MOST][64];

// Stop this thread until the scheduler wakes it. (setjmp, as it makes no system calls.)
static void wait(State state, unsigned mask = 0, Place place = BARRIER) {
    Fibre &fibre = fibres[current];
    fibre.state = state, fibre.mask = mask, fibre.place = place;
    if (!_setjmp(fibre.here)) _longjmp(scheduler, 1);
}

static void run_forever() {  // a fibre serves one block after the other
    for (;;) {
        body();
        wait(FINISHED);
    }
}

static void resume(int i) {
    current = i;
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    if (_setjmp(scheduler)) return;
    Fibre &fibre = fibres[i];
    if (fibre.started) _longjmp(fibre.here, 1);
    fibre.started = true;
    fibre.stack.resize(128 << 10);
    getcontext(&fibre.start);
    fibre.start.uc_stack.ss_sp = fibre.stack.data();
    fibre.start.uc_stack.ss_size = fibre.stack.size();
    makecontext(&fibre.start, run_forever, 0);
    setcontext(&fibre.start);
}

// Opens the barriers of a warp at which all of its lanes that are meant have arrived.
static bool open_warp(int first, int threads) {
    int lanes = std::min(32, threads - first);
    unsigned all = lanes == 32 ? ~0u : (1u << lanes) - 1, waiting = 0;
    for (int l = 0; l < lanes; l++) {
        if (fibres[first + l].state == AT_WARP_BARRIER) waiting |= 1u << l;
    }
    bool opened = false;
    for (int l = 0; l < lanes; l++) {
        unsigned mask = fibres[first + l].mask & all;
        if (!(waiting >> l & 1) || (waiting & mask) != mask) continue;
        for (int k = 0; k < lanes; k++) {
            if (!(mask >> k & 1)) continue;
            if (fibres[first + k].place != fibres[first + l].place) {
                error = "lanes of a warp meet at different instructions";
            }
            fibres[first + k].state = READY;
        }
        waiting &= ~mask;
        opened = true;
    }
    return opened;
}

static bool run_block(int threads, std::mt19937 &rng) {
    for (int i = 0; i < threads; i++) {
        fibres[i].state = READY, fibres[i].round = 0;
        copies[i].assign(1, {});
    }
    memset(__start_gpu_shared, 0xff, __stop_gpu_shared - __start_gpu_shared);
    std::vector<int> warps, lanes(32);
    for (int w = 0; w < threads; w += 32) warps.push_back(w);
    for (int l = 0; l < 32; l++) lanes[l] = l;
    if (order == 1) {
        std::reverse(warps.begin(), warps.end());
        std::reverse(lanes.begin(), lanes.end());
    }
    for (;;) {
        bool moved = false;
        if (order > 1) {
            std::shuffle(warps.begin(), warps.end(), rng);
            std::shuffle(lanes.begin(), lanes.end(), rng);
        }
        for (int w : warps) {
            bool again = true;
            while (again) {
                again = false;
                for (int l : lanes) {
                    if (w + l < threads && fibres[w + l].state == READY) {
                        resume(w + l);
                        again = true;
                    }
                }
                again |= open_warp(w, threads);
                moved |= again;
                again &= order > 1;
            }
        }
        int live = 0, blocked = 0;
        for (int i = 0; i < threads; i++) {
            live += fibres[i].state != FINISHED;
            blocked += fibres[i].state == AT_BLOCK_BARRIER;
        }
        if (live == 0 || !error.empty()) return error.empty();
        if (blocked == live) {
            for (int i = 0; i < threads; i++) {
                if (fibres[i].state == AT_BLOCK_BARRIER) fibres[i].state = READY;
            }
        } else if (!moved) {
            error = "deadlock: threads wait at different barriers";
            return false;
        }
    }
}

// ---- launching ----------------------------------------------------------------------------------

static void **arguments;

template <auto kernel> struct Kernel;

template <class... A, void (*kernel)(A...)> struct Kernel<kernel> {
    template <size_t... i> static void call(std::index_sequence<i...>) {
        kernel(*(A *)arguments[i]...);
    }
    static void run() { call(std::index_sequence_for<A...>{}); }

    // A letter for each parameter: P p for pointers to numbers of 4 and 2 bytes, L to others; f i l
    // for float, int and what has 8 bytes.
    template <class T> static char letter() {
        if constexpr (std::is_pointer_v<T>) {
            size_t size = sizeof(std::remove_pointer_t<T>);
            return size == 4 ? 'P' : size == 2 ? 'p' : 'L';
        }
        return std::is_floating_point_v<T> ? 'f' : sizeof(T) == 4 ? 'i' : 'l';
    }

    static const char *signature() {
        static const char letters[] = {letter<A>()..., 0};
        return letters;
    }

    static const char *launch(const unsigned *g, const unsigned *b, void **args, unsigned shared,
                              int seed) {
        gridDim = {g[0], g[1], g[2]}, blockDim = {b[0], b[1], b[2]};
        int threads = b[0] * b[1] * b[2];
        if (threads > MOST) return "more than 1024 threads in a block";
        if (shared > sizeof dynamic_shared) return "more shared memory than there is";
        body = run, arguments = args, order = seed, error.clear();
        std::vector<Index> blocks;
        for (unsigned z = 0; z < g[2]; z++)
            for (unsigned y = 0; y < g[1]; y++)
                for (unsigned x = 0; x < g[0]; x++) blocks.push_back({x, y, z});
        std::mt19937 rng(seed);
        if (order == 1) std::reverse(blocks.begin(), blocks.end());
        if (order > 1) std::shuffle(blocks.begin(), blocks.end(), rng);
        for (Index block : blocks) {
            blockIdx = block;
            memset(dynamic_shared, 0xff, shared);
            if (!run_block(threads, rng)) {
                for (Fibre &fibre : fibres) fibre.started = false;  // they stopped half way
                return error.c_str();
            }
        }
        return nullptr;
    }
};

#define EXPORT(space, kernel)                                                                      \
    extern "C" const char *space##__##kernel(const unsigned *g, const unsigned *b, void **a,       \
                                             unsigned shared, int order) {                         \
        return gpu::Kernel<space::kernel>::launch(g, b, a, shared, order);                         \
    }                                                                                              \
    extern "C" const char *signature__##space##__##kernel() {                                      \
        return gpu::Kernel<space::kernel>::signature();                                            \
    }

extern "C" void set_bug(int number) { bug = number; }

// ---- exchanges within a warp --------------------------------------------------------------------

static int lane() { return current % 32; }

// Everyone puts a value down, waits for the others, and may then look at theirs. Two sets of slots
// in turn: who writes to a set again has met all others since, and they have read it.
template <class T> struct Exchange {
    int set;
    Exchange(const T &value, unsigned mask, Place place) {
        set = fibres[current].round++ % 2;
        memcpy(slots[set][current], &value, sizeof value);
        wait(AT_WARP_BARRIER, mask, place);
    }
    T of(int lane) const {
        T value;
        memcpy(&value, slots[set][current / 32 * 32 + lane], sizeof value);
        return value;
    }
};

}  // namespace gpu

static inline void __syncthreads() { gpu::wait(gpu::AT_BLOCK_BARRIER); }
static inline void __syncwarp(unsigned mask = ~0u) { gpu::wait(gpu::AT_WARP_BARRIER, mask); }

template <class T> static inline T __shfl_sync(unsigned mask, T value, int lane) {
    return gpu::Exchange<T>(value, mask, gpu::SHUFFLE).of(lane % 32);
}

template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int bits) {
    return __shfl_sync(mask, value, gpu::lane() ^ bits);
}

static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}

static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

using std::max;
using std::min;

// ---- the functions of ptx.cuh -------------------------------------------------------------------

static inline unsigned short bf16_bits(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    if (x != x) return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static inline unsigned bf16_pair(float first, float second) {
    return bf16_bits(first) | (unsigned)bf16_bits(second) << 16;
}

static inline float bf16_to_float(unsigned short bits) {
    return __uint_as_float((unsigned)bits << 16);
}

static inline unsigned short f16_bits(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    unsigned sign = bits >> 16 & 0x8000;
    float size = std::fabs(x);
    if (x != x) return 0x7fff;
    if (size >= 65520) return sign | 0x7c00;  // half way beyond the largest: infinity
    if (size < 0x1p-14f) return sign | (unsigned)std::nearbyint(size * 0x1p24f);  // subnormal
    return sign | ((bits & 0x7fffffff) + 0xfff + (bits >> 13 & 1) - (112u << 23)) >> 13;
}

static inline unsigned f16_pair(float first, float second) {
    return f16_bits(first) | (unsigned)f16_bits(second) << 16;
}

static inline float f16_to_float(unsigned short bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float size = exponent == 0 ? std::ldexp((float)fraction, -24)
                 : exponent < 31 ? std::ldexp((float)(fraction + 1024), exponent - 25)
                 : fraction ? NAN : INFINITY;
    return bits >> 15 ? -size : size;
}

static inline void ldmatrix(unsigned (&r)[4], const void *row, bool transposed) {
    if ((uintptr_t)row % 16) gpu::error = "ldmatrix wants rows at multiples of 16 bytes";
    gpu::Exchange<const char *> rows((const char *)row, ~0u, gpu::MATRIX);
    int g = gpu::lane() / 4, t = gpu::lane() % 4;
    for (int m = 0; m < 4; m++) {
        uint16_t pair[2];
        for (int i = 0; i < 2; i++) {
            const char *from = transposed ? rows.of(8 * m + 2 * t + i) + 2 * g
                                          : rows.of(8 * m + g) + 2 * (2 * t + i);
            memcpy(&pair[i], from, 2);
        }
        memcpy(&r[m], pair, 4);
    }
}

static inline void ldmatrix4(unsigned (&r)[4], const void *row) { ldmatrix(r, row, false); }

static inline void ldmatrix4_transposed(unsigned (&r)[4], const void *row) {
    ldmatrix(r, row, true);
}

static inline void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                       float to_float(unsigned short)) {
    struct Operands { unsigned a[4], b[2]; };
    gpu::Exchange<Operands> warp({{a[0], a[1], a[2], a[3]}, {b0, b1}}, ~0u, gpu::MATRIX);
    int g = gpu::lane() / 4, t = gpu::lane() % 4;
    auto half = [&](unsigned pair, int i) { return to_float(i ? pair >> 16 : pair & 0xffff); };
    for (int quarter = 0; quarter < 4; quarter++) {  // what one lane in four holds of the sum
        Operands rows = warp.of(4 * g + quarter);
        for (int i = 0; i < 2; i++) {
            Operands columns = warp.of(4 * (2 * t + i) + quarter);
            for (int k = 0; k < 2; k++) {
                for (int later = 0; later < 2; later++) {
                    float b = half(columns.b[later], k);
                    c[i] += half(rows.a[2 * later], k) * b;
                    c[2 + i] += half(rows.a[2 * later + 1], k) * b;
                }
            }
        }
    }
}

static inline void bf16_mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    mma(c, a, b0, b1, bf16_to_float);
}

static inline void f16_mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    mma(c, a, b0, b1, f16_to_float);
}

static inline void copy16(void *to, const void *from) {
    if (((uintptr_t)to | (uintptr_t)from) % 16) gpu::error = "copy16 wants multiples of 16 bytes";
    if (gpu::order % 2) {
        memcpy(to, from, 16);
    } else {
        gpu::copies[gpu::current].back().push_back({to, from});
    }
}

static inline void copies_commit() { gpu::copies[gpu::current].emplace_back(); }

template <int n> static inline void copies_wait() {
    auto &groups = gpu::copies[gpu::current];
    while ((int)groups.size() > n + 1) {
        for (gpu::Copy &copy : groups.front()) memcpy(copy.to, copy.from, 16);
        groups.erase(groups.begin());
    }
}
