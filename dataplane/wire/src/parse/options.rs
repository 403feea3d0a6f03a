//! The check of IPv4 options (RFC 791, 3.1; RFC 7126).
//!
//! The dataplane does not act on options: it forwards those that are well-formed and refuses source routing.

use super::ParseError;

const END: u8 = 0;
const NOP: u8 = 1;
/// Loose source and record route.
const LSRR: u8 = 131;
/// Strict source and record route.
const SSRR: u8 = 137;

/// Checks the bytes between the fixed header and the payload.
pub(super) fn check(options: &[u8]) -> Result<(), ParseError> {
    let mut rest = options;
    loop {
        rest = match *rest {
            [] | [END, ..] => return Ok(()),
            [NOP, ref rest @ ..] => rest,
            [LSRR | SSRR, ..] => return Err(ParseError::SourceRoute),
            [_, len, ..] if len >= 2 => rest.get(usize::from(len)..).ok_or(ParseError::BadOptions)?,
            _ => return Err(ParseError::BadOptions),
        };
    }
}
