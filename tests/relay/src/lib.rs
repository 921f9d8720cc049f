//! The relay as phones see it: what comes through it from behind each NAT ([`matrix`]), and what it refuses ([`refusals`]).
//!
//! Credentials are Mattermost's ([`chat`]), and the only peer is the port of Calls, which answers authenticated checks of a joined call
//! ([`call`]) whether the server is the release or the API double.

pub mod call;
pub mod chat;
pub mod matrix;
pub mod refusals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use images::Result;
use rustls::ClientConfig;
use xtask::doctor::turn::Target;
use xtask::server::Endpoint;
use xtask::site::{self, Folder};
use xtask::turn::{Client, Credential, Said, Transport};

/// How long an answer of Coturn may take, and how long no answer says that there is no way.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A running site, as its clients know it.
pub struct Site {
    /// What it is.
    pub site: site::Site,
    /// Mattermost.
    pub chat: Endpoint,
    /// Coturn and Calls.
    pub target: Target,
    /// Trust in the site's CA alone.
    pub trust: Arc<ClientConfig>,
    /// How long an answer of Coturn may take.
    pub patience: Duration,
}

impl Site {
    /// The site in a folder, reached at its first address.
    pub fn open(folder: &Folder) -> Result<Site> {
        let site = site::load(folder)?;
        let address = site.address();
        let (chat, trust) = (Endpoint::of_site(&site, folder, address)?, xtask::tls::trusting(&folder.ca())?);
        Ok(Site { target: Target::of(&site, address), site, chat, trust, patience: PATIENCE })
    }

    /// A connection to Coturn over UDP.
    pub fn connect(&self, credential: Credential) -> Said<Client> {
        Client::connect(self.target.turn, &Transport::Udp, credential, self.patience)
    }

    /// The same over TCP: what it holds is free when it is dropped.
    pub fn connect_over_tcp(&self, credential: Credential) -> Said<Client> {
        Client::connect(self.target.turn, &Transport::Tcp, credential, self.patience)
    }

    /// What this machine's filter has to do for it, and the table that it is in.
    pub fn filter<'a>(&self, server: &'a lab::namespace::Namespace) -> refusals::Filter<'a> {
        let table = xtask::doctor::firewall::RelayRule::table(&self.site);
        refusals::Filter { server, rule: xtask::doctor::firewall::RelayRule::of(&self.site), table }
    }

    /// The ways to Coturn, with their names: UDP, TCP, and TLS with a certificate for the address that is dialled.
    pub fn transports(&self) -> [(&'static str, SocketAddr, Transport); 3] {
        let (turn, turns) = (self.target.turn, self.target.turns);
        [
            ("UDP", turn, Transport::Udp),
            ("TCP", turn, Transport::Tcp),
            ("TLS", turns, Transport::Tls(turns.ip().into(), Arc::clone(&self.trust))),
        ]
    }
}

/// Random letters and digits, twice as many as `bytes`.
fn random(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    site::secrets::system_random(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
