//! The REST surface, one module per area.

use axum::Router;
use axum::routing::{delete, get, post, put};

use crate::web::Shared;

mod bots;
mod channels;
mod files;
mod hooks;
mod integrations;
mod login;
mod members;
mod oauth;
pub mod posts;
mod settings;
mod system;
mod teams;
mod tokens;
mod users;
mod webhook;

pub use channels::visible as visible_channel;
pub use files::is_writable as files_are_writable;
pub use users::display_name;
pub use webhook::attachment;

/// All routes; some are missing on the local socket, as they are in the real server.
pub fn routes(local: bool) -> Router<Shared> {
    let api = system(local).merge(people(local)).merge(places());
    let api = if local { api } else { api.merge(network()) };
    let hooks = Router::new().route("/hooks/{id}", post(webhook::take));
    let routes = Router::new().nest("/api/v4", api);
    let sign_in = Router::new()
        .route("/oauth/gitlab/{action}", get(oauth::begin))
        .route("/signup/gitlab/complete", get(oauth::complete))
        .route("/login/gitlab/complete", get(oauth::complete));
    if local { routes } else { routes.merge(hooks).merge(sign_in) }
}

fn system(local: bool) -> Router<Shared> {
    let routes = Router::new()
        .route("/system/ping", get(system::ping))
        .route("/system/timezones", get(system::empty_list))
        .route("/license/client", get(system::license))
        .route("/config", get(settings::get).put(settings::put))
        .route("/config/patch", put(settings::patch))
        .route("/config/reload", post(settings::reload))
        .route("/config/environment", get(settings::environment))
        .route("/plugins", get(crate::plugins::list))
        .route("/plugins/statuses", get(crate::plugins::statuses))
        .route("/plugins/{id}/enable", post(crate::plugins::enable))
        .route("/plugins/{id}/disable", post(crate::plugins::disable));
    if local { routes } else { routes.route("/config/client", get(settings::client)).route("/plugins/webapp", get(crate::plugins::webapp)) }
}

fn people(local: bool) -> Router<Shared> {
    let bots = if local { get(bots::list) } else { get(bots::list).post(bots::create) };
    Router::new()
        .route("/users", get(users::list).post(users::create))
        .route("/users/search", post(users::search))
        .route("/users/ids", post(users::by_ids))
        .route("/users/usernames", post(users::by_usernames))
        .route("/users/username/{name}", get(users::by_username))
        .route("/users/email/{email}", get(users::by_email))
        .route("/users/{id}", get(users::get).delete(users::deactivate))
        .route("/users/{id}/patch", put(users::patch))
        .route("/users/{id}/active", put(users::active))
        .route("/users/{id}/roles", put(users::roles))
        .route("/users/{id}/mfa", put(users::mfa))
        .route("/users/{id}/password", put(users::password))
        .route("/users/{id}/email/verify/member", post(users::verify))
        .route("/users/{id}/convert_to_bot", post(bots::convert))
        .route("/users/{id}/tokens", get(tokens::list).post(tokens::create))
        .route("/users/tokens/revoke", post(tokens::revoke))
        .route("/users/{id}/teams", get(teams::of_user))
        .route("/users/{id}/teams/{team}/channels", get(channels::of_user))
        .route("/users/{id}/preferences", get(system::empty_list))
        .route("/bots", bots)
        .route("/bots/{id}", get(bots::get).put(bots::patch))
        .route("/bots/{id}/disable", post(bots::disable))
        .route("/bots/{id}/enable", post(bots::enable))
}

fn places() -> Router<Shared> {
    Router::new()
        .route("/teams", get(teams::list).post(teams::create))
        .route("/teams/search", post(teams::search))
        .route("/teams/name/{name}", get(teams::by_name))
        .route("/teams/name/{name}/exists", get(teams::exists))
        .route("/teams/name/{name}/channels/name/{channel}", get(channels::by_names))
        .route("/teams/{id}", get(teams::get).delete(teams::archive))
        .route("/teams/{id}/patch", put(teams::patch))
        .route("/teams/{id}/restore", post(teams::restore))
        .route("/teams/{id}/members", get(members::of_team).post(members::add_to_team))
        .route("/teams/{id}/members/{user}", get(members::in_team).delete(members::leave_team))
        .route("/teams/{id}/channels", get(channels::of_team))
        .route("/teams/{id}/channels/private", get(channels::private_of_team))
        .route("/teams/{id}/channels/deleted", get(channels::deleted_of_team))
        .route("/teams/{id}/channels/name/{channel}", get(channels::by_name))
        .route("/channels", get(channels::list).post(channels::create))
        .route("/channels/direct", post(channels::direct))
        .route("/channels/{id}", get(channels::get).put(channels::patch).delete(channels::archive))
        .route("/channels/{id}/patch", put(channels::patch))
        .route("/channels/{id}/privacy", put(channels::privacy))
        .route("/channels/{id}/restore", post(channels::restore))
        .route("/channels/{id}/members", get(members::of_channel).post(members::add_to_channel))
        .route("/channels/{id}/members/{user}", get(members::in_channel).delete(members::leave_channel))
        .route("/hooks/incoming", get(hooks::list).post(hooks::create))
        .route("/hooks/incoming/{id}", get(hooks::get).put(hooks::update).delete(hooks::delete))
}

/// What the local socket does not serve.
fn network() -> Router<Shared> {
    Router::new()
        .route("/users/login", post(login::login))
        .route("/users/logout", post(login::logout))
        .route("/users/{id}/sessions", get(login::sessions))
        .route("/users/{id}/sessions/revoke/all", post(login::revoke_all))
        .route("/users/{id}/teams/unread", get(system::empty_list))
        .route("/posts", post(posts::create))
        .route("/posts/{id}", get(posts::get).delete(posts::delete))
        .route("/posts/{id}/patch", put(posts::patch))
        .route("/channels/{id}/posts", get(posts::of_channel))
        .route("/files", post(files::upload))
        .route("/files/{id}", get(files::get))
        .route("/files/{id}/info", get(files::info))
        .route("/hooks/outgoing", get(system::empty_list).post(integrations::outgoing))
        .route("/commands", post(integrations::command))
        .route("/commands/execute", post(integrations::execute))
        .route("/commands/{id}", delete(integrations::delete_command))
}
