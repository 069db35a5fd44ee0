//! The kernels that multiply matrices, with the tile of one block and what it takes to launch them.

/// One kernel and the tile of one of its blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    pub(super) name: &'static str,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) shared: usize,
    pub(super) threads: u32,
}

pub(super) const F32: [Kernel; 2] = [
    Kernel { name: "gemm_f32", rows: 128, columns: 128, shared: 64 << 10, threads: 256 },
    Kernel { name: "gemm_small_f32", rows: 32, columns: 32, shared: 16 << 10, threads: 256 },
];
pub(super) const BF16: [Kernel; 2] = [
    Kernel { name: "gemm_bf16", rows: 128, columns: 128, shared: 64 << 10, threads: 256 },
    Kernel { name: "gemm_small_bf16", rows: 32, columns: 64, shared: 24 << 10, threads: 256 },
];
pub(super) const HOPPER: [Kernel; 2] = [
    Kernel { name: "gemm_sm90_bf16", rows: 128, columns: 256, shared: 208 << 10, threads: 384 },
    Kernel {
        name: "gemm_sm90_narrow_bf16",
        rows: 128,
        columns: 128,
        shared: 192 << 10,
        threads: 384,
    },
];

pub(super) fn kernels() -> impl Iterator<Item = Kernel> {
    F32.into_iter().chain(BF16).chain(HOPPER)
}

impl Kernel {
    pub(super) fn is_bf16(self) -> bool {
        self.name.ends_with("bf16")
    }

    pub(super) fn kept(self, x: f32) -> f32 {
        if self.is_bf16() { half::bf16::from_f32(x).to_f32() } else { x }
    }
}
