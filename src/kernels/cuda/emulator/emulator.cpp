// Fibers, tensor core operations and the table of kernels by name.
#include "../kernels.cu"

#include <cstdio>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

Dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {
namespace {

constexpr size_t STACK = 128 << 10;

struct Barrier {
    unsigned arrived = 0, generation = 0;
};

struct Fiber {
    ucontext_t context;
    std::vector<unsigned char> stack;
    bool done;
};

struct Block {
    std::vector<Fiber> fibers;
    Barrier barrier;
    std::vector<Barrier> warps;
    std::vector<Values> values;
    std::vector<unsigned char> shared;
    ucontext_t scheduler;
    unsigned current = 0;
    uint64_t progress = 0;
    void (*body)(void **) = nullptr;
    void **args = nullptr;
};

Block block;

void yield() { swapcontext(&block.fibers[block.current].context, &block.scheduler); }

void wait(Barrier &barrier, unsigned expected) {
    const unsigned generation = barrier.generation;
    if (++barrier.arrived == expected) {
        barrier.arrived = 0;
        barrier.generation++;
        block.progress++;
        return;
    }
    while (barrier.generation == generation) {
        yield();
    }
}

void fiber_main() {
    block.body(block.args);
    block.fibers[block.current].done = true;
    block.progress++;
    yield();
}

// False when the threads wait for each other in vain.
bool run_block(unsigned threads) {
    block.barrier = {};
    block.warps.assign(threads / 32, {});
    block.values.resize(threads / 32);
    if (block.fibers.size() < threads) {
        block.fibers.resize(threads);
    }
    for (unsigned i = 0; i < threads; i++) {
        Fiber &fiber = block.fibers[i];
        fiber.stack.resize(STACK);
        fiber.done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, fiber_main, 0);
    }
    unsigned running = threads;
    while (running > 0) {
        const uint64_t before = block.progress;
        running = 0;
        for (unsigned i = 0; i < threads; i++) {
            if (block.fibers[i].done) {
                continue;
            }
            block.current = i;
            threadIdx = {i, 0, 0};
            swapcontext(&block.scheduler, &block.fibers[i].context);
            running += !block.fibers[i].done;
        }
        if (running > 0 && block.progress == before) {
            return false;
        }
    }
    return true;
}

template <typename... A, size_t... I>
void call(void (*kernel)(A...), void **args, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<A> *>(args[I])...);
}

template <auto KERNEL> struct Caller;
template <typename... A, void (*KERNEL)(A...)> struct Caller<KERNEL> {
    static constexpr unsigned COUNT = sizeof...(A);
    static void run(void **args) { call(KERNEL, args, std::index_sequence_for<A...>()); }
};

struct Entry {
    const char *name;
    void (*body)(void **);
    unsigned arguments;
};

#define KERNEL(name) {#name, Caller<name>::run, Caller<name>::COUNT}
#define TYPES(name) KERNEL(name##_f32), KERNEL(name##_bf16)
#define WIDTHS(name) TYPES(name), KERNEL(name##_f32_wide), KERNEL(name##_bf16_wide)

const Entry KERNELS[] = {
    WIDTHS(modulated_norm), WIDTHS(layer_norm),       WIDTHS(rms_norm),          WIDTHS(gated_residual),
    WIDTHS(token_scores),   WIDTHS(bias_activation),  WIDTHS(channel_norm),      WIDTHS(rotate),
    TYPES(sum_rows),        TYPES(pictures_to_bytes), WIDTHS(rotate_slots),       TYPES(softmax_rows),
    TYPES(attention_rows),  TYPES(conv_direct),       TYPES(conv_finish),        TYPES(upsample),
    KERNEL(select_top),     KERNEL(count_chosen),     KERNEL(keep_rows_wide),    KERNEL(keep_rows_narrow),
    KERNEL(keep_rows_tags), KERNEL(conv_tiles_bf16),  KERNEL(attention_tiles_64), KERNEL(attention_tiles_128),
    KERNEL(channels_last_bf16), KERNEL(channels_first_bf16),
};

} // namespace

unsigned char *dynamic_shared() { return block.shared.data(); }

void block_barrier() { wait(block.barrier, blockDim.x); }

Values exchange(uint64_t value) {
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    block.values[warp].lane[lane] = value;
    wait(block.warps[warp], 32);
    const Values values = block.values[warp];
    wait(block.warps[warp], 32);
    return values;
}

} // namespace emulator

// 0: done; 1: no such kernel; 2: another number of arguments; 3: threads wait in vain; 4: not whole warps.
extern "C" int emulate(const char *name, const unsigned *grid, unsigned threads, unsigned shared, void **args,
                       unsigned arguments) {
    using namespace emulator;
    for (const Entry &entry : KERNELS) {
        if (std::strcmp(entry.name, name) != 0) {
            continue;
        }
        if (entry.arguments != arguments) {
            return 2;
        }
        if (threads == 0 || threads % 32 != 0 || threads > 1024) {
            return 4;
        }
        block.body = entry.body;
        block.args = args;
        block.shared.assign(shared, 0xff);
        blockDim = {threads, 1, 1};
        gridDim = {grid[0], grid[1], grid[2]};
        for (unsigned z = 0; z < grid[2]; z++) {
            for (unsigned y = 0; y < grid[1]; y++) {
                for (unsigned x = 0; x < grid[0]; x++) {
                    blockIdx = {x, y, z};
                    if (!run_block(threads)) {
                        return 3;
                    }
                }
            }
        }
        return 0;
    }
    return 1;
}

namespace {

// The 8×8 matrices whose rows the lanes point to.
void gather(unsigned (&out)[4], const bf16 *row, bool transposed) {
    const emulator::Values rows = emulator::exchange(reinterpret_cast<uint64_t>(row));
    const int lane = threadIdx.x % 32;
    for (int matrix = 0; matrix < 4; matrix++) {
        unsigned both = 0;
        for (int i = 0; i < 2; i++) {
            const int r = transposed ? 2 * (lane % 4) + i : lane / 4;
            const int c = transposed ? lane / 4 : 2 * (lane % 4) + i;
            const bf16 *start = reinterpret_cast<const bf16 *>(rows.lane[8 * matrix + r]);
            both |= static_cast<unsigned>(start[c].bits) << (16 * i);
        }
        out[matrix] = both;
    }
    emulator::exchange(0); // nobody overwrites what others still read
}

float half_of(uint64_t both, int i) { return __uint_as_float(static_cast<unsigned>(both >> (16 * i) & 0xffff) << 16); }

} // namespace

void load_matrices(unsigned (&out)[4], const bf16 *row) { gather(out, row, false); }

void load_matrices_transposed(unsigned (&out)[4], const bf16 *row) { gather(out, row, true); }

void multiply(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const uint64_t low = a[0] | static_cast<uint64_t>(a[1]) << 32, high = a[2] | static_cast<uint64_t>(a[3]) << 32;
    const emulator::Values a_low = emulator::exchange(low), a_high = emulator::exchange(high);
    const emulator::Values b = emulator::exchange(b0 | static_cast<uint64_t>(b1) << 32);
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (int i = 0; i < 4; i++) {
        const int row = g + i / 2 * 8, column = 2 * t + i % 2;
        for (int k = 0; k < 16; k++) {
            // Left: lane (row%8, k%8/2), part by row/8 and k/8. Right: lane (column, k%8/2), part by k/8.
            const emulator::Values &part = k < 8 ? a_low : a_high;
            const uint64_t left = part.lane[row % 8 * 4 + k % 8 / 2] >> (32 * (row / 8));
            const uint64_t right = b.lane[column * 4 + k % 8 / 2] >> (32 * (k / 8));
            sums[i] += half_of(left, k % 2) * half_of(right, k % 2);
        }
    }
}
