//! The one HTTP client of the project's downloads.

use std::error::Error as _;
use std::time::Duration;

use reqwest::blocking::{Client, ClientBuilder};

use crate::error::{Class, Error, Result};

/// A server that does not take a connection for so long is not there.
const CONNECT: Duration = Duration::from_secs(15);
/// Holds for each read, not for the whole download (reqwest's blocking client counts so): a server that sends nothing for
/// so long is stuck.
const SILENCE: Duration = Duration::from_secs(60);

/// A client that takes proxies from the environment (`http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`, in either
/// case) and trusts the certificates that this machine trusts, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
///
/// Trust comes from rustls-platform-verifier, which reqwest brings along: behind a company's proxy, the company's CA is
/// where the administrator put it for every other program. What is fetched is checked by hash or signature besides.
pub fn http_client() -> Result<Client> {
    // Fails where a provider is installed already; it is ring then, as nothing else is linked.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let built = builder().build();
    // A machine without any CA certificate still fetches over plain HTTP, as Debian's mirrors are used.
    built.or_else(|_| builder().tls_certs_only([]).build()).map_err(|error| {
        Error::new(Class::Fetch, "cannot set up an HTTP client").detail(chain(error)).hint("look at the proxy variables and SSL_CERT_FILE")
    })
}

fn builder() -> ClientBuilder {
    Client::builder().user_agent(concat!("chatops-images/", env!("CARGO_PKG_VERSION"))).connect_timeout(CONNECT).timeout(SILENCE)
}

/// What went wrong, with its causes: reqwest's own text stops at "error sending request". The URL, which may hold a
/// password, is left out.
pub fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// The URL as it may be shown: a mirror's address can carry a password.
pub fn without_password(url: &str) -> String {
    let hidden = || {
        let (scheme, rest) = url.split_once("://")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (_, host) = host.rsplit_once('@')?;
        Some(format!("{scheme}://{host}/{path}"))
    };
    hidden().unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirrors_password_is_not_shown() {
        assert_eq!(without_password("https://me:secret@mirror.example.org/pool/a.deb"), "https://mirror.example.org/pool/a.deb");
        assert_eq!(without_password("https://mirror.example.org/pool/a@b.deb"), "https://mirror.example.org/pool/a@b.deb");
    }
}
