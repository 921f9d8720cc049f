//! What a long step tells the person who waits. The library only reports; xtask draws.

/// Where steps are reported. Shared by threads.
pub trait Progress: Sync {
    /// A step starts: `label` names the thing, `total` is its length in bytes where that is known.
    fn begin(&self, label: &str, total: Option<u64>) -> Box<dyn Step>;

    /// The same for what takes long and moves no bytes, such as compiling: it is told when it begins.
    fn begin_long(&self, label: &str) -> Box<dyn Step> {
        self.begin(label, None)
    }
}

/// One step that is under way. Dropping it without [`Step::done`] means that it failed.
pub trait Step: Send + Sync {
    /// So many bytes more.
    fn advance(&self, bytes: u64);

    /// The step starts again with so many bytes: a download that had to begin anew, or that goes on where another stopped.
    fn restart(&self, bytes: u64);

    /// The step ended well.
    fn done(self: Box<Self>);
}

/// Reports nothing.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _label: &str, _total: Option<u64>) -> Box<dyn Step> {
        Box::new(Silent)
    }
}

impl Step for Silent {
    fn advance(&self, _bytes: u64) {}
    fn restart(&self, _bytes: u64) {}
    fn done(self: Box<Self>) {}
}

/// A length in bytes, for people: `214 KiB`, `26.1 MiB`.
pub fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 || unit == "GiB" {
            let digits = usize::from(unit != "bytes" && value < 100.0);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    unreachable!("the last unit takes everything")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_readable() {
        let shown: Vec<_> = [0, 1023, 219_136, 27_367_833, 5 << 30, 5 << 40].map(human).into();
        assert_eq!(shown, ["0 bytes", "1023 bytes", "214 KiB", "26.1 MiB", "5.0 GiB", "5120 GiB"]);
    }
}
