// What is done on a card besides the products: rows are normalised, cosines are binned, and what is
// asked about features and pairs is kept. CELL is float or double, as the cosines are.
//
// A tile of cosines is `n_rows x n_cols`, row after row. Of its row i the first `limit + i` cosines
// count: all of them in a rectangle, those before the diagonal in a triangle, where limit is 0.

#define WARP 32
#define EVERY 0xffffffffu

#define THREADS 256 // of a block, but for those that turn columns around

#define COLUMNS THREADS // of a tile, one for each thread of a block that bins
#define STRIP 64    // rows of a tile that such a block goes down
#define AT_ONCE 8   // cosines that a thread has on their way to it

#define LOOK 4 // cosines that a lane looks at before its warp asks whether one is worth to be kept

typedef unsigned long long u64;
typedef long long i64;

// The bin rule: floor(c bins / 2) + bins / 2, exactly. With an odd number of bins no edge lies at 0,
// and half a bin is added before rounding down. A float product may round up to an edge that the
// exact one lies below; the sign of what is left tells, because a fused operation rounds once.
__device__ int bin_of(float c, int bins) {
    const float half = 0.5f * bins, shift = 0.5f * (bins % 2);
    float k = floorf(fmaf(c, half, shift));
    if (fmaf(c, half, shift - k) < 0.0f) k -= 1.0f;
    return min(max((int)k + bins / 2, 0), bins - 1);
}

__device__ int bin_of(double c, int bins) {
    const double half = 0.5 * bins, shift = 0.5 * (bins % 2);
    const double k = floor(__dadd_rn(__dmul_rn(c, half), shift));
    return min(max((int)k + bins / 2, 0), bins - 1);
}

// Adds a value of each thread of a block, which has at most THREADS of them, to one number.
__device__ void add_all(double mine, double* total) {
    __shared__ double part[THREADS];
    part[threadIdx.x] = mine;
    __syncthreads();
    for (int step = blockDim.x / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) part[threadIdx.x] += part[threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x == 0) atomicAdd(total, part[0]);
    __syncthreads();
}

// The largest value of the threads of a block, for each of them.
__device__ double largest_of(double mine) {
    __shared__ double part[THREADS];
    part[threadIdx.x] = mine;
    __syncthreads();
    for (int step = blockDim.x / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) part[threadIdx.x] = fmax(part[threadIdx.x], part[threadIdx.x + step]);
        __syncthreads();
    }
    const double largest = part[0];
    __syncthreads();
    return largest;
}

// Divides a row by its norm, which is taken in double; a block for each row, of 2^k threads.
//
// rows (n, d), SOURCE; unit (n, wide), CELL, zeros beyond d; directed (n): whether the norm is not 0;
// total (d): the sum of the unit rows; squares: the sum of their squared norms; bad: how many rows
// are NaN or infinite, and the negative of the first such row, less one.
template <typename SOURCE>
__device__ void normalise_row(
    const SOURCE* rows, int d, int wide, CELL* unit, bool* directed, double* total, double* squares,
    int* bad
) {
    __shared__ double square;
    const i64 row = blockIdx.x;
    const SOURCE* mine = rows + row * d;
    double scale = 1.0, norm = 0.0;
    for (int pass = 0; pass < 2; pass++) {
        double sum = 0.0;
        for (int j = threadIdx.x; j < d; j += blockDim.x) {
            const double value = (double)mine[j] * scale;
            sum += value * value;
        }
        if (threadIdx.x == 0) square = 0.0;
        __syncthreads();
        add_all(sum, &square);
        norm = sqrt(square);
        __syncthreads();
        if (pass == 1 || (norm > 1e-140 && norm < 1e140)) break;
        // The squares of such rows vanish or overflow: their largest value becomes 1.
        double largest = 0.0;
        for (int j = threadIdx.x; j < d; j += blockDim.x) largest = fmax(largest, fabs((double)mine[j]));
        largest = largest_of(largest);
        if (!(largest > 0.0) || isinf(largest)) break;
        scale = 1.0 / largest;
    }
    const double inverse = norm != 0.0 ? 1.0 / norm : 0.0;
    double sum = 0.0;
    for (int j = threadIdx.x; j < wide; j += blockDim.x) {
        const CELL value = j < d ? (CELL)((double)mine[j] * scale * inverse) : (CELL)0;
        unit[row * wide + j] = value;
        if (j < d) atomicAdd(total + j, (double)value);
        sum += (double)value * value;
    }
    add_all(sum, squares);
    if (threadIdx.x == 0) {
        directed[row] = norm != 0.0;
        if (!isfinite(norm)) {
            atomicAdd(bad, 1);
            atomicMax(bad + 1, -1 - (int)row);
        }
    }
}

extern "C" __global__ void normalise_float(
    const float* rows, int d, int wide, CELL* unit, bool* directed, double* total, double* squares,
    int* bad
) {
    normalise_row(rows, d, wide, unit, directed, total, squares, bad);
}

extern "C" __global__ void normalise_double(
    const double* rows, int d, int wide, CELL* unit, bool* directed, double* total, double* squares,
    int* bad
) {
    normalise_row(rows, d, wide, unit, directed, total, squares, bad);
}

// Bins a tile, and counts for each of its rows and columns the cosines in the tails.
//
// Cosines pile up in a few bins: each block has counts of its own, in as many copies as fit, so that
// neighbouring threads rarely wait for each other (copies = 0: not even one fits). A pair that lies
// in the tails at `k` of the thresholds is counted at level k - 1 alone: row_level (levels, ..),
// whose rows are row_stride apart, and col_level. The same when count is null: only the levels.
extern "C" __global__ void count_pairs(
    const CELL* cosines, int n_rows, int n_cols, int limit, int bins, int copies, u64* count,
    double* total, const int* starts, int levels, int* row_level, i64 row_stride, int* col_level,
    i64 col_stride
) {
    extern __shared__ unsigned own[];
    unsigned* by_row = own + copies * bins;
    unsigned* by_col = by_row + levels * STRIP;
    const int first = blockIdx.y * STRIP, stop = min(first + STRIP, n_rows);
    const int left = blockIdx.x * COLUMNS, j = left + threadIdx.x;
    if (left >= limit + stop - 1) return; // all of it lies behind the diagonal
    const int room = copies * bins + levels * (STRIP + COLUMNS);
    for (int k = threadIdx.x; k < room; k += COLUMNS) own[k] = 0;
    __syncthreads();

    const int copy = copies > 0 ? threadIdx.x % copies : 0;
    double sum = 0.0;
    for (int i = first; i < stop; i += AT_ONCE) {
        CELL c[AT_ONCE];
        bool there[AT_ONCE];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            there[u] = i + u < stop && j < n_cols && j < limit + i + u;
            c[u] = there[u] ? cosines[(i64)(i + u) * n_cols + j] : (CELL)0;
        }
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            if (!there[u]) continue;
            const int bin = bin_of(c[u], bins);
            if (count) {
                sum += (double)c[u];
                if (copies > 0) atomicAdd(own + bin * copies + copy, 1u);
                else atomicAdd(count + bin, (u64)1);
            }
            if (levels == 0) continue;
            const int out = max(bin, bins - 1 - bin);
            int level = 0;
            while (level < levels && out >= starts[level]) level++;
            if (level == 0) continue;
            atomicAdd(by_row + (level - 1) * STRIP + i + u - first, 1u);
            atomicAdd(by_col + (level - 1) * COLUMNS + threadIdx.x, 1u);
        }
    }
    if (count) add_all(sum, total);
    __syncthreads();
    if (count && copies > 0) {
        for (int bin = threadIdx.x; bin < bins; bin += COLUMNS) {
            u64 pairs = 0;
            for (int k = 0; k < copies; k++) pairs += own[bin * copies + k];
            if (pairs) atomicAdd(count + bin, pairs);
        }
    }
    for (int k = threadIdx.x; k < levels * STRIP; k += COLUMNS) {
        if (by_row[k]) atomicAdd(row_level + (k / STRIP) * row_stride + first + k % STRIP, (int)by_row[k]);
    }
    for (int k = threadIdx.x; k < levels * COLUMNS; k += COLUMNS) {
        if (by_col[k]) atomicAdd(col_level + (k / COLUMNS) * col_stride + left + k % COLUMNS, (int)by_col[k]);
    }
}

// Whether what is offered comes before what is held: by merit, then by the lower number.
__device__ bool better(CELL merit, i64 number, CELL than, i64 than_number) {
    return merit > than || (merit == than && number < than_number);
}

// Puts a partner into a list of `kept` that falls; all lanes of a warp say the same.
__device__ void put(CELL* merit, i64* partner, int kept, CELL value, i64 number, int lane) {
    int at = 0;
    for (int base = 0; base < kept; base += WARP) {
        const int r = base + lane;
        at += __popc(__ballot_sync(EVERY, r < kept && !better(value, number, merit[r], partner[r])));
    }
    if (at >= kept) return;
    for (int top = kept - 1; top > at; top -= WARP) {
        const int r = top - lane;
        const CELL moved = r > at ? merit[r - 1] : (CELL)0;
        const i64 moved_partner = r > at ? partner[r - 1] : 0;
        __syncwarp(EVERY);
        if (r > at) {
            merit[r] = moved;
            partner[r] = moved_partner;
        }
        __syncwarp(EVERY);
    }
    if (lane == 0) {
        merit[at] = value;
        partner[at] = number;
    }
    __syncwarp(EVERY);
}

// The list of one feature and the worst of it, which every lane of its warp knows.
struct List {
    CELL* merit;
    i64* partner;
    int kept;
    CELL worst;
    i64 worst_partner;

    __device__ List(CELL* merits, i64* partners, int room, i64 feature)
        : merit(merits + feature * room), partner(partners + feature * room), kept(room) {
        look();
    }
    __device__ void look() {
        worst = merit[kept - 1];
        worst_partner = partner[kept - 1];
    }
    // Takes in the values of all lanes that are good enough, the lowest number first.
    __device__ void offer(CELL value, i64 number, bool there, int lane) {
        unsigned good = __ballot_sync(EVERY, there && better(value, number, worst, worst_partner));
        while (good) {
            const int from = __ffs(good) - 1;
            good &= good - 1;
            put(merit, partner, kept, __shfl_sync(EVERY, value, from), __shfl_sync(EVERY, number, from), lane);
            look();
        }
    }
};

// Keeps for each row the `kept` nearest columns and the most opposite one; a warp for each row.
//
// near (features, kept), far (features, 1): merits and partners of the features on this side, of
// which the first row of the tile is number `at`; col_number: the number of the first column.
extern "C" __global__ void keep_by_row(
    const CELL* cosines, int n_rows, int n_cols, int limit, const bool* row_directed,
    const bool* col_directed, i64 at, i64 col_number, int kept, CELL* near, i64* near_partner,
    CELL* far, i64* far_partner
) {
    const int lane = threadIdx.x % WARP;
    const int i = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (i >= n_rows || !row_directed[i]) return;
    const int width = min(limit + i, n_cols);
    List nearest(near, near_partner, kept, at + i), opposite(far, far_partner, 1, at + i);
    for (int base = 0; base < width; base += WARP * LOOK) {
        CELL c[LOOK];
        bool there[LOOK], worth = false;
#pragma unroll
        for (int u = 0; u < LOOK; u++) {
            const int j = base + u * WARP + lane;
            there[u] = j < width && col_directed[j];
            c[u] = there[u] ? cosines[(i64)i * n_cols + j] : (CELL)0;
            worth |= there[u] && (c[u] >= nearest.worst || -c[u] >= opposite.worst);
        }
        if (!__any_sync(EVERY, worth)) continue;
#pragma unroll
        for (int u = 0; u < LOOK; u++) {
            const i64 number = col_number + base + u * WARP + lane;
            nearest.offer(c[u], number, there[u], lane);
            opposite.offer(-c[u], number, there[u], lane);
        }
    }
}

// The same for each column; a block takes 32 of them, which its warps turn around in shared memory.
extern "C" __global__ void __launch_bounds__(WARP * WARP) keep_by_col(
    const CELL* cosines, int n_rows, int n_cols, int limit, const bool* row_directed,
    const bool* col_directed, i64 at, i64 row_number, int kept, CELL* near, i64* near_partner,
    CELL* far, i64* far_partner
) {
    __shared__ CELL turned[WARP * LOOK][WARP + 1];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int left = blockIdx.x * WARP;
    const int j = left + warp; // the column of this warp
    const bool mine = j < n_cols && col_directed[j];
    const i64 feature = mine ? at + j : at;
    List nearest(near, near_partner, kept, feature), opposite(far, far_partner, 1, feature);
    const int begin = limit > 0 ? 0 : left / (WARP * LOOK) * (WARP * LOOK); // below the diagonal
    for (int base = begin; base < n_rows; base += WARP * LOOK) {
#pragma unroll
        for (int u = 0; u < LOOK; u++) {
            const int i = base + u * WARP + warp;
            const bool inside = i < n_rows && left + lane < n_cols;
            turned[u * WARP + warp][lane] = inside ? cosines[(i64)i * n_cols + left + lane] : (CELL)0;
        }
        __syncthreads();
        CELL c[LOOK];
        bool there[LOOK], worth = false;
#pragma unroll
        for (int u = 0; u < LOOK; u++) {
            const int i = base + u * WARP + lane;
            there[u] = mine && i < n_rows && j < limit + i && row_directed[i];
            c[u] = turned[u * WARP + lane][warp];
            worth |= there[u] && (c[u] >= nearest.worst || -c[u] >= opposite.worst);
        }
        if (__any_sync(EVERY, worth)) {
#pragma unroll
            for (int u = 0; u < LOOK; u++) {
                const i64 number = row_number + base + u * WARP + lane;
                nearest.offer(c[u], number, there[u], lane);
                opposite.offer(-c[u], number, there[u], lane);
            }
        }
        __syncthreads();
    }
}

// Raises the bins that pairs have to lie in, or beyond, to be among the `room` most similar, and most
// opposite: so many were counted there already. Bins that rows without a direction fall into say
// nothing. least (2): the lowest bin of the similar, the highest of the opposite; one block.
extern "C" __global__ void raise_least(const u64* count, int bins, i64 room, int* least) {
    __shared__ u64 part[THREADS];
    __shared__ int found;
    const int segment = (bins + blockDim.x - 1) / blockDim.x;
    for (int end = 0; end < 2; end++) {
        // Segments and bins are counted from the outside in.
        const int begin = threadIdx.x * segment, stop = min(begin + segment, bins);
        u64 mine = 0;
        for (int k = begin; k < stop; k++) mine += count[end ? k : bins - 1 - k];
        part[threadIdx.x] = mine;
        if (threadIdx.x == 0) found = bins - 1;
        __syncthreads();
        u64 before = 0;
        for (int k = 0; k < threadIdx.x; k++) before += part[k];
        if (before < (u64)room && before + mine >= (u64)room) {
            int k = begin;
            for (u64 sum = before; k < stop; k++) {
                sum += count[end ? k : bins - 1 - k];
                if (sum >= (u64)room) break;
            }
            found = k;
        }
        __syncthreads();
        if (threadIdx.x == 0 && found < (bins - 1) / 2) {
            if (end) least[1] = min(least[1], found);
            else least[0] = max(least[0], bins - 1 - found);
        }
        __syncthreads();
    }
}

// Writes down the pairs that may be among the most similar, and the most opposite ones.
//
// worst (2) and worst_pair (2, 2): the last of each kind that is held on the host; least: see above.
// merit (2, room), pair (2, room, 2): what was written down; used (2): how much, or would have been.
extern "C" __global__ void keep_pairs(
    const CELL* cosines, int first_row, int n_rows, int n_cols, int limit, const bool* row_directed,
    const bool* col_directed, i64 row_number, i64 col_number, int bins, const int* least,
    const CELL* worst, const i64* worst_pair, CELL* merit, i64* pair, i64 room, u64* used
) {
    const int j = blockIdx.x * COLUMNS + threadIdx.x;
    const int first = first_row + blockIdx.y * STRIP, stop = min(first + STRIP, n_rows);
    if (j >= n_cols || !col_directed[j]) return;
    const CELL least_near = worst[0], least_far = worst[1];
    for (int i = first; i < stop; i += AT_ONCE) {
        CELL c[AT_ONCE];
        bool there[AT_ONCE];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            there[u] = i + u < stop && j < limit + i + u;
            c[u] = there[u] ? cosines[(i64)(i + u) * n_cols + j] : (CELL)0;
            there[u] = there[u] && (c[u] >= least_near || -c[u] >= least_far);
        }
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            if (!there[u] || !row_directed[i + u]) continue;
            const int bin = bin_of(c[u], bins);
            const i64 a = row_number + i + u, b = col_number + j;
            for (int end = 0; end < 2; end++) {
                const CELL value = end ? -c[u] : c[u];
                const i64 *held = worst_pair + 2 * end;
                const bool near = end ? bin <= least[1] : bin >= least[0];
                const bool tie = a < held[0] || (a == held[0] && b < held[1]);
                if (!near || !(value > worst[end] || (value == worst[end] && tie))) continue;
                const i64 slot = end * room + (i64)atomicAdd(used + end, (u64)1);
                if (slot >= (end + 1) * room) continue;
                merit[slot] = value;
                pair[2 * slot] = a;
                pair[2 * slot + 1] = b;
            }
        }
    }
}
