//! Teams, channels, webhooks.

use serde_json::{Value, json};

use super::people::user;
use super::{Call, Outcome, list_or_null, text};

fn team(call: &Call, named: &str) -> Option<Value> {
    call.client.get(&format!("/teams/{named}")).or_else(|_| call.client.get(&format!("/teams/name/{named}"))).ok()
}

fn existing_team(call: &Call, named: &str) -> Result<Value, String> {
    team(call, named).ok_or_else(|| format!("Unable to find team '{named}'"))
}

/// `team:channel`.
fn channel(call: &Call, named: &str) -> Option<Value> {
    let (team_name, name) = named.split_once(':')?;
    let team = team(call, team_name)?;
    call.client.get(&format!("/teams/{}/channels/name/{name}?include_deleted=true", text(&team, "id"))).ok()
}

fn existing_channel(call: &Call, named: &str) -> Result<Value, String> {
    channel(call, named).ok_or_else(|| format!("unable to find channel {named:?}"))
}

pub fn team_create(call: &Call) -> Outcome {
    let kind = if call.has("private") { "I" } else { "O" };
    let wanted = json!({ "name": call.required("name")?, "display_name": call.required("display-name")?, "type": kind });
    let failed = |error: super::client::Refusal| format!("Team creation failed: {}", error.message);
    let made = call.client.send("POST", "/teams", &wanted).map_err(failed)?;
    call.print(&made, || format!("New team {} successfully created", text(&made, "name")));
    Ok(())
}

pub fn team_list(call: &Call) -> Outcome {
    let teams = call.client.get("/teams?per_page=200")?.as_array().cloned().unwrap_or_default();
    let count = teams.len();
    let lines = teams.iter().map(|team| text(team, "name").to_owned()).collect::<Vec<_>>().join("\n");
    if count > 0 || call.has("json") {
        call.print(&list_or_null(teams), || lines);
    }
    eprintln!("There are {count} teams on local instance");
    Ok(())
}

pub fn team_search(call: &Call) -> Outcome {
    let mut found = Vec::new();
    for named in &call.words {
        let teams = call.client.send("POST", "/teams/search", &json!({ "term": named }))?.as_array().cloned().unwrap_or_default();
        if teams.is_empty() {
            eprintln!("Unable to find team '{named}'");
        }
        found.extend(teams);
    }
    let lines = found
        .iter()
        .map(|team| format!("{}: {} ({})", text(team, "name"), text(team, "display_name"), text(team, "id")))
        .collect::<Vec<_>>()
        .join("\n");
    if !found.is_empty() || call.has("json") {
        call.print(&list_or_null(found), || lines);
    }
    Ok(())
}

pub fn team_users_add(call: &Call) -> Outcome {
    let team = existing_team(call, call.word(0)?)?;
    for named in &call.words[1..] {
        let found = user(call, named).ok_or_else(|| format!("can't find user '{named}'"))?;
        let member = json!({ "team_id": team["id"], "user_id": found["id"] });
        call.client.send("POST", &format!("/teams/{}/members", text(&team, "id")), &member)?;
    }
    Ok(())
}

pub fn channel_create(call: &Call) -> Outcome {
    let team = existing_team(call, call.required("team")?)?;
    let wanted = json!({
        "team_id": team["id"], "name": call.required("name")?, "display_name": call.required("display-name")?,
        "header": call.flag("header").unwrap_or_default(), "purpose": call.flag("purpose").unwrap_or_default(),
        "type": if call.has("private") { "P" } else { "O" }
    });
    let made = call.client.send("POST", "/channels", &wanted)?;
    call.print(&made, || format!("New channel {} successfully created", text(&made, "name")));
    Ok(())
}

pub fn channel_list(call: &Call) -> Outcome {
    for named in &call.words {
        let team = existing_team(call, named)?;
        let mut all = Vec::new();
        for kind in ["", "/private", "/deleted"] {
            let some = call.client.get(&format!("/teams/{}/channels{kind}?per_page=200", text(&team, "id")))?;
            all.extend(some.as_array().cloned().unwrap_or_default());
        }
        let count = all.len();
        let mark = |channel: &Value| match (channel["delete_at"] == 0, text(channel, "type")) {
            (false, _) => " (archived)",
            (true, "P") => " (private)",
            _ => "",
        };
        let lines = all.iter().map(|channel| format!("{}{}", text(channel, "name"), mark(channel))).collect::<Vec<_>>().join("\n");
        call.print(&list_or_null(all), || lines);
        eprintln!("There are {count} channels on local instance");
    }
    Ok(())
}

pub fn channel_search(call: &Call) -> Outcome {
    let team = existing_team(call, call.required("team")?)?;
    let found = call.client.get(&format!("/teams/{}/channels/name/{}?include_deleted=true", text(&team, "id"), call.word(0)?))?;
    let names = ["name", "display_name", "id"].map(|name| text(&found, name));
    call.print(&found, || format!("Channel Name :{}, Display Name :{}, Channel ID :{}", names[0], names[1], names[2]));
    Ok(())
}

pub fn channel_archive(call: &Call) -> Outcome {
    for named in &call.words {
        let found = existing_channel(call, named)?;
        call.client.send("DELETE", &format!("/channels/{}", text(&found, "id")), &Value::Null)?;
    }
    Ok(())
}

pub fn channel_users_add(call: &Call) -> Outcome {
    let found = existing_channel(call, call.word(0)?)?;
    for named in &call.words[1..] {
        let member = user(call, named).ok_or_else(|| format!("can't find user '{named}'"))?;
        let path = format!("/channels/{}/members", text(&found, "id"));
        call.client.send("POST", &path, &json!({ "user_id": member["id"] }))?;
    }
    Ok(())
}

pub fn webhook_create(call: &Call) -> Outcome {
    let (named, owner) = (call.required("channel")?, call.required("user")?);
    let found = channel(call, named).ok_or_else(|| format!("Unable to find channel '{named}'"))?;
    let owner = user(call, owner).ok_or_else(|| format!("Unable to find user '{owner}'"))?;
    let wanted = json!({
        "channel_id": found["id"], "user_id": owner["id"], "display_name": call.flag("display-name").unwrap_or_default(),
        "description": call.flag("description").unwrap_or_default(), "icon_url": call.flag("icon").unwrap_or_default(),
        "channel_locked": call.has("lock-to-channel")
    });
    let made = call.client.send("POST", "/hooks/incoming", &wanted)?;
    call.print(&made, || format!("Id: {}\nDisplay Name: {}", text(&made, "id"), text(&made, "display_name")));
    Ok(())
}

pub fn webhook_list(call: &Call) -> Outcome {
    let mut all = Vec::new();
    for named in &call.words {
        let team = existing_team(call, named)?;
        let some = call.client.get(&format!("/hooks/incoming?per_page=200&team_id={}", text(&team, "id")))?;
        all.extend(some.as_array().cloned().unwrap_or_default());
    }
    let lines =
        all.iter().map(|hook| format!("Incoming:\t {} ({})", text(hook, "display_name"), text(hook, "id"))).collect::<Vec<_>>().join("\n");
    let count = all.len();
    call.print(&list_or_null(all), || lines);
    eprintln!("There are {count} webhooks on local instance");
    Ok(())
}

pub fn webhook_delete(call: &Call) -> Outcome {
    let id = call.word(0)?;
    let path = format!("/hooks/incoming/{id}");
    call.client.get(&path).map_err(|_| format!("Webhook with id '{id}' not found"))?;
    call.client.send("DELETE", &path, &Value::Null)?;
    println!("Webhook {id} successfully deleted");
    Ok(())
}

/// There is no such route on the local socket.
pub fn post_create(call: &Call) -> Outcome {
    let found = existing_channel(call, call.word(0)?)?;
    let wanted = json!({ "channel_id": found["id"], "message": call.required("message")? });
    let failed = |error: super::client::Refusal| format!("could not create post: {}", error.message);
    call.client.send("POST", "/posts", &wanted).map(drop).map_err(failed)
}
