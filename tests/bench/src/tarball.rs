//! A tarball of the shape of Mattermost's release: the same layout, sizes and mix, and no byte of the vendor's.
//!
//! Real releases are two Go programs, plugin bundles (gzip in gzip: nothing is left to compress) and thousands of small web
//! files. The bytes come from one seeded generator, so every machine measures the same file.

use std::io::{self, Write};

/// How much of what the tarball holds.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Seed of the generator.
    pub seed: u64,
    /// Programs: path, bytes.
    pub programs: Vec<(&'static str, usize)>,
    /// Plugin bundles: name, bytes.
    pub bundles: Vec<(&'static str, usize)>,
    /// Number of small text files.
    pub texts: usize,
    /// The mean length of these, bytes.
    pub text_size: usize,
}

const MB: usize = 1_000_000;

impl Shape {
    /// About 277 MB packed, 533 MB unpacked, like Mattermost 11.
    pub fn release() -> Shape {
        Shape {
            seed: 11_07_09,
            programs: vec![("bin/mattermost", 150 * MB), ("bin/mmctl", 48 * MB)],
            bundles: vec![
                ("mattermost-plugin-agents-v1.7.2", 52 * MB),
                ("mattermost-plugin-boards-v9.2.2", 26 * MB),
                ("mattermost-plugin-calls-v1.11.4", 60 * MB),
                ("mattermost-plugin-github-v2.5.0", 10 * MB),
                ("mattermost-plugin-gitlab-v1.11.0", 9 * MB),
                ("mattermost-plugin-jira-v4.4.1", 11 * MB),
                ("mattermost-plugin-playbooks-v2.6.1", 14 * MB),
                ("mattermost-plugin-zoom-v1.9.0", 5 * MB),
            ],
            texts: 3_600,
            text_size: 40_000,
        }
    }

    /// A name that changes with what is made.
    pub fn file_name(&self) -> String {
        let sum = format!("{self:?} 1")
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        format!("mattermost-shaped-11.7.9-linux-amd64-{sum:016x}.tar.gz")
    }

    /// Writes the tarball.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut random = Random(self.seed);
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(out, flate2::Compression::new(6)));
        let mut file = |path: &str, mode: u32, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(mode);
            header.set_mtime(1_780_000_000);
            header.set_uid(2000);
            header.set_gid(2000);
            tar.append_data(&mut header, format!("mattermost/{path}"), content)
        };
        file("NOTICE.txt", 0o644, &text(&mut random, 100_000))?;
        file("config/config.json", 0o600, b"{}\n")?;
        for (path, size) in &self.programs {
            file(path, 0o755, &program(&mut random, *size))?;
        }
        for (name, size) in &self.bundles {
            file(&format!("prepackaged_plugins/{name}-linux-amd64.tar.gz"), 0o644, &noise(&mut random, *size))?;
            file(&format!("prepackaged_plugins/{name}-linux-amd64.tar.gz.sig"), 0o644, &noise(&mut random, 438))?;
        }
        for number in 0..self.texts {
            let size = self.text_size / 2 + random.below(self.text_size);
            let path = format!("client/{:02x}/{number:04}.{:08x}.js", number % 37, random.next() as u32);
            file(&path, 0o644, &text(&mut random, size))?;
        }
        tar.into_inner()?.finish()?.flush()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// Small numbers far more often than large ones, as words and instructions are.
    fn skewed(&mut self, end: usize) -> usize {
        let (a, b) = (self.below(end), self.below(end));
        a * b / end
    }
}

/// Nothing to compress.
fn noise(random: &mut Random, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Like machine code: instructions from a table with immediates in between, sequences that come again, and tables of zeros.
fn program(random: &mut Random, size: usize) -> Vec<u8> {
    const TABLE: usize = 2048;
    let instructions: Vec<u64> = (0..TABLE).map(|_| random.next()).collect();
    let mut bytes = Vec::with_capacity(size + 512);
    while bytes.len() < size {
        match random.below(64) {
            0 => bytes.resize(bytes.len() + random.below(96), 0),
            1..15 => bytes.extend_from_slice(&random.next().to_le_bytes()[..2]),
            15..25 if bytes.len() > 30_000 => {
                let from = bytes.len() - 100 - random.below(29_000);
                bytes.extend_from_within(from..from + 16 + random.below(48));
            }
            _ => bytes.extend_from_slice(&instructions[random.skewed(TABLE)].to_le_bytes()[..4 + random.below(4)]),
        }
    }
    bytes.truncate(size);
    bytes
}

/// Like minified JavaScript and JSON: words of a vocabulary, punctuation, numbers, and phrases that come again.
fn text(random: &mut Random, size: usize) -> Vec<u8> {
    const PUNCTUATION: &[u8] = b" .,;(){}=:\"";
    let words: Vec<Vec<u8>> = (0..2000).map(|n| (0..2 + n % 9).map(|_| b'a' + random.skewed(26) as u8).collect()).collect();
    let mut bytes = Vec::with_capacity(size + 256);
    while bytes.len() < size {
        if bytes.len() > 400 && random.below(6) == 0 {
            let from = random.below(bytes.len() - 120);
            bytes.extend_from_within(from..from + 24 + random.below(90));
            continue;
        }
        bytes.extend_from_slice(&words[random.skewed(words.len())]);
        bytes.push(PUNCTUATION[random.skewed(PUNCTUATION.len())]);
    }
    bytes.truncate(size);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use images::Digest;
    use std::io::Read;

    fn small() -> Shape {
        Shape {
            seed: 7,
            programs: vec![("bin/mattermost", 400_000)],
            bundles: vec![("mattermost-plugin-calls-v1", 90_000)],
            texts: 9,
            text_size: 30_000,
        }
    }

    fn unpacked(shape: &Shape) -> (usize, Vec<u8>) {
        let mut packed = Vec::new();
        shape.write(&mut packed).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
        (packed.len(), bytes)
    }

    #[test]
    fn the_same_shape_is_the_same_tarball_and_another_seed_another() {
        // Of the tar inside: gzip's bytes may move with a newer flate2, and nothing that is measured with them.
        assert_eq!(Digest::of(unpacked(&small()).1), Digest::of(unpacked(&small()).1));
        assert_ne!(unpacked(&Shape { seed: 8, ..small() }).1, unpacked(&small()).1);
        assert_ne!(Shape { seed: 8, ..small() }.file_name(), small().file_name());
    }

    #[test]
    fn programs_and_text_compress_and_bundles_do_not() {
        let none = Shape { programs: vec![], bundles: vec![], texts: 0, ..small() };
        let ratio = |shape: Shape| {
            let ((base_packed, base), (packed, all)) = (unpacked(&none), unpacked(&shape));
            (packed - base_packed) as f64 / (all.len() - base.len()) as f64
        };
        let program = ratio(Shape { programs: small().programs, ..none.clone() });
        let bundle = ratio(Shape { bundles: small().bundles, ..none.clone() });
        let texts = ratio(Shape { texts: 9, ..none.clone() });
        assert!((0.2..0.4).contains(&program), "{program}");
        assert!(bundle > 0.95, "{bundle}");
        assert!((0.15..0.3).contains(&texts), "{texts}");
    }

    #[test]
    fn a_release_unpacks_to_about_533_megabytes() {
        let shape = Shape::release();
        let sum: usize = shape.programs.iter().chain(&shape.bundles).map(|(_, size)| size).sum::<usize>() + shape.texts * shape.text_size;
        assert!((520 * MB..545 * MB).contains(&sum), "{sum}");
    }
}
