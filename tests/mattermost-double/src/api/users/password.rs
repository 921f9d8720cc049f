//! Passwords: what is accepted, and how they are kept.
//!
//! Two forms, so that an upgrade closes the way back as the real one's does (bcrypt to PBKDF2 in 11): 11.8 rewrites a hash at the
//! next login to a form that 11.7 does not know.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::clock::random;
use crate::web::App;
use crate::web::error::AppError;

const ROUNDS: u32 = 10_000;

/// From 8 to 72 characters.
pub fn check(password: &str) -> Result<(), AppError> {
    match password.len() {
        0..8 => {
            Err(AppError::new(400, "model.user.is_valid.pwd_min_length.app_error", "Your password must contain at least 8 characters."))
        }
        8..=72 => Ok(()),
        _ => Err(AppError::new(400, "model.user.is_valid.pwd_max_length.app_error", "Your password must contain at most 72 characters.")),
    }
}

fn form(app: &App) -> &'static str {
    if app.release.series() >= (11, 8) { "double2" } else { "double1" }
}

/// A salted hash in this release's form.
pub fn hash(app: &App, password: &str) -> String {
    let salt = STANDARD_NO_PAD.encode(random::<16>());
    let form = form(app);
    format!("${form}${salt}${}", digest(form, &salt, password))
}

fn digest(form: &str, salt: &str, password: &str) -> String {
    let mut state = Sha256::digest(format!("{form}:{salt}:{password}"));
    for _ in 0..ROUNDS {
        state = Sha256::digest(state);
    }
    STANDARD_NO_PAD.encode(state)
}

/// Whether `password` is the hashed one. A form of a newer release matches nothing in an older one.
pub fn matches(password: &str, hash: &str) -> bool {
    matches_in(crate::release::Release::find().series(), password, hash)
}

fn matches_in(series: (u32, u32), password: &str, hash: &str) -> bool {
    let mut parts = hash.split('$').skip(1);
    let (Some(form), Some(salt), Some(kept)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let known = form == "double1" || form == "double2" && series >= (11, 8);
    known && digest(form, salt, password) == kept
}

/// Brings the hash of a password that was just seen to this release's form.
pub async fn rehash(app: &App, user: &str, password: &str, kept: &str) -> Result<(), AppError> {
    if !kept.starts_with(&format!("${}$", form(app))) {
        app.db.execute("UPDATE users SET password = $2 WHERE id = $1", &[&user, &hash(app, password)]).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_release_does_not_know_the_newer_form() {
        let kept = |form: &str| format!("${form}$salt${}", digest(form, "salt", "correct horse"));
        assert!(matches_in((11, 7), "correct horse", &kept("double1")) && matches_in((11, 8), "correct horse", &kept("double1")));
        assert!(!matches_in((11, 7), "correct horse", &kept("double2")) && matches_in((11, 8), "correct horse", &kept("double2")));
        assert!(!matches_in((11, 8), "wrong horse", &kept("double2")) && !matches_in((11, 8), "", ""));
    }
}
