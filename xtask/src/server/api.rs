//! The calls.

use reqwest::Method;
use serde_json::{Value, json};

use super::call::Call;
use super::client::{Client, parse};
use super::failure::{Failure, Result};
use super::model::{Bot, Channel, Health, Hook, HookId, PluginStatus, Team, User};
use crate::site::secrets::Secret;

/// Most that a list has on a page.
const PAGE: usize = 200;

/// What is to change about a channel; what is none stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[expect(missing_docs, reason = "the server's names")]
pub struct ChannelPatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// An incoming webhook to be made.
#[derive(Clone, Debug, serde::Serialize)]
#[expect(missing_docs, reason = "the server's names")]
pub struct NewHook {
    pub user_id: String,
    pub channel_id: String,
    pub display_name: String,
    pub description: String,
    pub channel_locked: bool,
}

/// The server and accounts.
impl Client {
    /// How server, database and file store are. A server that starts may listen in a moment.
    pub fn ping(&self) -> Result<Health> {
        let call = Call::get("/system/ping?get_server_status=true").unsigned();
        // A server that is not well says 500, and in the body what is wrong (contract 225).
        let answer = self.send_for(&call, |status| matches!(status, 200..=299 | 500))?;
        let mut health: Health = parse(&call, &answer.body)?;
        health.version = answer.version;
        match health.status.is_empty() {
            true => Err(Failure::strange(&call, "no status in it".to_owned())),
            false => Ok(health),
        }
    }

    /// Signs in; calls are the account's from then on.
    pub fn login(&mut self, name: &str, password: &Secret) -> Result<User> {
        let body = json!({ "login_id": name, "password": password.expose() });
        // A second time makes a second session, which ends by itself.
        let call = Call::new(Method::POST, "/users/login").body(body).again().unsigned();
        let answer = self.send(&call)?;
        let user = parse(&call, &answer.body)?;
        let token = answer.token.ok_or_else(|| Failure::strange(&call, "no Token header".to_owned()))?;
        self.set_token(Some(token));
        Ok(user)
    }

    /// Ends the session of [`Client::login`].
    pub fn logout(&mut self) -> Result<()> {
        self.send(&Call::new(Method::POST, "/users/logout").again())?;
        self.set_token(None);
        Ok(())
    }

    /// Who asks.
    pub fn me(&self) -> Result<User> {
        self.json(&Call::get("/users/me"))
    }

    /// Signs up. On a server without accounts that is the administrator's, even where sign-up is closed.
    pub fn create_user(&self, name: &str, email: &str, password: &Secret) -> Result<User> {
        let body = json!({ "username": name, "email": email, "password": password.expose() });
        self.json(&Call::new(Method::POST, "/users").body(body).unsigned())
    }

    /// Every account, bots and deactivated ones among them.
    pub fn users(&self) -> Result<Vec<User>> {
        self.pages("/users?")
    }

    /// The account of that name, also a deactivated one.
    pub fn user(&self, name: &str) -> Result<Option<User>> {
        self.found(&Call::get(format!("/users/username/{name}")))
    }

    /// The bot behind an account, also a deactivated one.
    pub fn bot(&self, id: &str) -> Result<Option<Bot>> {
        self.found(&Call::get(format!("/bots/{id}?include_deleted=true")))
    }

    /// Makes a bot account.
    pub fn create_bot(&self, name: &str, display_name: &str, description: &str) -> Result<Bot> {
        let body = json!({ "username": name, "display_name": display_name, "description": description });
        self.json(&Call::new(Method::POST, "/bots").body(body))
    }

    /// Changes what people read of a bot.
    pub fn change_bot(&self, bot: &Bot, display_name: &str, description: &str) -> Result<Bot> {
        let body = json!({ "username": bot.username, "display_name": display_name, "description": description });
        self.json(&Call::new(Method::PUT, format!("/bots/{}", bot.user_id)).body(body))
    }

    /// Brings a deactivated bot back.
    pub fn enable_bot(&self, id: &str) -> Result<Bot> {
        self.json(&Call::new(Method::POST, format!("/bots/{id}/enable")).again())
    }

    /// The settings, secrets masked.
    pub fn config(&self) -> Result<Value> {
        self.json(&Call::get("/config").secret("/config"))
    }

    /// Section → key → true, for what the environment decides.
    pub fn config_environment(&self) -> Result<Value> {
        self.json(&Call::get("/config/environment"))
    }

    /// The plugins that are installed. One whose signature was refused is not among them.
    pub fn plugin_statuses(&self) -> Result<Vec<PluginStatus>> {
        self.json(&Call::get("/plugins/statuses"))
    }

    /// Every page of a list; `path` ends where parameters may follow.
    fn pages<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        let mut all = Vec::new();
        loop {
            let page: Vec<T> = self.json(&Call::get(format!("{path}page={}&per_page={PAGE}", all.len() / PAGE)).secret(path))?;
            let last = page.len() < PAGE;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }
}

/// Teams and channels.
impl Client {
    /// The team of that name.
    pub fn team(&self, name: &str) -> Result<Option<Team>> {
        self.found(&Call::get(format!("/teams/name/{name}")))
    }

    /// Makes a team; who asks becomes its administrator. People join it by invitation only.
    pub fn create_team(&self, name: &str, display_name: &str) -> Result<Team> {
        self.json(&Call::new(Method::POST, "/teams").body(json!({ "name": name, "display_name": display_name, "type": "O" })))
    }

    /// Renames a team for people.
    pub fn change_team(&self, id: &str, display_name: &str) -> Result<Team> {
        self.json(&Call::new(Method::PUT, format!("/teams/{id}/patch")).body(json!({ "display_name": display_name })))
    }

    /// Brings an archived team back.
    pub fn restore_team(&self, id: &str) -> Result<Team> {
        self.json(&Call::new(Method::POST, format!("/teams/{id}/restore")).again())
    }

    /// The channel of that name, also an archived one: its name is taken (contract 039).
    pub fn channel(&self, team: &str, name: &str) -> Result<Option<Channel>> {
        self.found(&Call::get(format!("/teams/{team}/channels/name/{name}?include_deleted=true")))
    }

    /// The channel of that id.
    pub fn channel_by_id(&self, id: &str) -> Result<Option<Channel>> {
        self.found(&Call::get(format!("/channels/{id}")))
    }

    /// Makes a channel; `kind` is `O` or `P`.
    pub fn create_channel(&self, team: &str, kind: &str, channel: &ChannelPatch) -> Result<Channel> {
        let mut body = serde_json::to_value(channel).unwrap_or_default();
        body["team_id"] = team.into();
        body["type"] = kind.into();
        self.json(&Call::new(Method::POST, "/channels").body(body))
    }

    /// Changes what is not none.
    pub fn change_channel(&self, id: &str, patch: &ChannelPatch) -> Result<Channel> {
        let body = serde_json::to_value(patch).unwrap_or_default();
        self.json(&Call::new(Method::PUT, format!("/channels/{id}/patch")).body(body))
    }

    /// Makes a public channel private.
    pub fn make_private(&self, id: &str) -> Result<Channel> {
        self.json(&Call::new(Method::PUT, format!("/channels/{id}/privacy")).body(json!({ "privacy": "P" })))
    }

    /// Brings an archived channel back; its webhooks stay gone (contract 298).
    pub fn restore_channel(&self, id: &str) -> Result<Channel> {
        self.json(&Call::new(Method::POST, format!("/channels/{id}/restore")).again())
    }

    /// Whether an account is in a team.
    pub fn is_in_team(&self, team: &str, user: &str) -> Result<bool> {
        let member: Option<Value> = self.found(&Call::get(format!("/teams/{team}/members/{user}")))?;
        Ok(member.is_some_and(|member| member["delete_at"].as_i64().unwrap_or_default() == 0))
    }

    /// Puts an account into a team; 201 the first time and again (contract 043).
    pub fn join_team(&self, team: &str, user: &str) -> Result<()> {
        let body = json!({ "team_id": team, "user_id": user });
        self.send(&Call::new(Method::POST, format!("/teams/{team}/members")).body(body).again()).map(drop)
    }

    /// Whether an account is in a channel.
    pub fn is_in_channel(&self, channel: &str, user: &str) -> Result<bool> {
        let member: Option<Value> = self.found(&Call::get(format!("/channels/{channel}/members/{user}")))?;
        Ok(member.is_some())
    }

    /// Puts an account of the team into a channel; 201 the first time and again (contract 045).
    pub fn join_channel(&self, channel: &str, user: &str) -> Result<()> {
        self.send(&Call::new(Method::POST, format!("/channels/{channel}/members")).body(json!({ "user_id": user })).again()).map(drop)
    }
}

/// Incoming webhooks.
impl Client {
    /// Every webhook of a team.
    pub fn hooks(&self, team: &str) -> Result<Vec<Hook>> {
        self.pages(&format!("/hooks/incoming?team_id={team}&"))
    }

    /// Makes a webhook, also where there is one just like it: the server knows no uniqueness (contract 079).
    pub fn create_hook(&self, hook: &NewHook) -> Result<Hook> {
        let body = serde_json::to_value(hook).unwrap_or_default();
        self.json(&Call::new(Method::POST, "/hooks/incoming").body(body).secret("/hooks/incoming"))
    }

    /// Replaces what can be changed: names, channel, lock. The owner stays whoever it is.
    pub fn change_hook(&self, hook: &Hook) -> Result<Hook> {
        let body = serde_json::to_value(hook).unwrap_or_default();
        self.json(&Call::new(Method::PUT, format!("/hooks/incoming/{}", hook.id.expose())).body(body).secret("/hooks/incoming/…"))
    }

    /// Deletes a webhook for good; one that is gone already is what was wanted.
    pub fn delete_hook(&self, id: &HookId) -> Result<()> {
        let call = Call::new(Method::DELETE, format!("/hooks/incoming/{}", id.expose())).secret("/hooks/incoming/…");
        match self.send(&call) {
            Err(failure) if failure.is("app.webhooks.get_incoming.app_error") => Ok(()),
            other => other.map(drop),
        }
    }
}

/// Slash commands.
impl Client {
    /// Makes a slash command of a team: the token that the server shows to `url`.
    pub fn create_command(&self, team: &str, trigger: &str, url: &str, display_name: &str) -> Result<Secret> {
        let body = json!({
            "team_id": team, "trigger": trigger, "method": "P", "url": url, "display_name": display_name, "username": display_name,
            "auto_complete": true, "auto_complete_desc": "issues, merge requests, deployments", "auto_complete_hint": "help",
        });
        let call = Call::new(Method::POST, "/commands").body(body).secret("/commands");
        let made: Value = self.json(&call)?;
        match made["token"].as_str() {
            Some(token) => Ok(Secret::new(token)),
            None => Err(Failure::strange(&call, "a command without a token".to_owned())),
        }
    }
}
