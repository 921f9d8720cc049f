//! What listens in a network namespace, as its kernel tells.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use images::{Class, Error, Result};

/// A socket that takes connections or datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Where it is bound to.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, std::net::SocketAddr::new(self.address, self.port))
    }
}

/// What listens in the network namespace of a process, sorted: over TCP what takes connections, over UDP what has no peer.
pub fn of_process(pid: u64) -> Result<Vec<Listener>> {
    let mut found = Vec::new();
    for (table, protocol, state) in [("tcp", "tcp", "0A"), ("tcp6", "tcp", "0A"), ("udp", "udp", "07"), ("udp6", "udp", "07")] {
        let path = format!("/proc/{pid}/net/{table}");
        let text = fs_err::read_to_string(&path)?;
        for line in text.lines().skip(1) {
            let other = || Error::new(Class::Build, format!("{path} has another form than expected")).detail(line.to_owned());
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, found_state, ..] = words.as_slice() else { return Err(other()) };
            if *found_state == state {
                let (address, port) = local_address(local).ok_or_else(other)?;
                found.push(Listener { protocol, address, port });
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// The kernel writes addresses as words of the machine: on most, 127.0.0.11 is `0B00007F`.
fn local_address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let words: Vec<[u8; 4]> = (0..address.len().div_ceil(8))
        .map(|at| address.get(at * 8..at * 8 + 8).and_then(|word| u32::from_str_radix(word, 16).ok()).map(u32::to_ne_bytes))
        .collect::<Option<_>>()?;
    let address = match words.as_slice() {
        [word] => Ipv4Addr::from(*word).into(),
        [_, _, _, _] => Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).into(),
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_are_read_as_the_kernel_writes_them() {
        assert_eq!(local_address("0B00007F:0035"), Some(("127.0.0.11".parse().unwrap(), 53)));
        assert_eq!(local_address("00000000000000000000000001000000:1538"), Some(("::1".parse().unwrap(), 5432)));
        assert_eq!(local_address("0B00007F0B:0035"), None);
        assert_eq!(local_address("0B00007F"), None);
    }

    #[test]
    fn what_this_process_listens_on_is_found_and_nothing_when_it_has_ended() {
        let own = || of_process(std::process::id().into()).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let wanted = Listener { protocol: "udp", address: Ipv4Addr::LOCALHOST.into(), port: socket.local_addr().unwrap().port() };
        assert!(own().contains(&wanted), "{wanted} is not in {:?}", own());
        drop(socket);
        assert!(!own().contains(&wanted));
    }
}
