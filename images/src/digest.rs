//! SHA-256 digests as a type, so that a path, a version and a digest cannot be mixed up.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A SHA-256 digest. Its text is 64 lower-case hex digits without a prefix; [`Digest::oci`] adds `sha256:`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Digest(sha2::Sha256::digest(bytes.as_ref()).into())
    }

    /// The digest of all that `source` still gives, and its length in bytes.
    pub fn of_reader(source: impl Read) -> io::Result<(Self, u64)> {
        let mut hashing = Hashing::new(source);
        io::copy(&mut hashing, &mut io::sink())?;
        let (_, digest, bytes) = hashing.finish();
        Ok((digest, bytes))
    }

    /// The digest of the file at `path`, and its length in bytes. Errors name the file.
    pub fn of_file(path: &Path) -> io::Result<(Self, u64)> {
        Self::of_reader(fs_err::File::open(path)?)
    }

    /// The form that OCI descriptors use: `sha256:` and 64 hex digits.
    pub fn oci(&self) -> String {
        format!("sha256:{self}")
    }

    /// Reads the OCI form.
    pub fn from_oci(text: &str) -> Option<Self> {
        text.strip_prefix("sha256:")?.parse().ok()
    }

    /// The first 12 hex digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("expected 64 lower-case hex digits, found \"{text}\"");
        if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Digest(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Counts and hashes what passes through it, reading or writing.
pub struct Hashing<T> {
    inner: T,
    hasher: sha2::Sha256,
    bytes: u64,
}

impl<T> Hashing<T> {
    /// Wraps `inner`.
    pub fn new(inner: T) -> Self {
        Hashing { inner, hasher: sha2::Sha256::new(), bytes: 0 }
    }

    /// How many bytes have passed.
    pub fn passed(&self) -> u64 {
        self.bytes
    }

    /// The digest of what has passed so far.
    pub fn digest(&self) -> Digest {
        Digest(self.hasher.clone().finalize().into())
    }

    /// The inner value, the digest of what passed, and its length in bytes.
    pub fn finish(self) -> (T, Digest, u64) {
        (self.inner, Digest(self.hasher.finalize().into()), self.bytes)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_64_lower_case_hex_digits_and_nothing_else() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of([]).to_string(), empty);
        assert_eq!(empty.parse::<Digest>().ok(), Some(Digest::of([])));
        assert_eq!(Digest::from_oci(&format!("sha256:{empty}")), Some(Digest::of([])));
        for bad in ["", "TBD", &empty[1..], &empty.to_uppercase(), &format!("sha256:{empty}")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad} was taken for a digest");
        }
    }

    #[test]
    fn a_file_is_hashed_to_its_end_and_an_error_names_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let bytes = vec![7; 1 << 20];
        fs_err::write(&path, &bytes).expect("written");
        assert_eq!(Digest::of_file(&path).expect("readable"), (Digest::of(&bytes), 1 << 20));
        let error = Digest::of_file(&folder.path().join("none")).expect_err("no file");
        assert!(error.to_string().contains("none"), "{error}");
    }

    #[test]
    fn hashing_sees_every_byte_once() {
        let mut writer = Hashing::new(Vec::new());
        writer.write_all(b"ab").and_then(|()| writer.write_all(b"c")).expect("a Vec takes all");
        let (bytes, digest, count) = writer.finish();
        assert_eq!((bytes.as_slice(), digest, count), (&b"abc"[..], Digest::of("abc"), 3));
    }
}
