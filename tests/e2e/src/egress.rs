//! Nothing leaves: there is no way out of the lab, and what tries is dropped and counted.

use images::Result;
use lab::Lab;

/// Addresses of the lab: its LAN, Docker's networks, and those that no router passes on.
const OURS: &str = "{ 127.0.0.0/8, 192.168.0.0/16, 172.16.0.0/12, 10.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4, 255.255.255.255 }";
const OURS_V6: &str = "{ ::1, fe80::/10, fc00::/7, ff00::/8 }";

/// Puts the rule into the server's packet filter, before anything runs there. Containers' packets pass `prerouting`, those of programs on
/// the server itself, Coturn's among them, `output`.
pub fn count(lab: &Lab) -> Result<()> {
    let rules = format!("ip daddr != {OURS} counter name leaving drop\n  ip6 daddr != {OURS_V6} counter name leaving drop");
    let chain = |hook: &str| format!(" chain {hook} {{\n  type filter hook {hook} priority -400; policy accept;\n  {rules}\n }}\n");
    let table = format!("table inet e2e {{\n counter leaving {{ }}\n{}{}}}\n", chain("prerouting"), chain("output"));
    lab.process("nft").args(["--file", "-"]).stdin(table).capture().map(drop)
}

/// Packets that tried to leave since the beginning.
pub fn counted(lab: &Lab) -> Result<u64> {
    let told = lab.process("nft").args(["list", "counter", "inet", "e2e", "leaving"]).text()?;
    Ok(packets(&told))
}

fn packets(told: &str) -> u64 {
    told.split_once("packets ").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_nft_lists_is_read_and_nothing_is_never_zero() {
        assert_eq!(super::packets("table inet e2e {\n\tcounter leaving {\n\t\tpackets 12 bytes 720\n\t}\n}"), 12);
        assert_eq!(super::packets(""), u64::MAX);
    }
}
