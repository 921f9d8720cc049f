//! Who tells alerts. Another source is a file like `sonarqube.rs`, with its tests, a variant here, and two rows in the table of settings.

use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::{alertmanager, sonarqube};

/// A tool whose alerts are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The only one that there was, when alerts on disk did not say whose they are.
    #[default]
    Sonarqube,
    Alertmanager,
}

impl Source {
    /// Each.
    pub const ALL: [Source; 2] = [Source::Sonarqube, Source::Alertmanager];

    /// In its path and in the names of its files; in capitals in those of its settings.
    pub fn name(self) -> &'static str {
        match self {
            Source::Sonarqube => "sonarqube",
            Source::Alertmanager => "alertmanager",
        }
    }

    /// The header that proves who sent a request, in lower case.
    pub fn proof(self) -> &'static str {
        match self {
            Source::Sonarqube => sonarqube::SIGNATURE,
            Source::Alertmanager => alertmanager::TOKEN,
        }
    }

    /// Whether `proof`, the value of that header, comes from somebody who knows the secret; compared in constant time.
    pub fn is_proven(self, secret: &[u8], body: &[u8], proof: &str) -> bool {
        match self {
            Source::Sonarqube => sonarqube::is_signed(secret, body, proof),
            Source::Alertmanager => alertmanager::is_token(secret, proof),
        }
    }

    /// What a proven body says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(self, body: &[u8]) -> Result<Alert, &'static str> {
        match self {
            Source::Sonarqube => sonarqube::read(body),
            Source::Alertmanager => alertmanager::read(body),
        }
    }
}
