//! Switches the loopback interface on: programs expect `127.0.0.1` to answer.

use rustix::io::Result;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

/// `RTM_NEWLINK` of `linux/rtnetlink.h`.
const RTM_NEWLINK: u16 = 16;
/// `NLM_F_REQUEST` of `linux/netlink.h`.
const NLM_F_REQUEST: u16 = 1;
/// `IFF_UP` of `linux/if.h`.
const IFF_UP: u32 = 1;
/// The kernel creates `lo` first in every network namespace.
const LOOPBACK_INDEX: i32 = 1;

/// Sets the interface `lo` up with one rtnetlink message. No error matters: a
/// kernel without networking has no loopback to switch on.
pub fn switch_on() -> Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is protocol 0.
        None,
    )?;
    let kernel = SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &message(), SendFlags::empty(), &kernel)?;
    Ok(())
}

/// `struct nlmsghdr` (16 bytes) and `struct ifinfomsg` (16 bytes).
fn message() -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes()); // sequence number
    message.extend(0_u32.to_ne_bytes()); // port: the kernel fills it in
    message.extend([0_u8; 2]); // family (unspecified), padding
    message.extend(0_u16.to_ne_bytes()); // device type
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes()); // flags
    message.extend(IFF_UP.to_ne_bytes()); // which of them to change
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_as_long_as_its_header_says() {
        assert_eq!(message().len(), 32);
    }
}
