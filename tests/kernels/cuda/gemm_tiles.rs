//! Each kernel that multiplies matrices, launched by itself on the fake driver: which of them a device
//! would choose does not matter here.
//! Oracle: loops in f64 over the same values; the bound is twice the error of plain loops in f32 that
//! round to the type of the tensors where the kernel's text says so.
#![expect(unsafe_code, reason = "launches kernels through the driver")]

use std::ffi::{CString, c_void};

use cudarc::driver::{result, sys};
use fake_cuda::{Fake, Order};

use super::gemm_kernels::{BF16, F32, HOPPER, Kernel, kernels};
use super::reference::activation;
use crate::laws::data::Random;

const PLAIN: u32 = 0;
const MULTIPLY: u32 = 1;
const ADD: u32 = 2;
const ACTIVATE: u32 = 3;

/// A product: what is multiplied, and what is done to it.
#[derive(Clone, Debug)]
struct Product {
    rows: usize,
    columns: usize,
    inner: usize,
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Option<Vec<f32>>,
    other: Vec<f32>,
    epilogue: u32,
    /// Elements between rows beyond what the shape needs.
    wider: usize,
}

impl Product {
    fn new(kernel: Kernel, (rows, columns, inner): (usize, usize, usize), epilogue: u32) -> Self {
        let mut random = Random((rows * 7 + columns * 3 + inner) as u64 + u64::from(epilogue));
        let mut some = |n: usize, scale: f32| -> Vec<f32> {
            (0..n).map(|_| kernel.kept(random.normal() * scale)).collect()
        };
        Self {
            rows,
            columns,
            inner,
            x: some(rows * inner, 1.0),
            w: some(columns * inner, 1.0 / (inner as f32).sqrt()),
            bias: (columns % 3 != 1).then(|| some(columns, 1.0)),
            other: some(rows * columns, 1.0),
            epilogue,
            wider: if columns % 2 == 0 { 8 } else { 0 },
        }
    }

    /// Of x and of w: never of 1 element, so that rows start at 16 bytes.
    fn inner_stride(&self) -> usize {
        self.inner.next_multiple_of(8) + self.wider
    }
    fn out_stride(&self) -> usize {
        if self.columns == 1 { 1 } else { self.columns.next_multiple_of(8) + self.wider }
    }

    /// Each value of `out`: in f64, and by plain f32 arithmetic that rounds as the kernel does.
    fn expected(&self, kernel: Kernel) -> Vec<(f64, f32)> {
        let finish = |y: f64, other: f32| match self.epilogue {
            PLAIN => y,
            MULTIPLY => f64::from(other) * y,
            ADD => f64::from(other) + y,
            kind => activation(kind - ACTIVATE, y),
        };
        let one = |i: usize| {
            let (row, column) = (i / self.columns, i % self.columns);
            let x = &self.x[row * self.inner..][..self.inner];
            let w = &self.w[column * self.inner..][..self.inner];
            let bias = self.bias.as_ref().map_or(0.0, |bias| bias[column]);
            let pairs = || x.iter().zip(w);
            let exact: f64 = pairs().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let plain = kernel.kept(pairs().map(|(a, b)| a * b).sum::<f32>() + bias);
            let plain = kernel.kept(finish(f64::from(plain), self.other[i]) as f32);
            (finish(exact + f64::from(bias), self.other[i]), plain)
        };
        (0..self.rows * self.columns).map(one).collect()
    }

    fn check(&self, device: &Device, kernel: Kernel) -> Vec<f32> {
        let out = device.multiply(kernel, self);
        let expected = self.expected(kernel);
        let (mut error, mut bound, mut largest) = (0.0_f64, 0.0_f64, 0.0_f64);
        for (ours, (exact, plain)) in out.iter().zip(&expected) {
            let off = (f64::from(*ours) - exact).abs();
            assert!(off.is_finite(), "{kernel:?}: {ours} for {exact}");
            error = error.max(off);
            bound = bound.max((f64::from(*plain) - exact).abs());
            largest = largest.max(exact.abs());
        }
        // An activation is right to a few units of f32, the plain one by f64 to one half.
        let bound = 2.0 * bound + if self.epilogue >= ACTIVATE { 4e-7 * largest } else { 0.0 };
        let shape = (self.rows, self.columns, self.inner, self.epilogue);
        assert!(error <= bound.max(1e-7 * largest), "{kernel:?} {shape:?}: {error:e} > {bound:e}");
        out
    }
}

#[repr(C)]
struct GemmArgs {
    pointers: [u64; 5],
    strides: [u64; 4],
    extents: [u32; 4],
}

#[repr(C, align(64))]
struct GemmSm90Args {
    maps: [sys::CUtensorMap; 2],
    pointers: [u64; 3],
    strides: [u64; 2],
    extents: [u32; 4],
    tiles: [u32; 2],
}

/// A device of the fake driver.
struct Device {
    fake: &'static Fake,
}

/// Rows after the last of `out`, which nothing may touch.
const GUARDS: usize = 2;

impl Device {
    fn new() -> Option<Self> {
        let fake = fake_cuda::install()?;
        result::init().expect("the fake driver starts");
        let device = result::device::get(0).expect("there is one");
        // SAFETY: contexts of the fake driver are never destroyed.
        unsafe {
            let context = result::primary_ctx::retain(device).expect("a context");
            result::ctx::set_current(context).expect("it is live");
        }
        Some(Self { fake })
    }

    /// Rows in the type of the kernel, with NaN between them.
    fn upload(kernel: Kernel, values: &[f32], cols: usize, (stride, more): (usize, usize)) -> u64 {
        let rows = values.len() / cols;
        let mut padded = vec![f32::NAN; (rows + more) * stride];
        for (to, from) in padded.chunks_exact_mut(stride).zip(values.chunks_exact(cols)) {
            to[..cols].copy_from_slice(from);
        }
        if kernel.is_bf16() {
            let bits: Vec<u16> =
                padded.iter().map(|x| half::bf16::from_f32(*x).to_bits()).collect();
            Self::put(&bits)
        } else {
            Self::put(&padded)
        }
    }

    fn put<T: Copy>(values: &[T]) -> u64 {
        // SAFETY: the allocation has the size of the values.
        unsafe {
            let to = result::malloc_sync(size_of_val(values)).expect("room");
            result::memcpy_htod_sync(to, values).expect("a copy");
            to
        }
    }

    fn get(kernel: Kernel, from: u64, count: usize) -> Vec<f32> {
        // SAFETY: the driver checks the range.
        unsafe {
            if kernel.is_bf16() {
                let mut bits = vec![0_u16; count];
                result::memcpy_dtoh_sync(&mut bits, from).expect("a copy");
                bits.into_iter().map(|bits| half::bf16::from_bits(bits).to_f32()).collect()
            } else {
                let mut values = vec![0.0_f32; count];
                result::memcpy_dtoh_sync(&mut values, from).expect("a copy");
                values
            }
        }
    }

    /// The columns of `out`, once it is checked that nothing else was written.
    fn multiply(&self, kernel: Kernel, product: &Product) -> Vec<f32> {
        let Product { rows, columns, inner, .. } = *product;
        let strides = (product.inner_stride(), product.out_stride());
        let x = Self::upload(kernel, &product.x, inner, (strides.0, 0));
        let w = Self::upload(kernel, &product.w, inner, (strides.0, 0));
        let bias = product.bias.as_deref().map_or(0, Self::put);
        let poison = vec![f32::NAN; rows * columns];
        let start = if product.epilogue == ADD { &product.other } else { &poison };
        let out = Self::upload(kernel, start, columns, (strides.1, GUARDS));
        let other = match product.epilogue {
            ADD => out,
            _ => Self::upload(kernel, &product.other, columns, (strides.1, 0)),
        };
        let (x_stride, out_stride) = (strides.0 as u64, strides.1 as u64);
        let extents = [rows as u32, columns as u32, inner as u32, product.epilogue];
        let [down, across] =
            [rows.div_ceil(kernel.rows) as u32, columns.div_ceil(kernel.columns) as u32];
        if kernel.threads == 384 {
            let args = GemmSm90Args {
                maps: [
                    map(x, (rows, inner, strides.0), kernel.rows),
                    map(w, (columns, inner, strides.0), kernel.columns),
                ],
                pointers: [bias, other, out],
                strides: [out_stride; 2],
                extents,
                tiles: [down, across],
            };
            // Fewer blocks than tiles: blocks go on to a second one.
            self.launch(kernel, (down * across).div_ceil(2), "gemm_sm90", &args);
        } else {
            let args = GemmArgs {
                pointers: [x, w, bias, other, out],
                strides: [x_stride, x_stride, out_stride, out_stride],
                extents,
            };
            self.launch(kernel, down * across, "gemm", &args);
        }
        let all = Self::get(kernel, out, (rows + GUARDS) * strides.1);
        let mut values = Vec::new();
        for (i, row) in all.chunks_exact(strides.1).enumerate() {
            let used = if i < rows { columns } else { 0 };
            values.extend_from_slice(&row[..used]);
            assert!(row[used..].iter().all(|x| x.is_nan()), "{kernel:?} writes beyond row {i}");
        }
        for pointer in [x, w, out, bias].into_iter().chain((other != out).then_some(other)) {
            if pointer != 0 {
                // SAFETY: allocated above, and no work is queued.
                unsafe { result::free_sync(pointer) }.expect("it was allocated");
            }
        }
        values
    }

    fn launch<A>(&self, kernel: Kernel, blocks: u32, stem: &str, args: &A) {
        let path = Fake::images().join(format!("{stem}.bin"));
        let image = std::fs::read(&path).expect("the image of the kernel");
        let mut parameters = [std::ptr::from_ref(args).cast_mut().cast::<c_void>()];
        // SAFETY: the struct is the one that the kernel takes; its pointers have the sizes it says.
        let done = unsafe {
            let module = result::module::load_data(image.as_ptr().cast()).expect("an image");
            let name = CString::new(kernel.name).expect("a plain name");
            let function = result::module::get_function(module, name).expect("it has the kernel");
            let what = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let shared = kernel.shared as u32;
            result::function::set_function_attribute(function, what, shared.cast_signed())
                .expect("a size that the device has");
            let (grid, block) = ((blocks, 1, 1), (kernel.threads, 1, 1));
            let stream = std::ptr::null_mut();
            result::launch_kernel(function, grid, block, shared, stream, &mut parameters)
                .and_then(|()| result::stream::synchronize(stream))
        };
        assert!(done.is_ok(), "{kernel:?}: {}", self.fake.last_report());
    }
}

/// Boxes of so many rows of 64 elements, in the 128-byte swizzle.
fn map(start: u64, shape: (usize, usize, usize), rows: usize) -> sys::CUtensorMap {
    let mut map = sys::CUtensorMap { opaque: [0; 16] };
    // SAFETY: arrays of rank 2 that live through the call.
    let done = unsafe {
        sys::cuTensorMapEncodeTiled(
            &raw mut map,
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            2,
            start as *mut c_void,
            [shape.1 as u64, shape.0 as u64].as_ptr(),
            [shape.2 as u64 * 2].as_ptr(),
            [64, rows as u32].as_ptr(),
            [1, 1].as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    };
    assert_eq!(done, sys::CUresult::CUDA_SUCCESS);
    map
}

/// Rows, columns, inner: one of each, odd ones, ends of tiles and of steps, many of one.
const SHAPES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (7, 3, 5),
    (129, 257, 65),
    (64, 1003, 40),
    (33, 2, 200),
    (130, 1, 72),
    (5, 255, 8),
    (31, 64, 16),
    (2, 130, 127),
    (128, 256, 64),
    (260, 300, 33),
    (1, 520, 328),
];

#[test]
fn products_of_all_shapes_are_right() {
    let Some(device) = Device::new() else { return };
    for kernel in kernels() {
        for (i, shape) in SHAPES.into_iter().enumerate() {
            Product::new(kernel, shape, i as u32 % 3).check(&device, kernel);
        }
    }
}

#[test]
fn epilogues_are_right() {
    let Some(device) = Device::new() else { return };
    for kernel in kernels() {
        for epilogue in PLAIN..ACTIVATE + 5 {
            for shape in [(37, 71, 24), (140, 1, 16), (9, 136, 80)] {
                Product::new(kernel, shape, epilogue).check(&device, kernel);
            }
        }
    }
}

#[test]
fn bits_of_a_row_do_not_depend_on_the_others() {
    let Some(device) = Device::new() else { return };
    for kernel in kernels() {
        let all = Product::new(kernel, (133, 150, 200), ACTIVATE + 1);
        let want = device.multiply(kernel, &all);
        for (first, rows) in [(0, 5), (37, 96), (132, 1)] {
            let mut part = all.clone();
            part.rows = rows;
            part.x = all.x[first * all.inner..][..rows * all.inner].to_vec();
            part.other = all.other[first * all.columns..][..rows * all.columns].to_vec();
            let ours = device.multiply(kernel, &part);
            let want = &want[first * all.columns..][..rows * all.columns];
            assert!(ours.iter().zip(want).all(|(a, b)| a.to_bits() == b.to_bits()), "{kernel:?}");
        }
    }
}

#[test]
fn tiles_of_a_kind_give_the_same_bits() {
    let Some(device) = Device::new() else { return };
    for pair in [F32, BF16, HOPPER] {
        for shape in [(133, 150, 200), (40, 300, 50)] {
            let product = Product::new(pair[0], shape, PLAIN);
            let out = pair.map(|kernel| device.multiply(kernel, &product));
            assert!(
                out[0].iter().zip(&out[1]).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{pair:?}"
            );
        }
    }
}

#[test]
fn the_order_of_threads_changes_nothing() {
    let Some(device) = Device::new() else { return };
    for kernel in kernels() {
        let product = Product::new(kernel, (150, 290, 330), ADD);
        let want = device.multiply(kernel, &product);
        for order in [Order::Reverse, Order::Random(1), Order::Random(2), Order::Random(3)] {
            device.fake.set_order(Some(order));
            let ours = device.multiply(kernel, &product);
            device.fake.set_order(None);
            let same = ours.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{kernel:?} in {order:?}");
        }
    }
}
