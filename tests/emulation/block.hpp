// CUDA's words for a block of threads, as C++: each thread is a context of its own, and at a barrier
// it lets the others run. A kernel is launched by its name with the addresses of its arguments.
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>
#include <vector>

using std::isfinite;
using std::isinf;
using std::max;
using std::min;

#define __global__
#define __device__
#define __launch_bounds__(threads)
#define __shared__ static

struct Index { unsigned x, y; };
static Index blockIdx, blockDim;

// A block or a warp: how many of its threads are alive, how many wait, and how often all have come.
struct Group {
    unsigned alive, waiting;
    unsigned long round;

    void release() {
        if (waiting && waiting == alive) {
            waiting = 0;
            round++;
        }
    }
};

struct Thread {
    ucontext_t context;
    jmp_buf place; // where it goes on: a jump, unlike a switch of contexts, asks nothing of the kernel
    std::vector<char> stack;
    bool begun, done;
    uint64_t word; // what it says to its warp
};
static std::vector<Thread> threads;
static Group block, warps[32];
static jmp_buf turn;
static unsigned current;
static std::function<void()> body;

static struct {
    struct {
        operator unsigned() const { return current; }
    } x;
} threadIdx;

static void yield() {
    if (!_setjmp(threads[current].place)) _longjmp(turn, 1);
}

static void wait_for(Group& group) {
    const unsigned long round = group.round;
    group.waiting++;
    group.release();
    while (group.round == round) yield();
}

static unsigned warp_start() { return current / 32 * 32; }
static unsigned warp_stop() { return min(warp_start() + 32, (unsigned)threads.size()); }

static void __syncthreads() { wait_for(block); }
static void __syncwarp(unsigned) { wait_for(warps[current / 32]); }

template <typename F> static auto exchange(uint64_t word, F look) {
    threads[current].word = word;
    __syncwarp(0);
    auto seen = look();
    __syncwarp(0);
    return seen;
}

static unsigned __ballot_sync(unsigned, bool mine) {
    return exchange(mine, [] {
        unsigned votes = 0;
        for (unsigned t = warp_start(); t < warp_stop(); t++) {
            if (!threads[t].done && threads[t].word) votes |= 1u << (t - warp_start());
        }
        return votes;
    });
}

static bool __any_sync(unsigned every, bool mine) { return __ballot_sync(every, mine) != 0; }

template <typename T> static T __shfl_sync(unsigned, T mine, int from) {
    uint64_t word = 0;
    std::memcpy(&word, &mine, sizeof(T));
    return exchange(word, [from] {
        T theirs;
        std::memcpy(&theirs, &threads[warp_start() + from].word, sizeof(T));
        return theirs;
    });
}

static int __popc(unsigned x) { return __builtin_popcount(x); }
static int __ffs(unsigned x) { return __builtin_ffs(x); }
static double __dadd_rn(double a, double b) { return a + b; }
static double __dmul_rn(double a, double b) { return a * b; }

template <typename T, typename U> static T atomicAdd(T* at, U more) {
    T before = *at;
    *at = before + (T)more;
    return before;
}
template <typename T> static T atomicMax(T* at, T other) {
    T before = *at;
    *at = max(before, other);
    return before;
}

extern "C" { extern unsigned own[]; }

static void begin() {
    body();
    threads[current].done = true;
    for (Group* group : {&block, &warps[current / 32]}) {
        group->alive--;
        group->release();
    }
    _longjmp(turn, 1);
}

static void go_on(Thread& thread) {
    if (_setjmp(turn)) return;
    if (thread.begun) _longjmp(thread.place, 1);
    thread.begun = true;
    setcontext(&thread.context);
}

template <typename... A, size_t... I>
static void run(void (*kernel)(A...), void** given, std::index_sequence<I...>, const unsigned* shape) {
    std::tuple<A...> arguments{*reinterpret_cast<A*>(given[I])...};
    body = [&] { std::apply(kernel, arguments); };
    blockDim = {shape[2], 1};
    threads.resize(shape[2]);
    for (unsigned y = 0; y < shape[1]; y++) {
        for (unsigned x = 0; x < shape[0]; x++) {
            blockIdx = {x, y};
            std::memset(own, 0xa5, shape[3]); // shared memory begins with anything
            block = {(unsigned)threads.size(), 0, 0};
            std::fill(warps, warps + 32, Group{0, 0, 0});
            for (unsigned t = 0; t < threads.size(); t++) warps[t / 32].alive++;
            for (auto& thread : threads) {
                thread.stack.resize(1 << 16);
                thread.begun = thread.done = false;
                getcontext(&thread.context);
                thread.context.uc_stack.ss_sp = thread.stack.data();
                thread.context.uc_stack.ss_size = thread.stack.size();
                makecontext(&thread.context, begin, 0);
            }
            for (unsigned left = threads.size(); left;) {
                left = 0;
                for (current = 0; current < threads.size(); current++) {
                    if (threads[current].done) continue;
                    go_on(threads[current]);
                    left += !threads[current].done;
                }
            }
        }
    }
}

template <typename... A> static void launch(void (*kernel)(A...), void** given, const unsigned* shape) {
    run(kernel, given, std::index_sequence_for<A...>{}, shape);
}
