//! What happens where a mapped file has lost bytes that are read: the system raises SIGBUS, and the
//! program ends as for any other damaged input, with the file named, instead of with a signal.
#![expect(unsafe_code, reason = "a signal's handler, and the address that it was raised for")]

use std::ffi::c_int;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::error::DAMAGED;

/// Maps that are known by name; what is mapped beyond them is not named.
const PLACES: usize = 256;

/// A map as a signal's handler may read it: numbers only, no lock.
struct Place {
    first: AtomicUsize,
    bytes: AtomicUsize,
    name: AtomicPtr<u8>,
    length: AtomicUsize,
}

static MAPPED: [Place; PLACES] = [const {
    Place {
        first: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        name: AtomicPtr::new(ptr::null_mut()),
        length: AtomicUsize::new(0),
    }
}; PLACES];

/// A map that is named if it fails; forgotten when dropped.
pub(super) struct Watched {
    place: &'static Place,
    _name: Box<[u8]>,
}

impl Watched {
    /// `None` where every place is taken.
    pub(super) fn new(path: &Path, map: &[u8]) -> Option<Self> {
        let mut name = path.to_string_lossy().into_owned().into_bytes().into_boxed_slice();
        let first = map.as_ptr() as usize;
        // Whoever takes a place owns it; `bytes` says that the rest of it is there.
        let take = |place: &&Place| {
            place.first.compare_exchange(0, first, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let place = MAPPED.iter().find(take)?;
        place.name.store(name.as_mut_ptr(), Ordering::Relaxed);
        place.length.store(name.len(), Ordering::Relaxed);
        place.bytes.store(map.len(), Ordering::Release);
        Some(Self { place, _name: name })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.place.bytes.store(0, Ordering::Release);
        self.place.first.store(0, Ordering::Release);
    }
}

/// Ends the process with exit code 65 and the file's name where a mapped file has lost the bytes
/// that are read, or its disk cannot read them. For programs: it takes the process's SIGBUS.
pub fn end_where_files_shrink() {
    // SAFETY: the action is plain data, zero is "no flags, nothing blocked", and the handler only
    // calls what POSIX allows in one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
    }
}

extern "C" fn handle(_: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system passes a valid record, and SIGBUS has an address.
    let at = unsafe { (*info).si_addr() } as usize;
    let holds = |place: &&Place| {
        let bytes = place.bytes.load(Ordering::Acquire);
        at.wrapping_sub(place.first.load(Ordering::Relaxed)) < bytes
    };
    let Some(place) = MAPPED.iter().find(holds) else {
        // Not a file of ours: the same fault again, with what the system does by itself.
        // SAFETY: both calls are allowed in a handler.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        return;
    };
    let (name, length) = (place.name.load(Ordering::Relaxed), place.length.load(Ordering::Relaxed));
    let after: &[u8] = b": it lost bytes, or they cannot be read, while it was in use\n  remedy: \
leave model files alone during a run, check them, and run again\n";
    // SAFETY: the thread that failed reads this map, so its owner lives, and its name with it;
    // writing and leaving are allowed in a handler.
    unsafe {
        for (text, length) in
            [(b"error: ".as_ptr(), 7), (name, length), (after.as_ptr(), after.len())]
        {
            // Nothing can be done about a closed stderr, least of all here.
            let _ = libc::write(libc::STDERR_FILENO, text.cast(), length);
        }
        libc::_exit(c_int::from(DAMAGED));
    }
}
