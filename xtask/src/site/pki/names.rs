//! Which names a CA may speak for: RFC 5280 section 4.2.1.10, for host names and addresses.

use std::fmt;
use std::net::IpAddr;

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any address of the block.
    pub address: IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

/// What numbers a network that nobody else is asked about (RFC 1918, 4193, 3927, 4291) and loopback: a LAN may be numbered anew
/// without a new CA on every phone.
const PRIVATE: [&str; 8] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128"];

impl Network {
    /// Reads `10.0.0.0/8`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let network = Network { address: address.parse().ok()?, prefix: prefix.parse().ok()? };
        (network.prefix <= network.bits()).then_some(network)
    }

    /// The block that holds `address` alone.
    pub fn of(address: IpAddr) -> Self {
        Network { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Reads address and mask as a certificate holds them: 4 and 4 bytes, or 16 and 16.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (address, mask) = bytes.split_at(bytes.len() / 2);
        let mask = wide(address_of(mask)?);
        let address = address_of(address)?;
        let unused = if address.is_ipv4() { 96 } else { 0 };
        let prefix = (mask << unused).leading_ones() as u8;
        // A mask with holes is no block (RFC 4632 is what RFC 5280 asks for).
        ((mask << unused).count_ones() == u32::from(prefix)).then_some(Network { address, prefix })
    }

    /// Whether the block holds `address`.
    pub fn holds(&self, address: IpAddr) -> bool {
        let shift = u32::from(self.bits() - self.prefix);
        let top = |address: IpAddr| wide(address).checked_shr(shift).unwrap_or(0);
        self.address.is_ipv4() == address.is_ipv4() && top(self.address) == top(address)
    }

    fn bits(&self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// An address as a certificate holds it.
pub(super) fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// Subtrees of host names, and blocks of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subtrees {
    /// Each stands for the name itself and every name below it.
    pub dns: Vec<String>,
    /// Blocks of addresses.
    pub networks: Vec<Network>,
}

impl Subtrees {
    fn has_name(&self, name: &str) -> bool {
        self.dns.iter().any(|suffix| is_within(name, suffix))
    }

    fn has_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.holds(address))
    }
}

impl fmt::Display for Subtrees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.dns.iter().cloned().chain(self.networks.iter().map(Network::to_string));
        f.write_str(&all.collect::<Vec<_>>().join(", "))
    }
}

/// What a CA is constrained to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraint {
    /// Where there are subtrees of a kind, names of that kind must lie in one of them.
    pub permitted: Subtrees,
    /// Names must lie in none of these.
    pub excluded: Subtrees,
}

impl Constraint {
    /// The constraint of a site's own root: its domains, the names that its services have besides, every private block, and
    /// those of `addresses` that lie in none.
    pub fn of_site(domains: &[String], names: &[String], addresses: &[IpAddr]) -> Self {
        let mut permitted =
            Subtrees { dns: domains.to_vec(), networks: PRIVATE.iter().filter_map(|block| Network::parse(block)).collect() };
        for name in names {
            if !permitted.has_name(name) {
                permitted.dns.push(name.trim_start_matches("*.").to_owned());
            }
        }
        for address in addresses {
            if !permitted.has_address(*address) {
                permitted.networks.push(Network::of(*address));
            }
        }
        Constraint { permitted, excluded: Subtrees::default() }
    }

    /// Whether a certificate below the CA may have this host name.
    pub fn allows_name(&self, name: &str) -> bool {
        !self.excluded.has_name(name) && (self.permitted.dns.is_empty() || self.permitted.has_name(name))
    }

    /// Whether a certificate below the CA may have this address.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        !self.excluded.has_address(address) && (self.permitted.networks.is_empty() || self.permitted.has_address(address))
    }
}

/// RFC 5280: a name is within a subtree when labels can be put in front of the subtree to give it. Case does not count. A leading
/// dot, which some CAs write, asks for at least one label more.
fn is_within(name: &str, suffix: &str) -> bool {
    let (name, suffix) = (name.to_ascii_lowercase(), suffix.to_ascii_lowercase());
    if suffix.is_empty() || suffix.starts_with('.') {
        return name.ends_with(&suffix);
    }
    name.strip_suffix(&suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Why this is no host name that a certificate can carry: RFC 1123's letters, digits and hyphens; `*` alone as the first label.
pub fn name_fault(name: &str) -> Option<String> {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    if name.parse::<IpAddr>().is_ok() {
        return Some(format!("{name} is an address, not a host name"));
    }
    if rest.is_empty() || name.len() > 253 {
        return Some(format!("a host name has 1 to 253 characters, this has {}", name.len()));
    }
    let label_is_good = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len()) && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let bad = rest.split('.').find(|label| !label_is_good(label))?;
    Some(format!("{name:?} is no host name: {bad:?} is no label of 1 to 63 letters, digits and hyphens"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_its_addresses_and_no_others() {
        for (block, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("172.16.0.0/12", "172.31.255.255", "172.32.0.0"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.6"),
            ("fe80::/10", "febf::1", "fec0::"),
            ("::/0", "2001:db8::1", "1.1.1.1"),
            ("::1/128", "::1", "::2"),
        ] {
            let network = Network::parse(block).unwrap();
            assert!(network.holds(inside.parse().unwrap()), "{inside} in {block}");
            assert!(!network.holds(outside.parse().unwrap()), "{outside} not in {block}");
        }
        for bad in ["10.0.0.0", "10.0.0.0/33", "::/129", "x/8"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_mask_with_holes_is_no_block() {
        assert_eq!(Network::from_bytes(&[10, 0, 0, 0, 255, 0, 0, 0]), Network::parse("10.0.0.0/8"));
        assert_eq!(Network::from_bytes(&[10, 0, 0, 0, 255, 0, 255, 0]), None);
        assert_eq!(Network::from_bytes(&[10, 0, 0]), None);
        let mut six = [0; 32];
        (six[0], six[16]) = (0xfc, 0xfe);
        assert_eq!(Network::from_bytes(&six), Network::parse("fc00::/7"));
    }

    #[test]
    fn names_are_within_a_subtree_label_by_label() {
        let site =
            Constraint::of_site(&["cicd.local".into()], &["localhost".into(), "turn.cicd.local".into(), "*.example.org".into()], &[]);
        assert_eq!(site.permitted.dns, ["cicd.local", "localhost", "example.org"]);
        for good in ["cicd.local", "mattermost.cicd.local", "A.B.CICD.LOCAL", "*.cicd.local", "localhost", "x.example.org"] {
            assert!(site.allows_name(good), "{good}");
        }
        for bad in ["notcicd.local", "local", "cicd.local.evil.org", "localhost.localdomain"] {
            assert!(!site.allows_name(bad), "{bad}");
        }
        let dotted = Constraint { permitted: Subtrees { dns: vec![".cicd.local".into()], ..Subtrees::default() }, ..Constraint::default() };
        assert!(dotted.allows_name("a.cicd.local") && !dotted.allows_name("cicd.local"));
    }

    #[test]
    fn a_public_address_of_the_site_is_permitted_alone() {
        let public = "203.0.113.7".parse().unwrap();
        let site = Constraint::of_site(&["cicd.local".into()], &[], &[public, "192.168.1.5".parse().unwrap()]);
        assert!(site.allows_address(public) && site.allows_address("10.9.8.7".parse().unwrap()));
        assert!(!site.allows_address("203.0.113.8".parse().unwrap()) && !site.allows_address("2001:db8::1".parse().unwrap()));
        assert_eq!(site.permitted.networks.len(), PRIVATE.len() + 1);
    }

    #[test]
    fn what_is_excluded_is_not_allowed_though_permitted() {
        let excluded = Subtrees { dns: vec!["lab.cicd.local".into()], networks: vec![Network::parse("10.1.0.0/16").unwrap()] };
        let ca = Constraint { excluded, ..Constraint::of_site(&["cicd.local".into()], &[], &[]) };
        assert!(ca.allows_name("cicd.local") && !ca.allows_name("a.lab.cicd.local"));
        assert!(ca.allows_address("10.2.0.1".parse().unwrap()) && !ca.allows_address("10.1.0.1".parse().unwrap()));
        assert!(Constraint::default().allows_name("any.where") && Constraint::default().allows_address("8.8.8.8".parse().unwrap()));
    }

    #[test]
    fn what_is_no_host_name_is_said() {
        for good in ["a", "mattermost.cicd.local", "*.cicd.local", "x_y.local", "1.example"] {
            assert_eq!(name_fault(good), None, "{good}");
        }
        let long = "a".repeat(300);
        for bad in ["", "*.", "a..b", "-a", "a-", "münchen.de", "a b", "a.*.b", "$x", "a\nb", "192.168.1.1", &long, &"b".repeat(64)] {
            assert!(name_fault(bad).is_some(), "{bad}");
        }
    }
}
