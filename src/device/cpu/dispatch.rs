//! One loop, compiled three times: for AVX-512, for AVX2 with FMA, and for any machine. The first
//! call asks the processor; the loops themselves are plain Rust that the compiler vectorises.
/// Defines functions whose body is compiled for each instruction set and chosen at run time.
///
/// The body must be the same arithmetic in each; FMA is never formed by the compiler on its own,
/// so the bits do not depend on the choice.
macro_rules! multiversion {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[inline]
        #[allow(unsafe_code, reason = "calls a function compiled for a feature just detected")]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
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

/// What the processor can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// 512-bit vectors.
    Avx512,
    /// 256-bit vectors with FMA.
    Avx2,
    /// Whatever the target guarantees.
    Portable,
}

/// The best level of this machine; asked once.
pub fn level() -> Level {
    static LEVEL: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
    *LEVEL.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
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
