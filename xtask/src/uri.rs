//! URIs (RFC 3986) as text.

use url::Url;

/// `host:port`; an IPv6 address stands in brackets.
pub fn authority(host: &str, port: u16) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A URL without the slash that a bare address has at its end, so that a path can follow.
pub fn plain(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// A piece of a URI: all but the unreserved characters is encoded, slashes too. (`Url::set_password` leaves a `%` alone: `p%41` would
/// become `pA`.)
pub fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_colons_stands_in_brackets_and_a_path_is_one_piece() {
        assert_eq!(
            ["192.168.1.20", "fd00::7", "chat.lan"].map(|host| authority(host, 3478)),
            ["192.168.1.20:3478", "[fd00::7]:3478", "chat.lan:3478"]
        );
        assert_eq!(percent_encoded("group/sub.group/a project+~%41ü"), "group%2Fsub.group%2Fa%20project%2B~%2541%C3%BC");
        assert_eq!(plain(&Url::parse("https://gitlab.lan/git/").unwrap()), "https://gitlab.lan/git");
    }
}
