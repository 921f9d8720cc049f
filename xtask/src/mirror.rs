//! The options that say where Debian's files come from; the same on every verb that fetches.

use std::path::Path;

use images::Result;
use images::mirror::{Mirrors, Wishes};

/// Where Debian's packages come from. Without them: Debian's own apt settings of this machine.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct MirrorArgs {
    /// Debian mirror: the address that `dists` and `pool` lie below
    #[arg(long, value_name = "URL", env = "DEBIAN_MIRROR")]
    pub debian_mirror: Option<String>,
    /// The same for security updates; default: the mirror's sibling `…-security`
    #[arg(long, value_name = "URL", env = "DEBIAN_SECURITY_MIRROR")]
    pub debian_security_mirror: Option<String>,
    /// An archive addressed by time (URL/debian/TIME/…), for a lock whose packages have left the mirrors
    #[arg(long, value_name = "URL")]
    pub debian_archive: Option<String>,
}

impl MirrorArgs {
    /// The mirrors to use, from these options and the apt settings below `/etc`.
    pub fn load(&self) -> Result<Mirrors> {
        // A variable that is set but empty says nothing.
        let said = |url: &Option<String>| url.clone().filter(|url| !url.is_empty());
        let wishes =
            Wishes { main: said(&self.debian_mirror), security: said(&self.debian_security_mirror), archive: said(&self.debian_archive) };
        Mirrors::load(&wishes, Path::new("/etc"))
    }
}
