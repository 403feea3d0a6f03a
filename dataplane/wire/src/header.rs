//! What all header views share: a fixed size, no alignment, and a checked cast from the front of a slice.

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A fixed-size header that can be viewed in place at any address.
pub trait Header: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + Sized {
    /// Length of the header in bytes, without options.
    const LEN: usize = size_of::<Self>();

    /// The header at the front of `bytes`; `None` when `bytes` is shorter than the header.
    #[inline]
    fn of(bytes: &[u8]) -> Option<&Self> {
        Self::ref_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    /// Like [`Header::of`], to be changed in place.
    #[inline]
    fn of_mut(bytes: &mut [u8]) -> Option<&mut Self> {
        Self::mut_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    /// Copies the header to the front of `out`.
    ///
    /// # Errors
    /// [`NoRoom`] when `out` is shorter than the header; nothing is written then.
    #[inline]
    fn put(&self, out: &mut [u8]) -> Result<(), NoRoom> {
        let have = out.len();
        self.write_to_prefix(out).map_err(|_| NoRoom { need: Self::LEN, have })
    }
}

/// The output buffer of a builder is too short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the packet needs {need} bytes and the buffer has {have}: pass a larger buffer")]
pub struct NoRoom {
    /// Bytes that the builder wants to write.
    pub need: usize,
    /// Bytes of the buffer passed.
    pub have: usize,
}
