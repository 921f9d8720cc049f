//! `resolve NAME…`: what names mean inside the container, which has no other program that could tell.

use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs};

/// A name, then its addresses, sorted; none where nobody knows it.
pub fn line(name: &str) -> String {
    let found = (name, 0).to_socket_addrs().into_iter().flatten();
    let addresses: BTreeSet<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.iter().fold(name.to_owned(), |line, address| format!("{line} {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_the_name_and_every_address_of_it() {
        assert!(line("localhost").split(' ').any(|word| word == "127.0.0.1" || word == "::1"));
        assert_eq!(line("192.0.2.7"), "192.0.2.7 192.0.2.7");
        // No name: nobody is asked.
        assert_eq!(line("two words"), "two words");
    }
}
