//! The packet filter that closes what Coturn's own list cannot.
//!
//! Coturn runs on the host's network and knows peers by address, not by port: the allowed peer, which is where Calls listens, is
//! this machine itself. So what Coturn's account sends from a relay port towards this machine is dropped, but for the port of Calls.
//! The relay range alone would not do as a condition: other programs are given ports out of it for what they ask, such as DNS.

use std::net::IpAddr;

use super::Check;
use crate::site::{Service, Site};

/// What is to be filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayRule {
    /// The address that Calls and Coturn use.
    pub address: IpAddr,
    /// The one port that relayed media may reach there.
    pub calls: u16,
    /// First and last relay port.
    pub relay: (u16, u16),
    /// The account that Coturn's sockets belong to. Its container has the machine's own network and accounts.
    pub account: u32,
}

impl RelayRule {
    /// The rule of a site.
    pub fn of(site: &Site) -> RelayRule {
        let account = site.accounts.of(Service::Coturn).uid;
        let address = site.media_address().map_or(site.address(), IpAddr::V4);
        RelayRule { address, calls: site.ports.calls, relay: site.ports.relay, account }
    }

    /// The table of a site's rule. nft takes letters, digits and underscores; a project's name may have hyphens and begin with a digit.
    pub fn table(site: &Site) -> String {
        format!("relay_{}", site.project.as_str().replace('-', "_"))
    }

    /// As `nft -f` reads it, in a table of its own, so that applying it twice changes nothing. The hook is before address
    /// translation (priority raw): behind it, a packet to a port that the Engine publishes has a container's address.
    pub fn nft(&self, table: &str) -> String {
        let family = if self.address.is_ipv4() { "ip" } else { "ip6" };
        let RelayRule { address, calls, relay: (first, last), account } = self;
        format!(
            "table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n  chain relay {{\n    type filter hook output priority raw; policy accept;\n    \
             meta skuid {account} {family} daddr {address} udp sport {first}-{last} udp dport != {calls} drop\n  }}\n}}\n"
        )
    }

    /// Whether a listing of rules has it: of `nft list ruleset`, or of `iptables-save`. Order and further conditions do not
    /// matter, but each part has to stand in one rule; one for every account does too.
    pub fn is_in(&self, rules: &str) -> bool {
        let RelayRule { address, calls, relay: (first, last), account } = self;
        let nft = [format!("daddr {address} "), format!("udp sport {first}-{last} "), format!("udp dport != {calls} ")];
        let iptables = [format!("-d {address}"), format!("--sport {first}:{last} "), format!("! --dport {calls} "), "-p udp ".to_owned()];
        let has = |line: &str, parts: &[String]| parts.iter().all(|part| line.contains(part.as_str()));
        rules.lines().map(|line| format!("{} ", line.trim())).any(|line| {
            let refuses = [" drop ", " reject ", "-j DROP ", "-j REJECT "].iter().any(|verdict| line.contains(verdict));
            let whole_address = line.contains(&format!("-d {address} ")) || line.contains(&format!("-d {address}/"));
            let of_others = [("skuid", format!("meta skuid {account} ")), ("--uid-owner", format!("-m owner --uid-owner {account} "))]
                .iter()
                .any(|(word, ours)| line.contains(word) && !line.contains(ours.as_str()));
            refuses && !of_others && (has(&line, &nft) || (has(&line, &iptables) && whole_address))
        })
    }
}

/// The rule against what the filter lists: `rules` is nothing where only root can see them, and `tool` where there is no filter.
pub fn relay_rule(rule: &RelayRule, table: &str, tool: Option<&str>, rules: Option<&str>) -> Check {
    let (id, title) = ("firewall", "Packet filter of the relay");
    match (tool, rules) {
        (None, _) => Check::problem(id, title, "neither nft nor iptables is on this machine", "apt-get install nftables"),
        (Some(tool), None) => Check::skipped(id, title, format!("only root sees the rules of {tool}")),
        (Some(_), Some(rules)) if rule.is_in(rules) => {
            Check::ok(id, title, format!("ports {}-{} reach nothing of this machine but port {}", rule.relay.0, rule.relay.1, rule.calls))
        }
        (Some(_), Some(_)) => {
            let found = format!("who has a credential reaches every UDP port of {} through the relay", rule.address);
            Check::problem(id, title, found, format!("nft -f - <<'END'\n{}END", rule.nft(table)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> RelayRule {
        RelayRule { address: "192.168.1.20".parse().unwrap(), calls: 8444, relay: (49160, 49200), account: 2001 }
    }

    const IPTABLES: &str = "-A OUTPUT -d 192.168.1.20/32 -p udp -m udp --sport 49160:49200 ! --dport 8444 -j DROP";

    #[test]
    fn the_rule_finds_itself_and_nothing_that_is_weaker() {
        let nft = rule().nft("chatops");
        assert!(rule().is_in(&nft));
        assert!(rule().is_in(IPTABLES));
        for (part, other) in [
            ("49160-49200", "49160-49190"),
            ("192.168.1.20", "192.168.1.200"),
            ("!= 8444", "!= 8445"),
            ("!= 8444", "!= 84444"),
            ("!= 8444", "8444"),
            (" drop", " accept"),
            ("udp sport", "tcp sport"),
            ("skuid 2001", "skuid 20011"),
            ("skuid 2001", "skuid != 2001"),
        ] {
            assert!(!rule().is_in(&nft.replace(part, other)), "{other}");
        }
        assert!(rule().is_in(&nft.replace("meta skuid 2001 ", "")), "what is dropped for all is dropped for Coturn");
        assert!(rule().is_in(&IPTABLES.replace(" -j", " -m owner --uid-owner 2001 -j")));
        for owner in ["-m owner --uid-owner 2002", "-m owner ! --uid-owner 2001"] {
            assert!(!rule().is_in(&IPTABLES.replace(" -j", &format!(" {owner} -j"))), "{owner}");
        }
        for (part, other) in
            [("49200", "49190"), ("1.20/32", "1.200/32"), ("! --dport", "--dport"), ("DROP", "ACCEPT"), ("-p udp", "-p tcp")]
        {
            assert!(!rule().is_in(&IPTABLES.replace(part, other)), "{other}");
        }
        assert!(!rule().is_in(""));
    }

    #[test]
    fn a_table_has_a_name_that_nft_takes() {
        let site = |project: &str| {
            let text = format!("format = 1\nproject = \"{project}\"\naddresses = [\"192.168.1.20\"]\n");
            crate::site::parse("site.toml", &text, || unreachable!("it has an address")).unwrap()
        };
        assert_eq!(RelayRule::table(&site("chatops")), "relay_chatops");
        assert_eq!(RelayRule::table(&site("2-site-b")), "relay_2_site_b");
    }

    #[test]
    fn no_filter_no_rights_no_rule() {
        use super::super::Outcome;
        let check = |tool, rules| relay_rule(&rule(), "chatops", tool, rules).outcome;
        assert!(matches!(check(Some("nft"), Some(IPTABLES)), Outcome::Ok { .. }));
        assert!(matches!(check(Some("nft"), Some("table inet other {}")), Outcome::Problem { mend, .. } if mend.contains("nft -f -")));
        assert!(matches!(check(Some("nft"), None), Outcome::Skipped { .. }));
        assert!(matches!(check(None, None), Outcome::Problem { mend, .. } if mend == "apt-get install nftables"));
    }
}
