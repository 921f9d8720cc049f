//! The plugin's port: STUN is answered, anything else comes back as it was sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::stun;
use crate::clock::new_id;

/// The longest datagram.
const LONGEST: usize = 65_535;

/// Passwords by user name fragment: one agent for each session of a call.
#[derive(Clone, Default)]
pub struct Agents(Arc<Mutex<BTreeMap<String, String>>>);

impl Agents {
    /// The password of an agent, which is known from now on.
    pub fn password(&self, fragment: &str) -> String {
        let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        agents.entry(fragment.to_owned()).or_insert_with(|| new_id() + &new_id()[..6]).clone()
    }

    /// Forgets one.
    pub fn remove(&self, fragment: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(fragment);
    }

    fn answer(&self, datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        if !stun::is_stun(datagram) {
            return Some(datagram.to_vec());
        }
        let agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stun::answer(datagram, from, |fragment| agents.get(fragment).cloned())
    }
}

/// Listens where the settings say; 0.0.0.0 where they say nothing.
pub async fn serve(options: &Value, agents: &Agents) -> Result<(), String> {
    let address = |kind: &str| {
        let host = options[format!("{kind}ServerAddress")].as_str().filter(|host| !host.is_empty()).unwrap_or("0.0.0.0");
        format!("{host}:{}", options[format!("{kind}ServerPort")].as_i64().unwrap_or(8443))
    };
    let told = |what: &str, kind: &str, address: &str, error: std::io::Error| {
        let why = if error.kind() == std::io::ErrorKind::AddrInUse { "bind: address already in use".to_owned() } else { error.to_string() };
        format!("failed to create {what}: listen {kind} {address}: {why}")
    };
    let (udp, tcp) = (address("UDP"), address("TCP"));
    let socket = UdpSocket::bind(&udp).await.map_err(|error| told("UDP listener", "udp4", &udp, error))?;
    let listener = TcpListener::bind(&tcp).await.map_err(|error| told("TCP listener", "tcp4", &tcp, error))?;
    tokio::spawn(datagrams(socket, agents.clone()));
    tokio::spawn(connections(listener, agents.clone()));
    Ok(())
}

async fn datagrams(socket: UdpSocket, agents: Agents) {
    let mut buffer = vec![0; LONGEST];
    loop {
        // An error here is one peer's port that is closed: it says nothing about the next.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        if let Some(answer) = agents.answer(&buffer[..length], from) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn connections(listener: TcpListener, agents: Agents) {
    loop {
        if let Ok((stream, from)) = listener.accept().await {
            tokio::spawn(framed(stream, from, agents.clone()));
        }
    }
}

/// ICE over TCP puts a length before each packet (RFC 4571).
async fn framed(mut stream: TcpStream, from: SocketAddr, agents: Agents) -> std::io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut packet = vec![0; usize::from(length)];
        stream.read_exact(&mut packet).await?;
        if let Some(answer) = agents.answer(&packet, from) {
            stream.write_u16(u16::try_from(answer.len()).unwrap_or(0)).await?;
            stream.write_all(&answer).await?;
        }
    }
}
