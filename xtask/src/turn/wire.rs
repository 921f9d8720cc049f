//! Messages over UDP, TCP and TLS. Errors are words: nothing is decided by them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use super::Transport;
use super::message::HEADER;

#[derive(Debug)]
pub enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream, Vec<u8>),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>, Vec<u8>),
}

fn words(error: std::io::Error) -> String {
    error.to_string()
}

fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Connects a TCP socket whose reads and writes each end after `patience`.
pub fn tcp(server: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

impl Wire {
    pub fn connect(server: SocketAddr, transport: &Transport, patience: Duration) -> Result<Wire, String> {
        match transport {
            Transport::Udp => {
                let any: SocketAddr = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
                let socket = UdpSocket::bind(any).map_err(words)?;
                // Connected: only datagrams from the server arrive, and a closed port is told at once.
                socket.connect(server).map_err(words)?;
                Ok(Wire::Udp(socket))
            }
            Transport::Tcp => Ok(Wire::Tcp(tcp(server, patience).map_err(words)?, Vec::new())),
            Transport::Tls(name, config) => {
                let mut connection = ClientConnection::new(config.clone(), name.clone()).map_err(|error| error.to_string())?;
                let mut stream = tcp(server, patience).map_err(words)?;
                // Now and not at the first message, so that what is wrong with a certificate is told as such.
                while connection.is_handshaking() {
                    connection.complete_io(&mut stream).map_err(|error| crate::tls::words(&error))?;
                }
                Ok(Wire::Tls(Box::new(StreamOwned::new(connection, stream)), Vec::new()))
            }
        }
    }

    /// Whether what is sent may get lost, and has to be sent again.
    pub fn may_lose(&self) -> bool {
        matches!(self, Wire::Udp(_))
    }

    pub fn send(&mut self, message: &[u8]) -> Result<(), String> {
        match self {
            Wire::Udp(socket) => socket.send(message).map(drop),
            Wire::Tcp(stream, _) => stream.write_all(message),
            Wire::Tls(stream, _) => stream.write_all(message).and_then(|()| stream.flush()),
        }
        .map_err(words)
    }

    /// The bytes of the next message; nothing when none comes before `end`.
    pub fn receive(&mut self, end: Instant) -> Result<Option<Vec<u8>>, String> {
        let mut buffer = [0; 4096];
        loop {
            if let Wire::Tcp(_, kept) | Wire::Tls(_, kept) = self
                && let Some(message) = first(kept)
            {
                return Ok(Some(message));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let read = match self {
                Wire::Udp(socket) => socket.set_read_timeout(Some(left)).and_then(|()| socket.recv(&mut buffer)),
                Wire::Tcp(stream, _) => stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut buffer)),
                Wire::Tls(stream, _) => stream.sock.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut buffer)),
            };
            match (read, &mut *self) {
                (Ok(length), Wire::Udp(_)) => return Ok(Some(buffer[..length].to_vec())),
                (Ok(0), _) => return Err("the server closed the connection".to_owned()),
                (Ok(length), Wire::Tcp(_, kept) | Wire::Tls(_, kept)) => kept.extend_from_slice(&buffer[..length]),
                (Err(error), _) if is_silence(&error) => {}
                (Err(error), _) => return Err(words(error)),
            }
        }
    }
}

/// Takes the first whole message out of a stream's bytes; its length is in its header (RFC 8489 section 6.2.2).
fn first(kept: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = HEADER + usize::from(u16::from_be_bytes([*kept.get(2)?, *kept.get(3)?]));
    (kept.len() >= length).then(|| kept.drain(..length).collect())
}

#[cfg(test)]
mod tests {
    use super::super::message;
    use super::*;

    #[test]
    fn messages_are_cut_out_of_a_stream_however_they_arrive() {
        let one = message::encode(1, &[1; 12], &[message::transport(message::UDP)]);
        let two = message::encode(2, &[2; 12], &[]);
        let mut kept = Vec::new();
        let mut cut = Vec::new();
        for byte in [one.clone(), two.clone()].concat() {
            kept.push(byte);
            cut.extend(first(&mut kept));
        }
        assert_eq!((cut, kept), (vec![one, two], Vec::new()));
    }
}
