//! An HTTP server on the loopback interface that answers as a test says, well or badly.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// As it stands in the request line: a path, or a whole URL where the client takes this server for a proxy.
    pub target: String,
    /// Header names are in lower case.
    pub headers: BTreeMap<String, String>,
    /// What came after the headers.
    pub body: String,
    /// How often this target was asked for before.
    pub earlier: usize,
}

impl Request {
    /// The first byte of `Range: bytes=N-`.
    pub fn range(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What the server sends.
pub struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    length: Option<usize>,
    stall: bool,
}

impl Answer {
    /// 200 with all of `body`, whatever range was asked for.
    pub fn whole(body: &[u8]) -> Answer {
        Answer { status: 200, headers: Vec::new(), body: body.to_vec(), length: Some(body.len()), stall: false }
    }

    /// A body with the range that was asked for, as a good server sends it.
    pub fn ranged(request: &Request, body: &[u8]) -> Answer {
        match request.range() {
            None => Answer::whole(body),
            Some(from) if from >= body.len() => Answer::status(416),
            Some(from) => {
                let range = format!("Content-Range: bytes {from}-{}/{}", body.len() - 1, body.len());
                Answer { status: 206, ..Answer::whole(&body[from..]) }.header(range)
            }
        }
    }

    /// An error status with a short body.
    pub fn status(status: u16) -> Answer {
        Answer { status, ..Answer::whole(b"no") }
    }

    /// A status with a JSON body.
    pub fn json(status: u16, body: &str) -> Answer {
        Answer { status, ..Answer::whole(body.as_bytes()) }.header("Content-Type: application/json")
    }

    /// One header line more.
    pub fn header(mut self, line: impl Into<String>) -> Answer {
        self.headers.push(line.into());
        self
    }

    /// Announces the whole length, and closes the connection after `bytes`.
    pub fn cut(mut self, bytes: usize) -> Answer {
        self.body.truncate(bytes);
        self
    }

    /// Announces no length: the body ends with the connection.
    pub fn unannounced(mut self) -> Answer {
        self.length = None;
        self
    }

    /// Sends no more after the body but keeps the connection, until the client goes away.
    pub fn stall(mut self) -> Answer {
        self.stall = true;
        self
    }
}

/// A running server. Its threads end with the test process.
pub struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts a server that answers each request with what `answer` gives.
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("bound").to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                // A client that goes away in the middle is what some tests are about.
                std::thread::spawn(move || serve(stream, &*answer, &log).ok());
            }
        });
        Server { address, requests }
    }

    /// `http://127.0.0.1:PORT` and `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no thread died with it").clone()
    }
}

fn serve(stream: TcpStream, answer: &dyn Fn(&Request) -> Answer, log: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = reader.by_ref().lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let mut headers = BTreeMap::new();
    for line in lines.by_ref() {
        match line?.split_once(':') {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let mut body = vec![0; headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let request = {
        let mut log = log.lock().expect("no thread died with it");
        let earlier = log.iter().filter(|request| request.target == target).count();
        log.push(Request { method, target, headers, body, earlier });
        log[log.len() - 1].clone()
    };
    let answer = answer(&request);
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {} Test\r\nConnection: close\r\n", answer.status)?;
    for header in &answer.headers {
        write!(stream, "{header}\r\n")?;
    }
    if let Some(length) = answer.length {
        write!(stream, "Content-Length: {length}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(&answer.body)?;
    stream.flush()?;
    if answer.stall {
        // Ends when the client closes its side, or dies.
        while stream.read(&mut [0; 64])? > 0 {}
    }
    Ok(())
}
