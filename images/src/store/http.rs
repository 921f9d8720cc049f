//! The one HTTP client of the project's downloads.

use std::error::Error as _;
use std::time::Duration;

use reqwest::blocking::{Client, ClientBuilder};
use reqwest::{NoProxy, Proxy};

use crate::error::{Class, Error, Result};

/// A server that does not take a connection for so long is not there.
const CONNECT: Duration = Duration::from_secs(15);
/// Holds for each read, not for the whole download (reqwest's blocking client counts so): a server that sends nothing for
/// so long is stuck.
const SILENCE: Duration = Duration::from_secs(60);

/// A client that takes proxies from the environment (`http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`, in either
/// case; never for this machine itself) and trusts the certificates that this machine trusts, or those of
/// `SSL_CERT_FILE` and `SSL_CERT_DIR`.
///
/// Trust comes from rustls-platform-verifier, which reqwest brings along: behind a company's proxy, the company's CA is
/// where the administrator put it for every other program. What is fetched is checked by hash or signature besides.
/// Errors: [`Class::Fetch`], for a proxy variable that is no address.
pub fn http_client() -> Result<Client> {
    http_client_with(|builder| builder)
}

/// The same with more settings, such as a private CA or another patience.
pub fn http_client_with(settings: impl Fn(ClientBuilder) -> ClientBuilder) -> Result<Client> {
    install_tls();
    let proxies = proxies(|name| std::env::var(name).ok())?;
    let builder = || {
        let agent = concat!("chatops-images/", env!("CARGO_PKG_VERSION"));
        let builder = Client::builder().user_agent(agent).connect_timeout(CONNECT).timeout(SILENCE).no_proxy();
        settings(proxies.iter().cloned().fold(builder, ClientBuilder::proxy))
    };
    // A machine without any CA certificate still fetches over plain HTTP, as Debian's mirrors are used.
    let built = builder().build().or_else(|_| builder().tls_certs_only([]).build());
    built.map_err(|error| Error::new(Class::Fetch, "cannot set up an HTTP client").detail(chain(error)))
}

/// Makes ring the TLS provider of every client of this process.
pub fn install_tls() {
    // Fails where a provider is installed already; it is ring then, as nothing else is linked.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The proxies that the environment names. reqwest reads the same variables, but passes over an address that it cannot
/// read, and asks the proxy for this machine's own servers, which no proxy can reach.
fn proxies(env: impl Fn(&str) -> Option<String>) -> Result<Vec<Proxy>> {
    let said = |name: &str| [name.to_owned(), name.to_uppercase()].iter().filter_map(|name| env(name)).find(|value| !value.is_empty());
    let direct = NoProxy::from_string(&format!("{},localhost,127.0.0.0/8,::1", said("no_proxy").unwrap_or_default()));
    let mut proxies = Vec::new();
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        // Where both others are named, the third is for other programs; it is often a SOCKS server.
        let Some(url) = said(name).filter(|_| proxies.len() < 2) else { continue };
        let proxy = match name {
            "http_proxy" => Proxy::http(&url),
            "https_proxy" => Proxy::https(&url),
            _ => Proxy::all(&url),
        };
        let proxy = proxy.map_err(|error| {
            Error::new(Class::Fetch, format!("{name} is not the address of an HTTP proxy"))
                .detail("expected http://HOST:PORT")
                .detail(format!("found    {} ({})", without_password(&url), chain(error)))
        })?;
        proxies.push(proxy.no_proxy(direct.clone()));
    }
    Ok(proxies)
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

    #[test]
    fn a_proxy_variable_that_is_no_address_is_named() {
        let only = |name: &'static str, value: &'static str| proxies(move |asked| (asked == name).then(|| value.to_owned()));
        assert_eq!(only("HTTPS_PROXY", "http://me:secret@proxy.example.org:3128").expect("good").len(), 1);
        assert_eq!(only("http_proxy", "").expect("empty says nothing").len(), 0);
        let error = only("http_proxy", "http://:secret@/").expect_err("no host").to_string();
        assert!(error.contains("http_proxy is not") && !error.contains("secret"), "{error}");
    }
}
