//! Asking the processor for a cache line ahead of its use.

/// Begins to load the first cache line of `what`, and returns at once.
#[inline]
pub fn prefetch_read<T: ?Sized>(what: &T) {
    let address = std::ptr::from_ref(what).cast::<i8>();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint that changes no state a program can see; SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address);
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch is a hint that changes no state a program can see.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
