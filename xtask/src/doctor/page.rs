//! One page on which a phone's browser asks Coturn for a relay candidate, as a call does: no page on the Internet is needed.
//!
//! Gathering relay candidates asks for no camera and no microphone, so a page over plain HTTP may do it. `turns:` is not among
//! what it asks: browsers check a TURN server's certificate against their own roots, not against one that a person added.

use serde::{Deserialize, Serialize};

use super::Check;
use super::turn::Target;
use crate::turn::Credential;

const PAGE: &str = include_str!("relay.html");
const PLACE: &str = "/*TEST*/null";
/// How long a browser may gather: its own attempts end after about ten seconds.
const SECONDS: u32 = 15;

#[derive(Serialize)]
struct Test<'a> {
    username: &'a str,
    credential: &'a str,
    seconds: u32,
    servers: [Server; 2],
}

#[derive(Serialize)]
struct Server {
    transport: &'static str,
    url: String,
}

/// What the page found over one transport.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Gathered {
    /// `UDP` or `TCP`.
    pub transport: String,
    /// Whether there was a relay candidate.
    pub found: bool,
    /// What the page shows: its address, or why there was none.
    pub words: String,
}

/// The page.
pub fn page(target: &Target, credential: &Credential) -> String {
    let server =
        |transport: &'static str| Server { transport, url: format!("turn:{}?transport={}", target.turn, transport.to_lowercase()) };
    let test = Test {
        username: &credential.username,
        credential: &credential.password,
        seconds: SECONDS,
        servers: [server("UDP"), server("TCP")],
    };
    let json = serde_json::to_string(&test).unwrap_or_else(|error| unreachable!("plain data: {error}"));
    // In a script, JSON is JavaScript but for what would end the script.
    PAGE.replace(PLACE, &json.replace('<', "\\u003c"))
}

/// The file with which the page reports, in its query.
pub const REPORT: &str = "said";

/// What a phone reported, as checks; nothing where it is no report. It comes from the network: nothing but words is taken from it.
pub fn judge(query: &str) -> Option<Vec<Check>> {
    // A form of one field without a name: percent-encoding, and nothing else, as encodeURIComponent writes it.
    let (text, _) = url::form_urlencoded::parse(query.as_bytes()).next()?;
    let gathered: Vec<Gathered> = serde_json::from_str(&text).ok()?;
    let known = |gathered: &Gathered| matches!(gathered.transport.as_str(), "UDP" | "TCP");
    let plain = |words: &str| words.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
    let check = |gathered: Gathered| {
        let (id, title) = (format!("turn.phone.{}", gathered.transport.to_lowercase()), format!("Phone, TURN over {}", gathered.transport));
        match gathered.found {
            true => Check::ok(id, title, plain(&gathered.words)),
            false => Check::problem(id, title, plain(&gathered.words), "cargo xtask doctor turn, on this machine"),
        }
    };
    (!gathered.is_empty() && gathered.iter().all(known)).then(|| gathered.into_iter().map(check).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        let at = |port: u16| std::net::SocketAddr::from(([192, 168, 1, 20], port));
        Target { turn: at(3478), turns: at(5349), relayed: at(0).ip(), relay: (49160, 49200), calls: at(8444) }
    }

    #[test]
    fn the_page_holds_its_servers_and_credential_and_fetches_nothing_from_elsewhere() {
        let page = page(&target(), &Credential { username: "1:</script>".to_owned(), password: "pass".to_owned() });
        assert!(page.contains(r#""url":"turn:192.168.1.20:3478?transport=udp""#), "{page}");
        assert!(page.contains(r#""username":"1:\u003c/script>","credential":"pass""#));
        assert_eq!(page.matches("</script>").count(), 1);
        assert!(!page.contains(PLACE) && !page.contains("http:") && !page.contains("https:") && !page.contains("src="));
    }

    #[test]
    fn a_report_is_taken_for_words_only() {
        let good = r#"[{"transport":"UDP","found":true,"words":"relay candidate found: 192.168.1.20 port 49163"},{"transport":"TCP","found":false,"words":"not\u001b[31m reached"}]"#;
        let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let checks = judge(&encoded(good)).unwrap();
        assert_eq!(checks[0], Check::ok("turn.phone.udp", "Phone, TURN over UDP", "relay candidate found: 192.168.1.20 port 49163"));
        assert!(checks[1].is_problem() && format!("{:?}", checks[1]).contains("not[31m reached"), "{:?}", checks[1]);
        for bad in ["", "[]", "{}", r#"[{"transport":"x","found":true,"words":""}]"#] {
            assert_eq!(judge(&encoded(bad)), None);
        }
    }
}
