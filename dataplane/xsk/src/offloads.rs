//! A device's offloads, read and switched by name, as `ethtool -k` and `-K` do (SIOCETHTOOL of
//! linux/ethtool.h), in the calling thread's network namespace.
//!
//! The kernel names every feature; what a kernel does not know is reported, not an error, so that one list
//! serves all versions.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::device::request;
use crate::sys::{check, socket};

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// What became of a [`set`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Features this kernel does not know.
    pub unknown: Vec<String>,
    /// Features that are still not as asked for: fixed by the driver, or another one needs them.
    pub refused: Vec<String>,
}

/// All features of device `name` by the kernel's names (`tx-udp-segmentation`), and whether they are on.
///
/// # Errors
/// ENODEV when there is no such device.
pub fn get(name: &str) -> io::Result<BTreeMap<String, bool>> {
    let names = feature_names(name)?;
    let blocks = features(name, names.len())?;
    let on = |n: usize| blocks[n / 32].active & 1 << (n % 32) != 0;
    Ok(names.into_iter().enumerate().filter(|(_, f)| !f.is_empty()).map(|(n, f)| (f, on(n))).collect())
}

/// Switches features of device `name` on or off, all in one request; those already so are left alone.
///
/// # Errors
/// ENODEV when there is no such device, EPERM without CAP_NET_ADMIN.
pub fn set(name: &str, wanted: &[(&str, bool)]) -> io::Result<Outcome> {
    let names = feature_names(name)?;
    let mut blocks = vec![[0u32; 2]; names.len().div_ceil(32)]; // valid, requested
    let mut outcome = Outcome::default();
    for &(feature, on) in wanted {
        match names.iter().position(|n| n == feature) {
            Some(n) => {
                blocks[n / 32][0] |= 1 << (n % 32);
                blocks[n / 32][1] |= u32::from(on) << (n % 32);
            }
            None => outcome.unknown.push(feature.into()),
        }
    }
    let mut command = vec![ETHTOOL_SFEATURES, blocks.len() as u32];
    command.extend(blocks.iter().flatten());
    ethtool(name, &mut command)?;
    let now = get(name)?;
    outcome.refused = wanted
        .iter()
        .filter(|(f, on)| now.get(*f).is_some_and(|is| is != on))
        .map(|(f, _)| (*f).into())
        .collect();
    Ok(outcome)
}

/// `struct ethtool_get_features_block`, of which one stands for 32 features.
struct Block {
    active: u32,
}

fn features(name: &str, count: usize) -> io::Result<Vec<Block>> {
    let blocks = count.div_ceil(32);
    let mut command = vec![0u32; 2 + 4 * blocks];
    command[..2].copy_from_slice(&[ETHTOOL_GFEATURES, blocks as u32]);
    ethtool(name, &mut command)?;
    // Each block: available, requested, active, never_changed.
    Ok(command[2..].chunks_exact(4).map(|block| Block { active: block[2] }).collect())
}

/// Names in the order of the bits; unused bits have empty ones.
fn feature_names(name: &str) -> io::Result<Vec<String>> {
    // struct ethtool_sset_info: cmd, reserved, sset_mask (u64), data[].
    let mut command = vec![0u32; 5];
    command[0] = ETHTOOL_GSSET_INFO;
    command[2..4].copy_from_slice(&words(1 << ETH_SS_FEATURES));
    ethtool(name, &mut command)?;
    let count = command[4] as usize;
    // struct ethtool_gstrings: cmd, string_set, len, data[].
    let mut command = vec![0u32; 3 + count * ETH_GSTRING_LEN / 4];
    command[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32]);
    ethtool(name, &mut command)?;
    let bytes: Vec<u8> = command[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let text = |string: &[u8]| {
        let end = string.iter().position(|&b| b == 0).unwrap_or(string.len());
        String::from_utf8_lossy(&string[..end]).into_owned()
    };
    Ok(bytes.chunks_exact(ETH_GSTRING_LEN).map(text).collect())
}

/// A u64 as the two words it occupies in memory.
pub(crate) fn words(value: u64) -> [u32; 2] {
    let bytes = value.to_ne_bytes();
    let word = |n: usize| u32::from_ne_bytes([bytes[n], bytes[n + 1], bytes[n + 2], bytes[n + 3]]);
    [word(0), word(4)]
}

/// One ethtool command; `command` is its struct as words, with the lengths the kernel shall fill inside it.
pub(crate) fn ethtool(name: &str, command: &mut [u32]) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = command.as_mut_ptr().cast();
    // SAFETY: the request points to the command's struct, which is as long as its count fields say; the
    // kernel reads and writes no more than that.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCETHTOOL, &raw mut request) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_have_the_names_ethtool_uses() {
        let features = get("lo").unwrap();
        assert_eq!(features.get("loopback"), Some(&true));
        assert!(features.contains_key("tx-udp-segmentation"));
    }

    #[test]
    fn unknown_and_fixed_features_are_reported() {
        let outcome = set("lo", &[("tx-no-such-thing", false), ("loopback", true)]).unwrap();
        assert_eq!(outcome, Outcome { unknown: vec!["tx-no-such-thing".into()], refused: vec![] });
        assert_eq!(get("no-such-dev").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
