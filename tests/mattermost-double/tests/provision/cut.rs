//! A proxy that cuts connections. The client opens one for each request, so that connections are requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is cut. Requests are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Never,
    /// The server does what this request asks for; its answer is lost.
    AnswerOf(usize),
    /// This request and all after it do not reach the server.
    From(usize),
}

/// A running proxy; its threads end with the test.
pub struct Proxy {
    pub address: SocketAddr,
    count: Arc<AtomicUsize>,
}

impl Proxy {
    /// In front of `server`.
    pub fn start(server: SocketAddr, cut: Cut) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let number = counted.fetch_add(1, Ordering::Relaxed) + 1;
                if matches!(cut, Cut::From(first) if number >= first) {
                    continue;
                }
                let deliver = cut != Cut::AnswerOf(number);
                std::thread::spawn(move || exchange(client, server, deliver));
            }
        });
        Proxy { address, count }
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// One request and its answer.
fn exchange(mut client: TcpStream, server: SocketAddr, deliver: bool) -> Option<()> {
    let request = request(&mut client)?;
    let mut upstream = TcpStream::connect(server).ok()?;
    upstream.write_all(&request).ok()?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).ok()?;
    if deliver {
        client.write_all(&answer).ok()?;
    }
    Some(())
}

/// The request, with the wish that the connection ends after its answer.
fn request(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if bytes.len() >= head + 4 + length {
                bytes.splice(head + 2..head + 2, *b"Connection: close\r\n");
                return Some(bytes);
            }
        }
        match client.read(&mut piece).ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
}
