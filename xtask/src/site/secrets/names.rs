//! Every secret of a site: its name, its form, what depends on it.

use images::{Class, Error, Result};

use super::{Random, Secret};
use crate::site::env_file;

const ALPHANUMERIC: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// RFC 4648 §5.
const BASE64URL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Of each class that Mattermost can be told to ask for (`PasswordSettings`); the symbols need no quoting anywhere.
const SYMBOLS: &str = "+-_.=";

/// One secret. The names are those of the article's `cicd.env` where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "`what` says it")]
pub enum Name {
    DatabasePassword,
    TurnSecret,
    AtRestKey,
    PublicLinkSalt,
    AdministratorPassword,
    JenkinsPluginKey,
    GitlabPluginKey,
    GitlabPluginSecret,
    SonarqubeSecret,
    SonarqubeToken,
    GitlabOauthId,
    GitlabOauthSecret,
    SmtpPassword,
}

/// How a secret comes into the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Here, as many random characters.
    Generated(usize),
    /// From somebody else, who also changes it.
    Given,
}

impl Name {
    /// Every secret, in the order in which a new file has them.
    pub const ALL: [Name; 13] = [
        Name::DatabasePassword,
        Name::TurnSecret,
        Name::AtRestKey,
        Name::PublicLinkSalt,
        Name::AdministratorPassword,
        Name::JenkinsPluginKey,
        Name::GitlabPluginKey,
        Name::GitlabPluginSecret,
        Name::SonarqubeSecret,
        Name::SonarqubeToken,
        Name::GitlabOauthId,
        Name::GitlabOauthSecret,
        Name::SmtpPassword,
    ];

    /// The name in `secrets.env`.
    pub const fn name(self) -> &'static str {
        match self {
            Name::DatabasePassword => "MATTERMOST_DB_PASSWORD",
            Name::TurnSecret => "MATTERMOST_TURN_SECRET",
            Name::AtRestKey => "MATTERMOST_AT_REST_KEY",
            Name::PublicLinkSalt => "MATTERMOST_PUBLIC_LINK_SALT",
            Name::AdministratorPassword => "MATTERMOST_ADMIN_PASSWORD",
            Name::JenkinsPluginKey => "MATTERMOST_JENKINS_PLUGIN_KEY",
            Name::GitlabPluginKey => "MATTERMOST_GITLAB_PLUGIN_KEY",
            Name::GitlabPluginSecret => "MATTERMOST_GITLAB_PLUGIN_SECRET",
            Name::SonarqubeSecret => "SONARQUBE_WEBHOOK_SECRET",
            Name::SonarqubeToken => "SONARQUBE_TOKEN",
            Name::GitlabOauthId => "GITLAB_OAUTH_ID",
            Name::GitlabOauthSecret => "GITLAB_OAUTH_SECRET",
            Name::SmtpPassword => "MATTERMOST_SMTP_PASSWORD",
        }
    }

    /// The secret called `name`.
    pub fn of(name: &str) -> Option<Name> {
        Name::ALL.into_iter().find(|known| known.name() == name)
    }

    /// What it is, without a full stop.
    pub const fn what(self) -> &'static str {
        match self {
            Name::DatabasePassword => "password of Mattermost's role in PostgreSQL",
            Name::TurnSecret => "shared by Mattermost and Coturn, who make and check the credentials of calls with it",
            Name::AtRestKey => "Mattermost's at-rest key",
            Name::PublicLinkSalt => "salt of public links to files",
            Name::AdministratorPassword => "password of the first administrator",
            Name::JenkinsPluginKey => "the Jenkins plugin encrypts people's tokens with it",
            Name::GitlabPluginKey => "the GitLab plugin encrypts people's tokens with it",
            Name::GitlabPluginSecret => "GitLab shows it when it sends events to the GitLab plugin",
            Name::SonarqubeSecret => "SonarQube signs its webhooks with it",
            Name::SonarqubeToken => "with it the alert gateway asks SonarQube for alerts that never arrived",
            Name::GitlabOauthId => "application ID of the OAuth application in GitLab",
            Name::GitlabOauthSecret => "secret of the OAuth application in GitLab",
            Name::SmtpPassword => "password of the account that sends mail",
        }
    }

    /// How it comes into the world.
    pub const fn origin(self) -> Origin {
        match self {
            Name::TurnSecret | Name::GitlabPluginSecret | Name::SonarqubeSecret => Origin::Generated(48),
            Name::DatabasePassword => Origin::Generated(40),
            // The plugins give the characters themselves to AES: 16, 24 or 32 of them, and nothing else. For the other two, 32 is the least.
            Name::AtRestKey | Name::PublicLinkSalt | Name::JenkinsPluginKey | Name::GitlabPluginKey => Origin::Generated(32),
            Name::AdministratorPassword => Origin::Generated(24),
            Name::SonarqubeToken | Name::GitlabOauthId | Name::GitlabOauthSecret | Name::SmtpPassword => Origin::Given,
        }
    }

    /// What a value has to be: fewest and most characters, whether only those of a token, and the same in words.
    const fn form(self) -> (usize, usize, Letters, &'static str) {
        use Letters::{Any, Token, Visible};
        match self {
            Name::TurnSecret => (16, 200, Token, "16 to 200 of A-Z a-z 0-9 . _ ~ + / = -"),
            Name::GitlabPluginSecret | Name::SonarqubeSecret => (16, 200, Token, "16 to 200 of A-Z a-z 0-9 . _ ~ + / = -"),
            Name::DatabasePassword => (8, 200, Visible, "8 to 200 printable ASCII characters without spaces and quotes"),
            Name::AtRestKey | Name::PublicLinkSalt => (32, 200, Token, "32 to 200 of A-Z a-z 0-9 . _ ~ + / = -"),
            Name::JenkinsPluginKey | Name::GitlabPluginKey => (32, 32, Token, "exactly 32 of A-Z a-z 0-9 . _ ~ + / = -"),
            Name::AdministratorPassword => (8, 72, Any, "8 to 72 bytes"),
            Name::SonarqubeToken => (10, 200, Token, "10 to 200 of A-Z a-z 0-9 . _ ~ + / = -"),
            Name::GitlabOauthId | Name::GitlabOauthSecret => (1, 200, Token, "1 to 200 of A-Z a-z 0-9 . _ ~ + / = -"),
            Name::SmtpPassword => (1, 1000, Any, "1 to 1000 bytes"),
        }
    }

    /// What is wrong with `value`, in words that do not repeat it.
    pub fn wrong(self, value: &str) -> Option<String> {
        let (least, most, letters, expected) = self.form();
        let found = if entrypoint::secret::is_quoted(value) {
            "quotes around it; a value stands as it is".to_owned()
        } else if let Some(found) = env_file::wrong(value).filter(|_| value.trim() != value || value.chars().any(char::is_control)) {
            found
        } else if !value.chars().all(|c| letters.hold(c)) {
            "another character".to_owned()
        } else if !(least..=most).contains(&value.len()) {
            format!("{} bytes", value.len())
        } else {
            return None;
        };
        Some(format!("expected {expected}, found {found}"))
    }

    /// A new value; none for what somebody else gives.
    pub(super) fn generate(self, random: Random) -> Result<Option<Secret>> {
        let Origin::Generated(length) = self.origin() else { return Ok(None) };
        let value = match self {
            Name::AdministratorPassword => password(length, random)?,
            // As much entropy as the length allows: 6 bits a character, where hexadecimal has 4.
            Name::JenkinsPluginKey | Name::GitlabPluginKey | Name::AtRestKey => characters(BASE64URL, length, random)?,
            _ => characters(ALPHANUMERIC, length, random)?,
        };
        match self.wrong(&value) {
            None => Ok(Some(Secret::new(value))),
            Some(problem) => Err(Error::new(Class::Build, format!("{} cannot be generated: {problem}", self.name()))),
        }
    }

    /// What has to be done after the value has changed, in the order in which it is done.
    pub const fn after_rotation(self) -> &'static [&'static str] {
        match self {
            Name::DatabasePassword => &["restart postgres, which gives the role its password when it starts, and mattermost with it"],
            Name::TurnSecret => {
                &["restart coturn and mattermost together: until then, and for calls that are under way, the relay refuses"]
            }
            Name::AtRestKey => &["restart mattermost (version 11 encrypts nothing with it)"],
            Name::PublicLinkSalt => &["restart mattermost", "public links that people have shared no longer open: share them again"],
            Name::AdministratorPassword => &["set it in Mattermost, which read the old one when it made the account"],
            Name::JenkinsPluginKey => &["restart mattermost", "everybody links their Jenkins account again: `/jenkins connect`"],
            Name::GitlabPluginKey => &["restart mattermost", "everybody links their GitLab account again: `/gitlab connect`"],
            Name::GitlabPluginSecret => &["restart mattermost", "give the new value to the webhooks in GitLab that lead to the plugin"],
            Name::SonarqubeSecret => &["restart alert-gateway", "give the new value to the webhooks in SonarQube"],
            Name::SonarqubeToken => &["restart alert-gateway"],
            Name::GitlabOauthId | Name::GitlabOauthSecret | Name::SmtpPassword => &["restart mattermost"],
        }
    }
}

/// What a value may consist of.
#[derive(Clone, Copy)]
enum Letters {
    /// No reader of any file, and no URL's path, sees more in them than letters.
    Token,
    /// As the entrypoint of the image reads a secret.
    Visible,
    Any,
}

impl Letters {
    fn hold(self, c: char) -> bool {
        match self {
            Letters::Token => c.is_ascii_alphanumeric() || "._~+/=-".contains(c),
            Letters::Visible => c.is_ascii_graphic() && !matches!(c, '"' | '\''),
            Letters::Any => true,
        }
    }
}

/// `length` characters of `alphabet`, each as likely as any other.
fn characters(alphabet: &str, length: usize, random: Random) -> Result<String> {
    let alphabet = alphabet.as_bytes();
    // What does not divide evenly is thrown away, else the first letters would be more likely.
    let fair = 256 / alphabet.len() * alphabet.len();
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0; 64];
        random(&mut bytes)?;
        let fair = bytes.into_iter().map(usize::from).filter(|byte| *byte < fair);
        text.extend(fair.map(|byte| char::from(alphabet[byte % alphabet.len()])).take(length - text.len()));
    }
    Ok(text)
}

/// A password that meets whatever Mattermost may be told to ask for, and begins with a letter, so that no program takes it for an option.
fn password(length: usize, random: Random) -> Result<String> {
    let alphabet = format!("{ALPHANUMERIC}{SYMBOLS}");
    loop {
        let text = characters(&alphabet, length, random)?;
        let has = |class: fn(&u8) -> bool| text.bytes().any(|byte| class(&byte));
        let classes =
            has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit) && has(u8::is_ascii_punctuation);
        if classes && text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Ok(text);
        }
    }
}
