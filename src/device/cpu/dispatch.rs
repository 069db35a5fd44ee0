//! One loop, compiled three times: for AVX-512, for AVX2, and for any machine. The first call asks
//! the processor; the loops themselves are plain Rust that the compiler vectorises. Rust never
//! contracts a product and a sum into one rounding, so all versions give the same bits.
//!
//! Small functions are written with `multiversion!`, work with state is a `Kernel`.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls code compiled for features that were just detected")
)]

/// Defines functions whose body is compiled for each instruction set and chosen at run time.
macro_rules! multiversion {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[inline]
        #[cfg_attr(
            target_arch = "x86_64",
            expect(unsafe_code, reason = "calls code compiled for features that were just detected")
        )]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2,popcnt")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma,bmi2,popcnt")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                match $crate::device::cpu::dispatch::level() {
                    // SAFETY: `level` has found these features on this processor.
                    $crate::device::cpu::dispatch::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::device::cpu::dispatch::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::device::cpu::dispatch::Level::Portable => {}
                }
            }
            body($($arg),*)
        }
    )*};
}
pub(crate) use multiversion;

/// An instruction set that loops are compiled for; each has those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Whatever the target guarantees.
    Portable,
    /// 256-bit vectors.
    Avx2,
    /// 512-bit vectors.
    Avx512,
}

impl Level {
    /// Those of this machine, widest first.
    pub fn all() -> impl Iterator<Item = Self> {
        let best = level();
        [Self::Avx512, Self::Avx2, Self::Portable].into_iter().filter(move |one| *one <= best)
    }
}

/// The widest of this machine; asked once.
pub fn level() -> Level {
    static LEVEL: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
    *LEVEL.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx512 && avx2, avx2) {
        (true, _) => Level::Avx512,
        (false, true) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

/// A piece of work that is compiled once per instruction set.
pub(crate) trait Kernel {
    /// Does the work. Must be `#[inline(always)]`, as everything hot that it calls: only what is
    /// inlined into the functions of [`dispatch`] is compiled with their instruction sets.
    fn run(self);
}

/// Runs `kernel` with an instruction set of this machine.
pub(crate) fn dispatch(with: Level, kernel: impl Kernel) {
    assert!(with <= level(), "{with:?} on a machine without it");
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2,popcnt")]
        fn avx512(kernel: impl Kernel) {
            kernel.run();
        }
        #[target_feature(enable = "avx2,fma,bmi2,popcnt")]
        fn avx2(kernel: impl Kernel) {
            kernel.run();
        }
        match with {
            // SAFETY: `level` has found these features on this processor.
            Level::Avx512 => return unsafe { avx512(kernel) },
            // SAFETY: as above.
            Level::Avx2 => return unsafe { avx2(kernel) },
            Level::Portable => {}
        }
    }
    kernel.run();
}
