//! Facts about a network device, asked by ioctl in the calling thread's network namespace (netdevice(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::sys::{check, socket};

/// Index of the device called `name`.
///
/// # Errors
/// ENODEV when there is none, EINVAL when the name is empty or longer than 15 bytes.
pub fn index(name: &str) -> io::Result<u32> {
    let mut request = request(name)?;
    call(libc::SIOCGIFINDEX, &mut request)?;
    // SAFETY: SIOCGIFINDEX fills this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
}

/// Name of the device with this index.
///
/// # Errors
/// ENODEV when there is none.
pub fn name(index: u32) -> io::Result<String> {
    let mut request = request("-")?;
    request.ifr_ifru.ifru_ifindex = index as i32;
    call(libc::SIOCGIFNAME, &mut request)?;
    let bytes: Vec<u8> = request.ifr_name.iter().map(|&c| c as u8).take_while(|&b| b != 0).collect();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Hardware address of an Ethernet device.
///
/// # Errors
/// ENODEV when there is no such device.
pub fn mac(name: &str) -> io::Result<[u8; 6]> {
    let mut request = request(name)?;
    call(libc::SIOCGIFHWADDR, &mut request)?;
    // SAFETY: SIOCGIFHWADDR fills this member of the union.
    let data = unsafe { request.ifr_ifru.ifru_hwaddr }.sa_data;
    Ok(std::array::from_fn(|n| data[n] as u8))
}

/// Largest packet of the device in bytes, without the Ethernet header.
///
/// # Errors
/// ENODEV when there is no such device.
pub fn mtu(name: &str) -> io::Result<u32> {
    let mut request = request(name)?;
    call(libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: SIOCGIFMTU fills this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
}

/// A request that names a device.
pub(crate) fn request(name: &str) -> io::Result<libc::ifreq> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: all-zero is a valid ifreq: integers, and a union of them with one null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// One of the requests above, on a socket of this namespace.
fn call(command: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: the SIOCGIF* commands read and write one ifreq.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), command, std::ptr::from_mut(request)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_known() {
        let lo = index("lo").unwrap();
        assert_eq!(name(lo).unwrap(), "lo");
        assert_eq!(mac("lo").unwrap(), [0; 6]);
        assert!(mtu("lo").unwrap() >= 1500);
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert_eq!(index("no-such-dev").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert!(name(0).is_err() && name(u32::MAX).is_err());
        for bad in ["", "a-name-beyond-15"] {
            assert_eq!(mtu(bad).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
    }
}
