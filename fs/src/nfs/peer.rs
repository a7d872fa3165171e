//! Who is at the other end of a connection on this machine.
//!
//! NFS believes what a caller says about itself. On loopback the kernel knows better: each socket has an owner. A connection is
//! served if its socket belongs to root (a kernel's own client does) or to a user whose calls are served; so another
//! user of this machine cannot pass for them.

use super::server::Admission;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The kernel's lists of TCP sockets.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Whether a connection on loopback may be served.
pub(super) fn is_trusted(peer: SocketAddr, own: SocketAddr, admission: &Admission) -> bool {
    let Admission::Only(users) = admission else {
        return true;
    };
    let tables: Vec<String> = TABLES
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .collect();
    if tables.is_empty() {
        // A system without these lists (macOS): there is nothing to ask.
        return true;
    }
    let owner = tables.iter().find_map(|table| owner(table, peer, own));
    owner.is_some_and(|uid| uid == 0 || users.contains(&uid))
}

/// The owner of the socket that is bound to `local` and connected to `remote`.
fn owner(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let ends = (parse(fields.get(1)?)?, parse(fields.get(2)?)?);
        let wanted = (canonical(local), canonical(remote));
        (ends == wanted).then(|| fields.get(7)?.parse().ok()).flatten()
    })
}

fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

/// `0100007F:4E20`: words of the address in the machine's order, and the port.
fn parse(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let words = (0..address.len() / 8).map(|at| u32::from_str_radix(address.get(8 * at..8 * at + 8)?, 16).ok());
    let bytes: Vec<u8> = words
        .collect::<Option<Vec<u32>>>()?
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some((ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:8235 0100007F:4E20 01 00000000:00000000 00:00000000 00000000  1000        0 2 1 0 20 4 30 10 -1
   2: 0000000000000000FFFF00000100007F:8236 0000000000000000FFFF00000100007F:4E20 01 0:0 00:0 0  1001        0 3
";

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[test]
    fn the_owner_of_the_other_end_is_found() {
        assert_eq!(owner(TABLE, at(0x8235), at(0x4e20)), Some(1000));
        assert_eq!(owner(TABLE, at(0x8236), at(0x4e20)), Some(1001));
        assert_eq!(owner(TABLE, at(0x8237), at(0x4e20)), None);
        assert_eq!(owner("", at(1), at(2)), None);
    }
}
