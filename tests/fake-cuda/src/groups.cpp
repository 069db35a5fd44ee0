// wgmma: products of four warps. Each warp computes its own 16 of the 64 rows, at the wait for the
// group of products; until then its sums are NaN, and what shared memory holds is read only then.
#include <string.h>

#include "block.hpp"
#include "races.hpp"
#include "tensor_map.hpp"

namespace fake {

// --- The descriptor of a matrix in shared memory ---

struct Tile {
    u32 start, leading, stride;  // bytes
    u32 swizzle;                 // as in a map: 0 none, 1 32 bytes, 2 64, 3 128
};

static Tile decode(u64 descriptor, const char* name, Site site) {
    Tile tile;
    tile.start = (u32)(descriptor & 0x3fff) << 4;
    tile.leading = (u32)(descriptor >> 16 & 0x3fff) << 4;
    tile.stride = (u32)(descriptor >> 32 & 0x3fff) << 4;
    static const u32 modes[] = {0, 3, 2, 1};
    tile.swizzle = modes[descriptor >> 62];
    const u64 known = 0x3fffull | 0x3fffull << 16 | 0x3fffull << 32 | 7ull << 49 | 3ull << 62;
    if (descriptor & ~known) block().fail(std::string(name) + ": bits that mean nothing", site);
    if (descriptor >> 49 & 7) {
        block().fail(std::string(name) + ": a base offset, which our tiles have no use for", site);
    }
    return tile;
}

// The address of byte `along` (0 to 31) of row `row`, for rows that run along k. Without a swizzle,
// 8 rows of 16 bytes lie together, and `leading` leads from one such piece to the next along k; with
// one, 8 rows of its span lie together. `stride` leads to the next 8 rows.
static u32 address(const Tile& tile, u32 row, u32 along) {
    const u32 pitch = tile.swizzle ? 16u << tile.swizzle : 16;
    const u32 inside = tile.swizzle ? along : along % 16 + along / 16 * tile.leading;
    return swizzled(tile.start + row / 8 * tile.stride + row % 8 * pitch + inside, tile.swizzle);
}

static void check_inside(const Tile& tile, u32 rows, const char* name, Site site) {
    u32 low = ~0u, high = 0;
    for (u32 row = 0; row < rows; ++row) {
        for (u32 along = 0; along < 32; along += 16) {
            const u32 at = address(tile, row, along);
            if (at < low) low = at;
            if (at + 16 > high) high = at + 16;
        }
    }
    if (low >= RESERVED && high <= block().used) return;
    block().fail(std::string(name) + " reaches shared addresses " + std::to_string(low) + " to " +
                     std::to_string(high) + ", outside of what the block has",
                 site);
}

static void read_rows(const Tile& tile, u32 first, u32 count, float (*out)[16]) {
    const u8* arena = block().arena;
    for (u32 row = 0; row < count; ++row) {
        for (u32 k = 0; k < 16; ++k) {
            unsigned short half;
            const u8* at = arena + address(tile, first + row, 2 * k);
            races_read(at, 2);
            memcpy(&half, at, 2);
            const u32 bits = (u32)half << 16;
            memcpy(&out[row][k], &bits, 4);
        }
    }
}

// --- A warp's part ---

// Place of a lane's i-th sum in the 16 x n part of its warp.
static u32 sum_row(u32 lane, u32 i) { return lane / 4 + i / 2 % 2 * 8; }
static u32 sum_column(u32 lane, u32 i) { return i / 4 * 8 + lane % 4 * 2 + i % 2; }

static void multiply(Warp& warp, const Product& product) {
    const Tile a = decode(product.a, "matrix a", product.site);
    const Tile b = decode(product.b, "matrix b", product.site);
    float rows[16][16];
    auto& columns = block().columns;
    auto& along = block().along;
    read_rows(a, warp.index % 4 * 16, 16, rows);
    read_rows(b, 0, product.n, columns);
    for (u32 k = 0; k < 16; ++k) {
        for (u32 n = 0; n < product.n; ++n) along[k][n] = columns[n][k];
    }
    std::vector<float>& sums = warp.sums[product.sums[0]];
    for (u32 row = 0; row < 16; ++row) {
        float* sum = sums.data() + row * product.n;
        float total[256] = {};
        for (u32 k = 0; k < 16; ++k) {
            for (u32 n = 0; n < product.n; ++n) total[n] += rows[row][k] * along[k][n];
        }
        for (u32 n = 0; n < product.n; ++n) sum[n] = product.keep ? sum[n] + total[n] : total[n];
    }
}

struct ProductSlot {
    float* sum;
    u32 n;
    u64 a, b;
    u32 keep;
    Site site;
};

// The four warps of a group start the same products in the same order.
static void check_group(Warp& warp, const Product& product) {
    Block& self = block();
    if ((warp.index / 4 + 1) * 4 > self.warps.size()) {
        self.fail("wgmma by a warp that is not one of four", product.site);
    }
    auto& log = self.group_log[warp.index / 4];
    const u32 number = warp.product_number++;
    if (number == log.size()) {
        log.push_back(product);
        return;
    }
    const Product& first = log[number];
    if (first.a == product.a && first.b == product.b && first.n == product.n &&
        first.keep == product.keep) {
        return;
    }
    self.fail("the warps of a group start different products; another's is at " +
                  describe(first.site),
              product.site);
}

// The values that the sums start from; they are out of the kernel's reach until the wait.
static void take_sums(Warp& warp, const Product& product) {
    if (warp.sums.count(product.sums[0])) return;
    std::vector<float>& sums = warp.sums[product.sums[0]];
    sums.resize(16 * product.n);
    bool touched = false;
    const bool known = warp.written_at.size() == WARP && warp.written_at[0] == product.sums[0] &&
                       warp.written.size() == WARP * product.n / 2;
    for (u32 lane = 0; lane < WARP; ++lane) {
        float* from = product.sums[lane];
        for (u32 i = 0; i < product.n / 2; ++i) {
            sums[sum_row(lane, i) * product.n + sum_column(lane, i)] = from[i];
            touched |= !known || memcmp(&from[i], &warp.written[lane * product.n / 2 + i], 4) != 0;
        }
        memset(from, 0xff, product.n / 2 * 4);
    }
    if (product.keep && touched && !warp.fenced) {
        block().fail("the sums changed since the last product, without a group_fence",
                     product.site);
    }
}

static void start(Warp& warp, u32) {
    const auto& first = *static_cast<ProductSlot*>(warp.lanes[0]->slot);
    Product product;
    product.n = first.n;
    product.a = first.a;
    product.b = first.b;
    product.keep = first.keep != 0;
    product.site = first.site;
    product.group = warp.product_group;
    for (u32 lane = 0; lane < WARP; ++lane) {
        const auto& slot = *static_cast<ProductSlot*>(warp.lanes[lane]->slot);
        product.sums[lane] = slot.sum;
        if (slot.a != first.a || slot.b != first.b || (slot.keep != 0) != product.keep) {
            block().fail("the lanes of a warp bring different descriptors to wgmma", first.site);
        }
    }
    check_inside(decode(product.a, "matrix a", product.site), 64, "matrix a", product.site);
    check_inside(decode(product.b, "matrix b", product.site), product.n, "matrix b", product.site);
    check_group(warp, product);
    if (!warp.fenced && warp.product_number == 1) {
        block().fail("the first wgmma comes without a group_fence", product.site);
    }
    take_sums(warp, product);
    warp.fenced = false;
    warp.products.push_back(product);
}

void group_multiply(float* sum, u32 n, u64 a, u64 b, u32 keep, Site site) {
    ProductSlot slot{sum, n, a, b, keep, site};
    together("wgmma", ~0u, &slot, start, site);
}

void group_fence(Site site) {
    together("wgmma.fence", ~0u, nullptr, [](Warp& warp, u32) { warp.fenced = true; }, site);
}

void group_commit(Site site) {
    together("wgmma.commit_group", ~0u, nullptr, [](Warp& warp, u32) { ++warp.product_group; },
             site);
}

static void give_sums(Warp& warp, const Product& last) {
    const std::vector<float>& sums = warp.sums[last.sums[0]];
    const u32 each = last.n / 2;
    warp.written_at.assign(last.sums, last.sums + WARP);
    warp.written.resize(WARP * each);
    for (u32 lane = 0; lane < WARP; ++lane) {
        for (u32 i = 0; i < each; ++i) {
            const float x = sums[sum_row(lane, i) * last.n + sum_column(lane, i)];
            last.sums[lane][i] = x;
            warp.written[lane * each + i] = x;
        }
    }
    warp.sums.erase(last.sums[0]);
}

struct WaitSlot {
    u32 keep;
};

static void finish(Warp& warp, u32) {
    const u32 keep = static_cast<WaitSlot*>(warp.lanes[0]->slot)->keep;
    size_t done = 0;
    while (done < warp.products.size() && warp.products[done].group + keep < warp.product_group) {
        multiply(warp, warp.products[done++]);
    }
    // Sums that a later product still adds to stay away.
    for (size_t i = 0; i < done; ++i) {
        const Product& product = warp.products[i];
        bool later = false;
        for (size_t j = i + 1; j < warp.products.size(); ++j) {
            later |= warp.products[j].sums[0] == product.sums[0];
        }
        if (!later) give_sums(warp, product);
    }
    warp.products.erase(warp.products.begin(), warp.products.begin() + (long)done);
}

void group_wait(u32 keep, Site site) {
    WaitSlot slot{keep};
    together("wgmma.wait_group", ~0u, &slot, finish, site);
}

void registers(u32 count, bool raise, Site site) {
    if (count % 8 != 0 || count < 24 || count > 256) {
        block().fail("setmaxnreg takes 24 to 256 registers in steps of 8", site);
    }
    together(raise ? "setmaxnreg.inc" : "setmaxnreg.dec", ~0u, nullptr, nullptr, site);
}

void check_products(Thread& thread) {
    Warp& warp = *thread.warp;
    if (warp.products.empty()) return;
    block().fail("a thread returns while products of its warp are under way: no group_wait for "
                 "them",
                 warp.products.front().site);
}

}  // namespace fake
