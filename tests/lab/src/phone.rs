//! Phones: machines beside the server, on the LAN itself or behind routers that translate addresses.
//!
//! ```text
//!   LAN 192.168.77.0/24          10.77.1.0/24            10.77.2.0/24
//!   ── eth0 router in0 ── eth0 router in0 ── eth0 phone        double NAT
//!   ── eth0 router in0 ── eth0 phone                           symmetric NAT, UDP blocked
//!   ── eth0 phone                                              none
//! ```
//!
//! A router is a network namespace with forwarding and nftables. Each translates as the strictest do, "symmetric": every pair of address and
//! port that is spoken to sees another port (`masquerade fully-random`), and only that pair's answers come back in (connection tracking).
//! RFC 4787 calls both address-and-port-dependent. The routers let nobody reach the port that is named to [`Lab::phone`], over UDP or
//! TCP: a server of calls answers whoever speaks first, through any translation, so a relay is needed where a network shuts its port.

use std::net::Ipv4Addr;
use std::time::Duration;

use images::{Class, Error, Result};

use crate::namespace::Namespace;
use crate::{LAN, Lab};

/// How a phone reaches the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// It is on the LAN itself.
    None,
    /// Behind a router with symmetric translation.
    Symmetric,
    /// Behind such a router that forwards no UDP.
    UdpBlocked,
    /// Behind two such routers, one behind the other.
    Double,
}

impl Nat {
    /// Each kind.
    pub const ALL: [Nat; 4] = [Nat::None, Nat::Symmetric, Nat::UdpBlocked, Nat::Double];

    /// As people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Nat::None => "no NAT",
            Nat::Symmetric => "symmetric NAT",
            Nat::UdpBlocked => "NAT, UDP blocked",
            Nat::Double => "double NAT",
        }
    }

    const fn routers(self) -> u8 {
        match self {
            Nat::None => 0,
            Nat::Symmetric | Nat::UdpBlocked => 1,
            Nat::Double => 2,
        }
    }
}

/// A phone and its routers.
pub struct Phone {
    // The phone before what it is connected to.
    namespace: Namespace,
    routers: Vec<Namespace>,
    nat: Nat,
}

impl Phone {
    /// How it reaches the LAN.
    pub fn nat(&self) -> Nat {
        self.nat
    }

    /// The phone itself.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The routers, from the LAN inwards.
    pub fn routers(&self) -> &[Namespace] {
        &self.routers
    }

    /// Loses this share of the UDP packets that come to the phone, by chance. Of those that it sends it would be told.
    pub fn loses(&self, percent: u8) -> Result<()> {
        self.namespace.nft(&format!(
            "table inet loss {{\n  chain in {{\n    type filter hook input priority filter; policy accept;\n    \
             iifname \"eth0\" meta l4proto udp numgen random mod 100 < {percent} drop\n  }}\n}}\n"
        ))
    }

    /// Holds back what the phone sends.
    ///
    /// # Errors
    /// Where the kernel has no `netem`.
    pub fn delays(&self, delay: Duration) -> Result<()> {
        let delay = format!("{}ms", delay.as_millis());
        self.namespace.process("tc").args(["qdisc", "add", "dev", "eth0", "root", "netem", "delay", &delay]).capture().map(drop).map_err(
            |error| {
                Error::new(Class::MissingTool, "packets cannot be delayed here")
                    .detail(error.to_string())
                    .hint("it needs tc (apt-get install iproute2) and a kernel with CONFIG_NET_SCH_NETEM")
            },
        )
    }
}

/// The rules of a router that keeps its phones from port `shut`.
fn rules(nat: Nat, shut: u16) -> String {
    let udp = if nat == Nat::UdpBlocked { "    meta l4proto udp drop\n" } else { "" };
    format!(
        "table inet router {{\n  chain translate {{\n    type nat hook postrouting priority srcnat; policy accept;\n    \
         oifname \"eth0\" masquerade fully-random\n  }}\n  chain forward {{\n    type filter hook forward priority filter; policy drop;\n\
         {udp}    meta l4proto {{ tcp, udp }} th dport {shut} drop\n    ct state established,related accept\n    \
         iifname \"in0\" accept\n  }}\n  chain input {{\n    type filter hook input priority filter; policy drop;\n    \
         ct state established,related accept\n  }}\n}}\n"
    )
}

impl Lab {
    /// A phone, or its outermost router, as host `number` of the LAN; its routers keep it from port `shut`. Neither has a default
    /// route: a phone knows the way to the LAN, and no other.
    pub fn phone(&self, number: u8, nat: Nat, shut: u16) -> Result<Phone> {
        let mut outer = self.client(number)?;
        let mut routers = Vec::new();
        for depth in 1..=nat.routers() {
            let inner = Namespace::new(&self.machine)?;
            let address = |host| Ipv4Addr::new(10, 77, depth, host);
            outer.inside(|| fs_err::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
            outer.nft(&rules(nat, shut))?;
            outer.ip(&["link", "add", "in0", "type", "veth", "peer", "name", "eth0", "netns", &inner.pid().to_string()])?;
            outer.ip(&["address", "add", &format!("{}/24", address(1)), "dev", "in0"])?;
            outer.ip(&["link", "set", "in0", "up"])?;
            inner.ip(&["link", "set", "lo", "up"])?;
            inner.ip(&["address", "add", &format!("{}/24", address(2)), "dev", "eth0"])?;
            inner.ip(&["link", "set", "eth0", "up"])?;
            let lan = format!("{}.{}.{}.0/24", LAN[0], LAN[1], LAN[2]);
            inner.ip(&["route", "add", &lan, "via", &address(1).to_string()])?;
            routers.push(std::mem::replace(&mut outer, inner));
        }
        self.reaches(&outer)?;
        Ok(Phone { namespace: outer, routers, nat })
    }
}
