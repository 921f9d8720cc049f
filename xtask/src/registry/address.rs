//! `HOST[:PORT][/PREFIX]` → where a registry is.

use images::{Class, Error, Result};
use url::{Host, Url};

/// Where a registry is, and below which prefix the images go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `https://HOST[:PORT]/`.
    pub base: Url,
    /// `HOST[:PORT]`, as it was typed: Docker's settings know it by that.
    pub host: String,
    prefix: String,
}

impl Address {
    /// Reads an address. `http://` may stand before one of this machine, for tests; everything else is HTTPS.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(Class::Usage, format!("\"{text}\" is not the address of a registry"))
                .detail("expected HOST, HOST:PORT or HOST:PORT/PREFIX")
                .detail(format!("found    {why}"))
        };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("https" | "http"), rest)) => (scheme, rest),
            Some((other, _)) => return Err(wrong(&format!("the scheme {other}"))),
            None => ("https", text),
        };
        let (host, prefix) = rest.trim_end_matches('/').split_once('/').unwrap_or((rest.trim_end_matches('/'), ""));
        if host.contains('@') {
            return Err(wrong("a name or a password").hint("`docker login HOST` keeps them where they are read"));
        }
        let base = Url::parse(&format!("{scheme}://{host}/")).map_err(|error| wrong(&error.to_string()))?;
        let here = match base.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => return Err(wrong("no host")),
        };
        if scheme == "http" && !here {
            return Err(wrong("http:// to another machine: a password would be readable on the way"));
        }
        // The grammar of repositories, as distribution-spec has it, without its finer points: the registry knows those.
        let legal = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
        };
        if !prefix.is_empty() && !prefix.split('/').all(legal) {
            return Err(wrong(&format!("the prefix {prefix}: small letters, digits, dots, hyphens and underscores")));
        }
        Ok(Address { base, host: host.to_owned(), prefix: prefix.to_owned() })
    }

    /// Where the repository `name` is in the registry.
    pub fn repository(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    /// As Docker names an image of it.
    pub fn reference(&self, repository: &str) -> String {
        format!("{}/{repository}", self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_prefix_and_plain_http_stays_on_this_machine() {
        let address = Address::parse("registry.example.org:5000/team/chat/").unwrap();
        assert_eq!(
            (address.base.as_str(), address.repository("chatops/coturn").as_str()),
            ("https://registry.example.org:5000/", "team/chat/chatops/coturn")
        );
        assert_eq!(address.reference("x"), "registry.example.org:5000/x");
        assert_eq!(Address::parse("http://127.0.0.1:5000").unwrap().base.scheme(), "http");
        for (text, why) in [
            ("http://registry.example.org", "readable on the way"),
            ("ftp://registry", "the scheme ftp"),
            ("me:secret@registry", "a name or a password"),
            ("registry/Team", "the prefix Team"),
            ("", "found"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
