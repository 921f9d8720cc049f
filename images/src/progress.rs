//! What a long step tells the person who waits. The library only reports; xtask draws.

/// Where steps are reported. Shared by threads.
pub trait Progress: Sync {
    /// A step starts: `label` names the thing, `total` is its length in bytes where that is known.
    fn begin(&self, label: &str, total: Option<u64>) -> Box<dyn Step>;
}

/// One step that is under way. Dropping it without [`Step::done`] means that it failed.
pub trait Step: Send {
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
