// probe_bank_proximal: a step of FISTA for each head of a bank (Beck and Teboulle 2009, section 4;
// restarted by the gradient rule of O'Donoghue and Candes 2015, section 3.2).
//
//   weights, next, point, masks [cells] f32, totals [cells] f64: see probe_bank.cuh
//   next is 0, and is again afterwards; totals are spent
//   steps [heads] f32   0 where a head stays      means [tasks] f64  1 / rows, 0 without rows
//   momenta [heads] f64  t of each head           told [heads, 2] f64  largest change, and largest
//                                                 component of the generalised gradient
//
// A block has a unit, so all of a head. With v = point - step (totals / rows + 2 l2 point):
// weights' = soft(v, step l1), point' = weights' + ahead (weights' - weights).
//
// Bytes  56 a cell: weights and point are read and written, totals read and written, next written and
//        read and written     Flops  about 20 a cell, in f64
// Floor  one unit of 2688 inputs: 4.8 MB, of one processor's part of the L2: about 50 us, once a pass
#include "probe_bank.cuh"

struct ProximalArgs {
    const void* units;
    const void* heads;
    const float* steps;
    const double* means;
    float* weights;
    float* next;
    float* point;
    double* totals;
    const float* masks;  // or null
    double* momenta;
    double* told;
    u32 inputs;
    u32 unused;
};

// What is found out about a step, of a thread's column or of a head.
struct Findings {
    double change, residual, uphill;

    // NaN is larger than all.
    DEVICE static double most(double a, double b) { return b > a || b != b ? b : a; }
    DEVICE void add(const Findings& other) {
        change = most(change, other.change);
        residual = most(residual, other.residual);
        uphill += other.uphill;
    }
};

struct Shared {
    Findings part[WARPS * LANES];
    Findings head[MOST_HEADS];
    double ahead[MOST_HEADS];
};

// The head of a thread's column, and its step: 0 where it stays.
struct Column {
    u32 head;
    double step, l1, l2;

    DEVICE Column(const ProximalArgs& a, const ProbeUnit& unit, const ProbeHead* heads, u32 panel, double mean)
        : head(owner(unit, heads, panel * LANES + lane_id())), step(0.0), l1(0.0), l2(0.0) {
        if (head == MOST_HEADS) return;
        if (mean > 0.0) step = a.steps[unit.first_head + head];
        l1 = heads[head].l1;
        l2 = heads[head].l2;
    }
};

// The next weight of a cell, kept in `next`.
DEVICE void shrink(const ProximalArgs& a, u64 cell, const Column& column, bool bias, double mean, Findings& found) {
    const double old = a.weights[cell], point = a.point[cell], step = column.step;
    const bool moves = step > 0.0 && (a.masks == nullptr || a.masks[cell] != 0.0f);
    double now = old;
    if (moves) {
        const double penalty = bias ? 0.0 : 1.0;
        const double there = point - step * (a.totals[cell] * mean + penalty * 2.0 * column.l2 * point);
        const double cut = step * column.l1 * penalty;
        // NaN is not at most anything: it goes through.
        now = fabs(there) <= cut ? 0.0 : there - (there < 0.0 ? -cut : cut);
        const double residual = (point - now) / step;
        found.add(Findings{fabs(now - old), fabs(residual), residual * (now - old)});
    }
    a.next[cell] = (float)now;
    a.totals[cell] = 0.0;
}

// Adds what the threads of a panel found to its heads, columns in order.
DEVICE void gather(Shared& s, const ProbeUnit& unit, const ProbeHead* heads, u32 panel, const Findings& found) {
    __syncthreads();
    s.part[threadIdx.x] = found;
    __syncthreads();
    if (threadIdx.x >= unit.heads) return;
    const ProbeHead head = heads[threadIdx.x];
    for (u32 c = 0; c < LANES; ++c) {
        if (panel * LANES + c - head.first >= head.columns) continue;
        for (u32 k = 0; k < WARPS; ++k) s.head[threadIdx.x].add(s.part[k * LANES + c]);
    }
}

// The next t of a head, and the part of its step that the next one has in advance.
DEVICE void advance(Shared& s, const ProximalArgs& a, const ProbeUnit& unit, double mean) {
    const u32 h = threadIdx.x, head = unit.first_head + h;
    const Findings found = s.head[h];
    a.told[2 * head] = found.change;
    a.told[2 * head + 1] = found.residual;
    s.ahead[h] = 0.0;
    if (mean == 0.0 || !(a.steps[head] > 0.0f)) return;
    const double t = a.momenta[head];
    const double next = 0.5 * (1.0 + sqrt(1.0 + 4.0 * t * t));
    a.momenta[head] = found.uphill > 0.0 ? 1.0 : next;
    if (!(found.uphill > 0.0)) s.ahead[h] = (t - 1.0) / next;
}

KERNEL(probe_bank_proximal, ProximalArgs, THREADS) {
    EL_SHARED_PACKS(Shared, shared, [1]);
    Shared& s = shared[0];
    const ProbeUnit unit = static_cast<const ProbeUnit*>(a.units)[blockIdx.x];
    const ProbeHead* heads = static_cast<const ProbeHead*>(a.heads) + unit.first_head;
    const double mean = a.means[unit.task];
    const u32 rows = a.inputs + 1;
    if (threadIdx.x < MOST_HEADS) s.head[threadIdx.x] = Findings{0.0, 0.0, 0.0};
    for (u32 panel = 0; panel < unit.panels; ++panel) {
        const u64 cells = unit.cells + (u64)panel * rows * LANES + lane_id();
        const Column column(a, unit, heads, panel, mean);
        Findings found = {0.0, 0.0, 0.0};
        for (u32 i = warp_id(); i < rows; i += WARPS) {
            shrink(a, cells + (u64)i * LANES, column, i == a.inputs, mean, found);
        }
        gather(s, unit, heads, panel, found);
    }
    if (threadIdx.x < unit.heads) advance(s, a, unit, mean);
    __syncthreads();
    for (u32 panel = 0; panel < unit.panels; ++panel) {
        const u64 cells = unit.cells + (u64)panel * rows * LANES + lane_id();
        const Column column(a, unit, heads, panel, mean);
        for (u32 i = warp_id(); i < rows; i += WARPS) {
            const u64 cell = cells + (u64)i * LANES;
            const double now = a.next[cell], old = a.weights[cell];
            a.next[cell] = 0.0f;
            if (column.step > 0.0) {
                a.point[cell] = (float)(now + s.ahead[column.head] * (now - old));
                a.weights[cell] = (float)now;
            }
        }
    }
}
