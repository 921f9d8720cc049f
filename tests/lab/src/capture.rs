//! The packets of the LAN, written down as they pass the server's bridge.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use images::{Class, Error, Result};
use xtask::process::{Running, tail};

use crate::Lab;

/// What it needs of a machine.
pub const PART: &str = "tcpdump";
/// Bytes of each packet: every head of TURN and STUN, and little of what somebody says.
const LENGTH: &str = "256";
/// How long the program may take to listen, and to write the last packets.
const SOON: Duration = Duration::from_secs(10);

/// A capture that goes on until [`Capture::end`], or until it is dropped.
pub struct Capture {
    program: Running,
    file: PathBuf,
}

/// What a capture holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Packets.
    pub packets: usize,
    /// Those that are STUN over UDP (RFC 8489).
    pub stun: usize,
}

impl Lab {
    /// Begins to write every packet of the LAN into `file`, in the format that tcpdump and Wireshark read.
    pub fn capture(&self, file: &Path) -> Result<Capture> {
        let log = file.with_extension("log");
        let program = self.process(PART).args(["--interface", "lan0", "--snapshot-length", LENGTH]);
        // As root, because the folder is root's; each packet at once, so that a run that is killed has them too.
        let program = program.args(["--relinquish-privileges", "root", "--packet-buffered", "-w"]).arg(file).start(&log)?;
        let begin = Instant::now();
        loop {
            let said = fs_err::read(&log).unwrap_or_default();
            if String::from_utf8_lossy(&said).contains("listening on lan0") {
                return Ok(Capture { program, file: file.to_owned() });
            }
            let ended = program.ended()?;
            if ended.is_some() || begin.elapsed() > SOON {
                let what =
                    ended.map_or_else(|| format!("does not listen after {} s", SOON.as_secs()), |status| format!("ended with {status}"));
                let error = Error::new(Class::Build, format!("the packets of the LAN cannot be captured: {PART} {what}"));
                return Err(tail(&said, 10).into_iter().fold(error, |error, line| error.detail(format!("| {line}"))));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Capture {
    /// What was written until now.
    pub fn counted(&self) -> Result<Counted> {
        count(&fs_err::read(&self.file)?)
    }

    /// Ends it: what it holds.
    pub fn end(self) -> Result<Counted> {
        self.program.stop(SOON);
        fs_err::remove_file(self.file.with_extension("log"))?;
        count(&fs_err::read(&self.file)?)
    }
}

/// Counts a capture file (draft-ietf-opsawg-pcap, the one with microseconds, of Ethernet).
fn count(file: &[u8]) -> Result<Counted> {
    let word = |at: usize| file.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    if word(0) != Some(0xa1b2_c3d4) || word(20) != Some(1) {
        return Err(Error::new(Class::Build, "the capture is no pcap file of Ethernet frames"));
    }
    let (mut counted, mut at) = (Counted::default(), 24);
    // The last one may be under way.
    while let Some(packet) = word(at + 8).and_then(|length| file.get(at + 16..at + 16 + length as usize)) {
        counted.packets += 1;
        counted.stun += usize::from(is_stun(packet));
        at += 16 + packet.len();
    }
    Ok(counted)
}

/// Whether an Ethernet frame is IPv4, UDP, and has STUN's magic cookie in its place.
fn is_stun(frame: &[u8]) -> bool {
    let Some((head, packet)) = frame.split_at_checked(14) else { return false };
    let length = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    head.ends_with(&[0x08, 0x00]) && packet.get(9) == Some(&17) && packet.get(length + 12..length + 16) == Some(&[0x21, 0x12, 0xa4, 0x42])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ethernet frame of IPv4 and UDP with this content.
    fn frame(protocol: u8, content: &[u8]) -> Vec<u8> {
        let mut frame = [&[2; 12][..], &[0x08, 0x00, 0x45]].concat();
        frame.resize(14 + 20 + 8, 0);
        frame[14 + 9] = protocol;
        [frame, content.to_vec()].concat()
    }

    fn file(frames: &[Vec<u8>]) -> Vec<u8> {
        let head = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 256, 1].map(u32::to_ne_bytes).concat();
        let record = |frame: &Vec<u8>| [[7, 8, frame.len() as u32, 9999].map(u32::to_ne_bytes).concat(), frame.clone()].concat();
        [head, frames.iter().flat_map(record).collect()].concat()
    }

    #[test]
    fn stun_is_told_from_what_is_not() {
        let binding = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let frames = [frame(17, &binding), frame(6, &binding), frame(17, b"no question at all"), vec![1, 2, 3], Vec::new()];
        let whole = file(&frames);
        assert_eq!(count(&whole).unwrap(), Counted { packets: 5, stun: 1 });
        assert_eq!(
            count(&[&whole[..], &file(&frames[..1])[24..50]].concat()).unwrap(),
            Counted { packets: 5, stun: 1 },
            "one is under way"
        );
        assert!(count(b"").is_err() && count(&whole[1..]).is_err());
    }
}
