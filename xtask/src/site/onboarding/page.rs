//! The page: what to do on each device, and how to see that the CA is the right one.

use base64::Engine as _;
use images::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use qrcode::render::svg;

use super::{Facts, profile, qr};

pub(super) const STYLE: &str = include_str!("style.css");

/// How the page leads to the CA's files.
#[derive(Clone, Debug)]
pub enum Links {
    /// They stand in the page, so that it can be mailed or carried on a stick alone.
    Embedded,
    /// They lie beside it on a server, as iPhones want it: a profile from a `data:` address is not installed.
    Served {
        /// The page's own address, for another device's camera.
        page: String,
    },
}

/// The page's HTML.
pub fn render(facts: &Facts, links: &Links) -> Result<String> {
    let ca = Downloads::of(facts, links)?;
    let body = html! {
        (head(facts, links)?)
        (compare(facts))
        (android(facts, &ca))
        (iphone(facts, &ca))
        (app(facts)?)
        (desktops(facts, &ca))
        (limits(facts))
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { "Join " (facts.name) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    };
    Ok(page.into_string())
}

/// Where the CA is had from, in each form.
struct Downloads {
    crt: String,
    pem: String,
    profile: String,
}

impl Downloads {
    fn of(facts: &Facts, links: &Links) -> Result<Self> {
        let data = |kind: &str, bytes: &[u8]| format!("data:{kind};base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes));
        Ok(match links {
            Links::Served { .. } => Downloads { crt: "ca.crt".into(), pem: "ca.pem".into(), profile: "ca.mobileconfig".into() },
            Links::Embedded => Downloads {
                crt: data("application/x-x509-ca-cert", &facts.ca.der),
                pem: data("application/x-pem-file", facts.ca.pem().as_bytes()),
                profile: data("application/x-apple-aspen-config", &profile::render(facts)?),
            },
        })
    }
}

fn button(href: &str, file: &str, text: &str) -> Markup {
    // Safari asks to install a profile that it opens; one that it is told to download, it puts among the files.
    let download = (href != "ca.mobileconfig").then_some(file);
    html! { a.button href=(href) download=[download] { (text) } }
}

fn picture(text: &str, what: &str) -> Result<Markup> {
    let svg = qr(text)?.render::<svg::Color<'_>>().min_dimensions(180, 180).build();
    // The declaration in front belongs to a file of its own.
    let svg = svg.find("<svg").map_or("", |start| &svg[start..]);
    Ok(html! { figure { div.qr role="img" aria-label=(what) { (PreEscaped(svg)) } figcaption { (what) } } })
}

fn head(facts: &Facts, links: &Links) -> Result<Markup> {
    let here = match links {
        Links::Served { page } => Some(picture(page, "This page, for a phone's camera")?),
        Links::Embedded => None,
    };
    Ok(html! {
        header {
            div {
                h1 { "Join " (facts.name) }
                p { "This chat server has a certificate authority (CA) of its own. A device that trusts it once can chat and call; until then "
                    "apps and browsers refuse the connection. It takes about two minutes." }
                nav {
                    a href="#android" { "Android" } a href="#iphone" { "iPhone, iPad" } a href="#desktop" { "Computer" } a href="#limits" { "What does not work" }
                }
            }
            @if let Some(here) = here { div.wide { (here) } }
        }
    })
}

fn compare(facts: &Facts) -> Markup {
    html! {
        section.compare {
            h2 { "Compare before you trust" }
            p { "Ask whoever runs the server for the CA's SHA-256 fingerprint, on paper or by telephone. It has to be this one, and the one that your "
                "device shows for “" (facts.ca.common_name.as_deref().unwrap_or("the CA")) "”:" }
            pre.fingerprint { (facts.fingerprint().join("\n")) }
            @if facts.ca.constraint.is_some() {
                p.small { "This CA can vouch for the chat server's own names and for private addresses only, not for other sites of the internet." }
            }
            p.small { "It is valid until " (facts.ca.not_after.date().to_string()) "." }
        }
    }
}

fn android(facts: &Facts, ca: &Downloads) -> Markup {
    html! {
        section id="android" {
            h2 { "Android" }
            ol {
                li { (button(&ca.crt, "ca.crt", "Download the CA (ca.crt)")) }
                li { "Open " b { "Settings" } " and search for " b { "CA certificate" } ". Without the search: " b { "Security & privacy › More security "
                    "settings › Encryption & credentials › Install a certificate › CA certificate" } ". Makers name these a little differently." }
                li { b { "Install anyway" } ", confirm with your PIN, and choose " code { "ca.crt" } " from the downloads." }
                li { "Compare: " b { "Encryption & credentials › Trusted credentials › User" } ", tap the CA." }
                li { "Install " b { "Mattermost" } " and continue with " a href="#app" { "the app" } "." }
            }
            p.small { "Android will say that the network may be monitored: it says so for every CA that a person added. To take it back, remove “"
                (facts.ca.common_name.as_deref().unwrap_or_default()) "” in the same place." }
        }
    }
}

fn iphone(facts: &Facts, ca: &Downloads) -> Markup {
    html! {
        section id="iphone" {
            h2 { "iPhone, iPad" }
            ol {
                li { "In Safari: " (button(&ca.profile, "ca.mobileconfig", "Download the profile")) " and " b { "Allow" } "." }
                li { b { "Settings › General › VPN & Device Management" } ", tap the downloaded profile, then " b { "Install" } "." }
                li { "Compare: tap " b { "More Details" } " and the certificate." }
                li { b { "Settings › General › About › Certificate Trust Settings" } ": switch “" (facts.ca.common_name.as_deref().unwrap_or_default())
                    "” on. " strong { "Without this step nothing connects." } }
                li { "Install " b { "Mattermost" } " and continue with " a href="#app" { "the app" } "." }
            }
            p.small { "To take it back, remove the profile under VPN & Device Management." }
        }
    }
}

fn app(facts: &Facts) -> Result<Markup> {
    Ok(html! {
        section id="app" {
            h2 { "The app" }
            div.side {
                (picture(&facts.phone_url, "The server's address")?)
                div {
                    p { "Open Mattermost and enter as " b { "server URL" } ":" }
                    pre { (facts.phone_url) }
                    @if !facts.front {
                        p.small { "A phone finds the server by this address; the name " (facts.name) " works too where the network's DNS knows it. The phone "
                            "has to be in the same network." }
                    }
                }
            }
        }
    })
}

fn desktops(facts: &Facts, ca: &Downloads) -> Markup {
    let file = format!("{}.crt", facts.name);
    let hosts = format!("{} {}", facts.address, facts.names.join(" "));
    html! {
        section id="desktop" {
            h2 { "Computer" }
            p { (button(&ca.pem, "ca.pem", "ca.pem")) " " (button(&ca.crt, "ca.crt", "ca.crt")) " Then, where they were saved:" }
            dl {
                dt { "Debian, Ubuntu" }
                dd { pre { "sudo install -m 644 ca.pem \\\n  /usr/local/share/ca-certificates/" (file) "\nsudo update-ca-certificates" } }
                dt { "Fedora, RHEL" }
                dd { pre { "sudo install -m 644 ca.pem \\\n  /etc/pki/ca-trust/source/anchors/" (file) "\nsudo update-ca-trust" } }
                dt { "Windows " small { "(Terminal as administrator)" } }
                dd { pre { "certutil -addstore -f Root ca.crt" } }
                dt { "macOS" }
                dd { pre { "sudo security add-trusted-cert -d -r trustRoot \\\n  -k /Library/Keychains/System.keychain ca.crt" } }
                dt { "Firefox " small { "(on Linux it has a store of its own)" } }
                dd { "Settings › Privacy & Security › Certificates › View Certificates › Authorities › Import: " code { "ca.pem" } ", trust it for websites." }
                dt { "Chromium, Chrome " small { "(on Linux they have a store of their own)" } }
                dd { code { "chrome://certificate-manager" } " › Custom › Trusted certificates › Import: " code { "ca.pem" } "." }
            }
            @if !facts.front {
                p { "Where DNS does not know the name, add this line to " code { "/etc/hosts" } ", on Windows to "
                    code { r"C:\Windows\System32\drivers\etc\hosts" } ":" }
                pre { (hosts) }
            }
            p { "Then open " a href=(facts.url) { (facts.url) } ", in a browser or in Mattermost's desktop app." }
        }
    }
}

fn limits(facts: &Facts) -> Markup {
    html! {
        section id="limits" {
            h2 { "What does not work, and why" }
            ul {
                li { b { "Calls over TURN with TLS (" code { "turns:" } ") from the phone apps." } " They check that certificate against roots that are compiled "
                    "into them, not against the phone's. Calls go over the other ways, and their sound and pictures are encrypted there as well." }
                @if facts.push {
                    li { b { "Notifications" } " go through the push proxy that this server's administrator set up." }
                } @else {
                    li { b { "Notifications while the app is closed." } " They would have to go through Apple's or Google's servers, and this server uses none: "
                        "alerts come while the app is open." }
                }
                li { b { "Android's work profile" } " has a list of CAs of its own: install the CA there too when the app runs in it." }
                li { "These steps follow the vendors' documents and the app's sources; they were not tried on a real phone." }
            }
        }
    }
}
