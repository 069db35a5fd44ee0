//! One GPU as the operations see it: its streams, memory and kernels, and its first failure.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::arena::{Arena, Buffer};
use super::driver::{self, Answer, Function, Module, Primary, Ptr, Stream, TensorMap};
use super::images::Images;
use super::upload::Uploads;
use crate::error::{Error, Result};

/// Dynamic shared memory that needs no permission.
const FREE_SHARED: u32 = 48 << 10;

/// A struct that a kernel takes: `#[repr(C)]`, field by field as in the `.cu` file.
///
/// # Safety
/// No references, and every pointer in it is a [`Ptr`] to this device.
#[expect(unsafe_code, reason = "kernels read it as it lies in memory")]
pub(super) unsafe trait Args: Copy {}

/// The argument struct of a kernel; the tests compare its fields with those in `kernels/`.
macro_rules! args {
    ($(#[$meta:meta])* struct $name:ident { $($field:ident: $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub(super) struct $name { $(pub(super) $field: $ty),* }
        // SAFETY: plain numbers and device addresses.
        #[expect(unsafe_code, reason = "kernels read it as it lies in memory")]
        unsafe impl $crate::device::cuda::context::Args for $name {}
    };
}
pub(super) use args;

/// An entry point with what its image publishes.
#[derive(Debug)]
struct Entry {
    function: Function,
    /// Bytes of its argument struct.
    args: u32,
    threads: u32,
    /// Dynamic shared memory it may have so far.
    shared: AtomicU32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Context {
    name: String,
    arch: (u32, u32),
    processors: u32,
    shared_memory: u32,
    compute: Stream,
    copy: Stream,
    kernels: HashMap<&'static str, Entry>,
    _modules: Vec<Module>,
    uploads: Mutex<Uploads>,
    failure: Mutex<Option<Error>>,
    arena: Arc<Arena>,
    primary: Arc<Primary>,
}

impl Context {
    /// Opens a device that the probe has found and loads its kernels.
    pub(super) fn open(index: u32, images: &Images) -> Result<Self> {
        let name = format!("cuda:{index}");
        let fail = |failure: driver::Failure| failure.of_device(&name);
        let device = driver::device(index).map_err(fail)?;
        let arch = driver::device_arch(device).map_err(fail)?;
        let processors = driver::processors(device).map_err(fail)?;
        let shared_memory = driver::shared_memory(device).map_err(fail)?;
        let primary = Arc::new(driver::Primary::retain(device).map_err(fail)?);
        primary.enter().map_err(fail)?;
        let (mut kernels, mut modules) = (HashMap::new(), Vec::new());
        for (stem, image) in images.load(arch)? {
            let module = Module::load(&image).map_err(|failure| match failure.is_memory() {
                true => fail(failure),
                false => Error::Device {
                    device: name.clone(),
                    what: format!("kernels/{}.cu: {failure}", stem.name),
                },
            })?;
            for kernel in stem.kernels {
                kernels.insert(*kernel, entry(&module, kernel).map_err(fail)?);
            }
            modules.push(module);
        }
        Ok(Self {
            arch,
            processors,
            shared_memory,
            compute: Stream::new().map_err(fail)?,
            copy: Stream::new().map_err(fail)?,
            kernels,
            _modules: modules,
            uploads: Mutex::new(Uploads::new().map_err(fail)?),
            failure: Mutex::new(None),
            arena: Arc::new(Arena::new(name.clone(), Arc::clone(&primary))),
            primary,
            name,
        })
    }

    /// "cuda:0".
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Compute capability.
    pub(super) fn arch(&self) -> (u32, u32) {
        self.arch
    }

    /// Multiprocessors.
    pub(super) fn processors(&self) -> u32 {
        self.processors
    }

    /// Most dynamic shared memory of a block.
    pub(super) fn shared_memory(&self) -> u32 {
        self.shared_memory
    }

    /// Memory of exactly so many bytes, not initialised.
    pub(super) fn buffer(&self, bytes: usize) -> Result<Buffer> {
        self.arena.buffer(bytes)
    }

    /// Memory for what one operation keeps between its kernels. Its size is rounded up to a power of
    /// two, so that batches of every size ask for few. A failure is told by [`Self::check`].
    pub(super) fn scratch(&self, bytes: usize) -> Option<Buffer> {
        if self.has_failed() {
            return None;
        }
        let buffer = self.buffer(bytes.next_power_of_two());
        buffer.map_err(|error| self.fail(error)).ok()
    }

    /// Memory that holds these values.
    pub(super) fn buffer_of<T: bytemuck::Pod>(&self, values: &[T]) -> Result<Buffer> {
        let buffer = self.buffer(size_of_val(values))?;
        self.write(&buffer, values)?;
        Ok(buffer)
    }

    /// Sets the first values of a buffer, once everything queued before is done.
    pub(super) fn write<T: bytemuck::Pod>(&self, buffer: &Buffer, values: &[T]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        assert!(bytes.len() <= buffer.bytes());
        if bytes.is_empty() {
            return Ok(());
        }
        self.now(|| {
            // SAFETY: the buffer has the values' size, and the copy is waited for.
            #[expect(unsafe_code, reason = "a copy")]
            unsafe { self.compute.upload(bytes, buffer.start()) }?;
            self.compute.wait()
        })
    }

    /// Sets every 4-byte word of a buffer.
    pub(super) fn fill_words(&self, buffer: &Buffer, value: u32) -> Result<()> {
        self.now(|| {
            // SAFETY: the buffer's own size.
            #[expect(unsafe_code, reason = "writes device memory")]
            unsafe {
                self.compute.fill_words(buffer.start(), value, buffer.bytes() / 4)
            }
        })
    }

    /// The first values of a buffer, once everything queued before is done.
    pub(super) fn download<T: bytemuck::Pod>(&self, buffer: &Buffer, out: &mut [T]) -> Result<()> {
        self.check()?;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(out);
        assert!(bytes.len() <= buffer.bytes());
        if bytes.is_empty() {
            return Ok(());
        }
        self.now(|| {
            // SAFETY: the buffer holds as many bytes, and the copy is waited for.
            #[expect(unsafe_code, reason = "a copy")]
            unsafe { self.compute.download(buffer.start(), bytes) }?;
            self.compute.wait()
        })
    }

    /// Queues a copy between buffers of this device.
    pub(super) fn copy(&self, from: &Buffer, to: &Buffer, bytes: usize) {
        assert!(bytes <= from.bytes() && bytes <= to.bytes());
        assert!(from.start() != to.start(), "a buffer is not copied onto itself");
        if bytes == 0 {
            return;
        }
        self.queue(|| {
            // SAFETY: both hold as many bytes, and are not the same.
            #[expect(unsafe_code, reason = "a copy")]
            unsafe {
                self.compute.copy(from.start(), to.start(), bytes)
            }
        });
    }

    /// A list of the batch that runs, on the device until the batch after next. A list that this
    /// batch has sent before is not sent again.
    pub(super) fn upload<T: bytemuck::Pod>(&self, list: &[T]) -> Ptr {
        let bytes: &[u8] = bytemuck::cast_slice(list);
        if self.has_failed() || bytes.is_empty() {
            return Ptr::NULL;
        }
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = self.enter().and_then(|()| {
            let streams = (&self.copy, &self.compute);
            let room = uploads.reserve(bytes.len(), &self.arena, streams)?;
            room.and_then(|()| uploads.send(bytes, streams)).map_err(|failure| self.error(&failure))
        });
        sent.unwrap_or_else(|error| {
            self.fail(error);
            Ptr::NULL
        })
    }

    /// Queues a kernel. Passes over it if the device has failed, or where there is nothing to do.
    ///
    /// # Safety
    /// Whatever the kernel reads and writes through `args` lies within buffers of this device that
    /// are held until work queued later needs them.
    #[expect(unsafe_code, reason = "kernels write where their arguments point")]
    pub(super) unsafe fn launch<A: Args>(
        &self,
        name: &'static str,
        (grid, shared): ([u32; 3], u32),
        args: &A,
    ) {
        if grid.contains(&0) || self.has_failed() {
            return;
        }
        let entry = self.kernels.get(name).unwrap_or_else(|| panic!("no kernel {name}"));
        assert_eq!(entry.args as usize, size_of::<A>(), "{name}: the argument structs differ");
        self.queue(|| {
            if shared > FREE_SHARED && entry.shared.load(Ordering::Relaxed) < shared {
                entry.function.allow_shared(shared)?;
                entry.shared.store(shared, Ordering::Relaxed);
            }
            // SAFETY: the struct has the size the image publishes; the rest is the caller's.
            unsafe { self.compute.launch(&entry.function, (grid, entry.threads, shared), args) }
        });
    }

    /// Describes a bf16 matrix for the copy engine, see [`driver::tensor_map`].
    pub(super) fn tensor_map(
        &self,
        start: Ptr,
        shape: (usize, usize, usize),
        box_rows: u32,
    ) -> TensorMap {
        driver::tensor_map(start, shape, box_rows).unwrap_or_else(|failure| {
            self.fail(self.error(&failure));
            TensorMap::default()
        })
    }

    /// Ends a batch: its lists may be overwritten once it is done, and the batch before is done now.
    pub(super) fn end_batch(&self) -> Result<()> {
        self.check()?;
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let flipped = self.now(|| uploads.flip(&self.compute));
        drop(uploads);
        flipped
    }

    /// Until everything queued is done.
    pub(super) fn wait(&self) -> Result<()> {
        self.check()?;
        self.now(|| self.compute.wait())
    }

    /// The first failure, if there was one. It stays.
    pub(super) fn check(&self) -> Result<()> {
        match &*self.failure() {
            None => Ok(()),
            Some(Error::DeviceMemory { device, what }) => {
                Err(Error::DeviceMemory { device: device.clone(), what: what.clone() })
            }
            Some(error) => Err(Error::Device { device: self.name.clone(), what: message(error) }),
        }
    }

    fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_failed(&self) -> bool {
        self.failure().is_some()
    }

    /// Keeps the first failure.
    fn fail(&self, error: Error) {
        self.failure().get_or_insert(error);
    }

    fn error(&self, failure: &driver::Failure) -> Error {
        failure.of_device(&self.name)
    }

    fn enter(&self) -> Result<()> {
        self.primary.enter().map_err(|failure| self.error(&failure))
    }

    /// Asks something of the driver whose failure is told now, and kept.
    fn now(&self, ask: impl FnOnce() -> Answer<()>) -> Result<()> {
        let answer = self.primary.enter().and_then(|()| ask());
        answer.map_err(|failure| {
            self.fail(self.error(&failure));
            self.error(&failure)
        })
    }

    /// Queues work whose failure is told by [`Self::check`].
    fn queue(&self, ask: impl FnOnce() -> Answer<()>) {
        if !self.has_failed()
            && let Err(failure) = self.primary.enter().and_then(|()| ask())
        {
            self.fail(self.error(&failure));
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // Copies under way read the page-locked memory that is about to go.
        if self.primary.enter().is_ok() {
            let waited = self.copy.wait().and_then(|()| self.compute.wait());
            if let Err(failure) = waited {
                tracing::debug!(%failure, device = self.name, "closing");
            }
        }
    }
}

/// What a kernel's image publishes: the size of its arguments, and its threads.
fn entry(module: &Module, kernel: &str) -> Answer<Entry> {
    let (address, _) = module.global(&format!("{kernel}_published"))?;
    let mut published = [0_u32; 2];
    driver::read_now(address, bytemuck::cast_slice_mut(&mut published))?;
    Ok(Entry {
        function: module.function(kernel)?,
        args: published[0],
        threads: published[1],
        shared: AtomicU32::new(FREE_SHARED),
    })
}

fn message(error: &Error) -> String {
    match error {
        Error::Device { what, .. } => what.clone(),
        other => other.to_string(),
    }
}
