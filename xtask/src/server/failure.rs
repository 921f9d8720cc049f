//! What can go wrong between us and the server, and what the reader does about it.

use std::error::Error as _;

use images::{Class, Error};
use rustls::CertificateError;
use serde_json::Value;

use super::call::Call;

/// `Result` with a [`Failure`].
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a call did not do what it should.
#[derive(Debug)]
pub enum Failure {
    /// The server said no.
    Refused {
        /// Method and path.
        call: String,
        /// HTTP status.
        status: u16,
        /// Mattermost's own error id; empty where the answer was not Mattermost's.
        id: String,
        /// Its words; empty where they could repeat a credential.
        message: String,
    },
    /// No connection: the server has seen nothing of the call.
    Unreachable {
        /// Method and path.
        call: String,
        /// Why.
        said: String,
        /// What is wrong with the certificate, where it is that.
        certificate: Option<Distrust>,
    },
    /// The connection ended before the answer: whether the server did it is not known.
    Cut {
        /// Method and path.
        call: String,
        /// Why.
        said: String,
    },
    /// An answer that Mattermost does not give.
    Strange {
        /// Method and path.
        call: String,
        /// What is odd about it.
        said: String,
    },
    /// Of this machine.
    Here(Error),
}

/// Why a certificate is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// Another CA issued it.
    Issuer,
    /// Its time is over, or has not come.
    Time,
    /// It is for other names.
    Name,
    /// Something else.
    Other,
}

impl Failure {
    pub(super) fn of_transport(call: &Call, error: reqwest::Error) -> Failure {
        let (never, certificate) = (error.is_connect() || error.is_builder(), distrust(&error));
        let said = images::store::http::chain(error);
        match never || certificate.is_some() {
            true => Failure::Unreachable { call: call.name(), said, certificate },
            false => Failure::Cut { call: call.name(), said },
        }
    }

    pub(super) fn cut(call: &Call, said: String) -> Failure {
        Failure::Cut { call: call.name(), said }
    }

    pub(super) fn strange(call: &Call, said: String) -> Failure {
        Failure::Strange { call: call.name(), said }
    }

    pub(super) fn refused(call: &Call, status: u16, body: &[u8]) -> Failure {
        let told: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        // An id names a kind of error; what does not look like one may be anything.
        let id = Some(text("id")).filter(|id| id.len() < 120 && id.contains('.') && id.bytes().all(|b| b.is_ascii_graphic()));
        let message = if call.secret { String::new() } else { text("message") };
        Failure::Refused { call: call.name(), status, id: id.unwrap_or_default(), message }
    }

    /// Whether it may pass by itself.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            // 501 says that a feature is switched off.
            Failure::Refused { status, .. } => *status == 429 || (*status >= 500 && *status != 501),
            Failure::Unreachable { certificate, .. } => certificate.is_none(),
            Failure::Cut { .. } => true,
            Failure::Strange { .. } | Failure::Here(_) => false,
        }
    }

    /// Whether the server may have done what it was asked for: only its state tells.
    pub fn is_uncertain(&self) -> bool {
        match self {
            Failure::Refused { status, .. } => *status >= 500 && *status != 501,
            Failure::Cut { .. } => true,
            _ => false,
        }
    }

    /// Whether name or password are wrong, as far as the server tells.
    pub fn is_wrong_password(&self) -> bool {
        matches!(self, Failure::Refused { id, .. } if id.starts_with("api.user.login.invalid_credentials"))
    }

    /// Whether the server said no with this error id.
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Failure::Refused { id, .. } if id == wanted)
    }
}

/// What rustls holds against the certificate, if it is that.
pub fn distrust(error: &reqwest::Error) -> Option<Distrust> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(reason)) = error.downcast_ref() {
            return Some(match reason {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Distrust::Issuer,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Distrust::Time,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Distrust::Name,
                _ => Distrust::Other,
            });
        }
        // An I/O error names as its source that of what it wraps, and not what it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let error = |message: String| Error::new(Class::Server, message);
        match failure {
            Failure::Here(error) => error,
            Failure::Unreachable { call, said, certificate: None } => {
                let error = error("Mattermost is not reached".to_owned()).detail(format!("asked {call}")).detail(said);
                error.hint("`cargo xtask status` shows whether it runs; it may still be starting")
            }
            Failure::Unreachable { call, said, certificate: Some(why) } => {
                let error = error("Mattermost's certificate is not believed".to_owned()).detail(format!("asked {call}")).detail(said);
                error.hint(match why {
                    Distrust::Issuer => {
                        "another CA than the site's (pki/ca.pem) issued it: `cargo xtask certs` and a restart, unless somebody else answers there"
                    }
                    Distrust::Time => "`cargo xtask certs renew`, or this machine's clock is wrong",
                    Distrust::Name => "names and addresses in site.toml have changed since it was issued: `cargo xtask certs`",
                    Distrust::Other => "`cargo xtask certs show` says what it holds",
                })
            }
            Failure::Cut { call, said } => {
                let error = error("the connection to Mattermost was cut".to_owned()).detail(format!("asked {call}")).detail(said);
                error.hint("the same command again goes on from whatever the server has")
            }
            Failure::Strange { call, said } => {
                let error = error("the answer is not Mattermost's".to_owned()).detail(format!("asked {call}")).detail(said);
                error.hint("is the address right, and the version 11 or newer?")
            }
            Failure::Refused { call, status, id, message } => {
                let mut error =
                    error(if id.is_empty() { format!("the server answered {status}") } else { format!("Mattermost says no: {id}") })
                        .detail(format!("asked {call}"))
                        .detail(format!("status {status}"));
                if !message.is_empty() {
                    error = error.detail(message);
                }
                match next_step(status, &id) {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }
        }
    }
}

/// What the reader does about a refusal.
fn next_step(status: u16, id: &str) -> Option<&'static str> {
    const TOKEN: &str = "sign in by `--token-file FILE` with a personal access token of an administrator";
    Some(match id {
        "api.user.login.invalid_credentials_email_username"
        | "api.user.login.invalid_credentials_email"
        | "api.user.login.invalid_credentials_username" => {
            // With its database down the server says the same (contract 229).
            "MATTERMOST_ADMIN_PASSWORD in secrets.env is not the password of [administrator] any more (or the server's database is down); \
             set it again there, or sign in by `--token-file FILE`"
        }
        "api.user.check_user_login_attempts.too_many.app_error" => {
            "the account is locked: `cargo xtask mmctl user change-password NAME` gives it a password and unlocks it"
        }
        "mfa.validate_token.authenticate.app_error"
        | "api.user.check_user_mfa.bad_code.app_error"
        | "api.context.mfa_required.app_error" => {
            "the account has a second factor; sign in by `--token-file FILE` with a personal access token of it"
        }
        "api.user.login.inactive.app_error" => "the account is deactivated: `cargo xtask mmctl user activate NAME`",
        "api.user.login.not_verified.app_error" => "the e-mail address is not verified: `cargo xtask mmctl user verify NAME`",
        "api.context.session_expired.app_error" => TOKEN,
        "api.context.permissions.app_error" => "the account may not do this: it has to be a system administrator",
        "api.bot.create_disabled" => "bot accounts are switched off: MM_SERVICESETTINGS_ENABLEBOTACCOUNTCREATION=true",
        "api.incoming_webhook.disabled.app_error" => "incoming webhooks are switched off: MM_SERVICESETTINGS_ENABLEINCOMINGWEBHOOKS=true",
        "store.sql_team.save_team.existing.app_error" => "the name is taken by an archived team: `cargo xtask mmctl team restore NAME`",
        "api.context.404.app_error" => "this server's API lacks the call: is its version 11 or newer?",
        _ => match status {
            401 => TOKEN,
            429 => "the server limits how often it is asked; try again later, or raise RateLimitSettings",
            500.. => "`cargo xtask logs mattermost` may say why",
            _ if id.is_empty() => "is this the address of a Mattermost server?",
            _ => return None,
        },
    })
}
