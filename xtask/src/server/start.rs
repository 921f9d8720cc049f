//! The first start: on an empty server whoever comes first becomes the administrator, so it has to be us.

use images::{Class, Error};

use super::client::Client;
use super::failure::{Failure, Result};
use super::model::User;
use crate::site::secrets::Secret;

/// How the administrator came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Made just now.
    Made,
    /// There already, with this name and password.
    There,
}

/// How often it is looked again what became of a request whose answer did not come.
const LOOKS: u32 = 4;

/// Makes the first account, the administrator's, through an address that nobody else reaches, and signs in as it. Again, or after an
/// earlier try was cut off, it finds its own work.
///
/// # Errors
/// [`Failure::Here`] where somebody else was first, or the account is no administrator's.
pub fn create_first_administrator(client: &mut Client, name: &str, email: &str, password: &Secret) -> Result<First> {
    let mut look = 0;
    loop {
        look += 1;
        let failure = match client.create_user(name, email, password) {
            Ok(_) => {
                must_be_administrator(&client.login(name, password)?)?;
                return Ok(First::Made);
            }
            Err(failure) => failure,
        };
        let taken =
            ["api.user.create_user.no_open_server", "app.user.save.username_exists.app_error", "app.user.save.email_exists.app_error"]
                .iter()
                .any(|id| failure.is(id));
        if !taken && !failure.is_uncertain() {
            return Err(failure);
        }
        match client.login(name, password) {
            Ok(user) => {
                must_be_administrator(&user)?;
                return Ok(First::There);
            }
            Err(refused) if refused.is_wrong_password() && !taken && look < LOOKS => {}
            Err(refused) if refused.is_wrong_password() && taken => return Err(Failure::Here(taken_by_another(name))),
            Err(other) => return Err(other),
        }
    }
}

/// Accounts of people beside the administrator's. At the first start there must be none.
pub fn other_people(client: &Client, administrator: &str) -> Result<Vec<String>> {
    let others = client.users()?.into_iter().filter(|user| !user.is_bot && user.username != administrator);
    Ok(others.map(|user| user.username).collect())
}

fn must_be_administrator(user: &User) -> Result<()> {
    if user.is_administrator() {
        return Ok(());
    }
    let error = Error::new(Class::Server, format!("{} is not an administrator", user.username))
        .detail("expected the first account of the server, with the role system_admin")
        .detail(format!("found    roles {}", user.roles))
        .hint("somebody else was first: look who, with `cargo xtask mmctl user list --all`, before anything else is done");
    Err(Failure::Here(error))
}

fn taken_by_another(name: &str) -> Error {
    Error::new(Class::Server, format!("the server has accounts already, and none called {name} with the password in secrets.env"))
        .hint("is it the right server? `cargo xtask mmctl user list --all` shows its accounts; [administrator] in site.toml names ours")
}
