//! Users, bots, tokens.

use serde_json::{Value, json};

use super::{Call, Outcome, list_or_null, text};

/// By name, address or id.
pub fn user(call: &Call, named: &str) -> Option<Value> {
    let by = if named.contains('@') { "/users/email/" } else { "/users/username/" };
    let found = call.client.get(&format!("{by}{named}")).or_else(|_| call.client.get(&format!("/users/{named}")));
    found.ok()
}

/// Several problems at once, as the real one lists them.
fn all_of(problems: &[String]) -> Outcome {
    if problems.is_empty() {
        return Ok(());
    }
    let lines: String = problems.iter().map(|problem| format!("\n\t* {problem}")).collect();
    Err(format!("{} error{} occurred:{lines}\n\n", problems.len(), if problems.len() == 1 { "" } else { "s" }))
}

pub fn create(call: &Call) -> Outcome {
    let mut wanted = json!({});
    for name in ["email", "username", "password"] {
        wanted[name] = call.required(name)?.into();
    }
    for (flag, key) in [("nickname", "nickname"), ("firstname", "first_name"), ("lastname", "last_name"), ("locale", "locale")] {
        if let Some(value) = call.flag(flag) {
            wanted[key] = value.into();
        }
    }
    let failed = |error: super::client::Refusal| format!("Unable to create user. Error: {}", error.message);
    let made = call.client.send("POST", "/users", &wanted).map_err(failed)?;
    let id = text(&made, "id");
    if call.has("system-admin") {
        call.client.send("PUT", &format!("/users/{id}/roles"), &json!({ "roles": "system_user system_admin" }))?;
    }
    if call.has("email-verified") {
        call.client.send("POST", &format!("/users/{id}/email/verify/member"), &Value::Null)?;
    }
    let mut shown = made.clone();
    shown.as_object_mut().map(|shown| shown.remove("failed_attempts"));
    call.print(&shown, || format!("Created user {}", text(&made, "username")));
    Ok(())
}

fn line(user: &Value) -> String {
    format!("{}: {} ({})", text(user, "id"), text(user, "username"), text(user, "email"))
}

pub fn search(call: &Call) -> Outcome {
    let mut problems = Vec::new();
    for named in &call.words {
        match user(call, named) {
            Some(mut found) => {
                found["Deactivated"] = (found["delete_at"] != 0).into();
                found["AuthData"] = "".into();
                call.print(&found, || {
                    format!(
                        "id: {}\nusername: {}\nemail: {}\nroles: {}",
                        text(&found, "id"),
                        text(&found, "username"),
                        text(&found, "email"),
                        text(&found, "roles")
                    )
                });
            }
            None => problems.push(format!("user {named} not found")),
        }
    }
    all_of(&problems)
}

pub fn list(call: &Call) -> Outcome {
    let users = call.client.get("/users?per_page=200")?;
    let lines = || users.as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n");
    call.print(&users, lines);
    eprintln!("There are {} users on local instance", users.as_array().map_or(0, Vec::len));
    Ok(())
}

/// A failure is said, and yet the exit code is 0.
pub fn convert(call: &Call) -> Outcome {
    if !call.has("bot") {
        return Err("either \"user\" flag or \"bot\" flag should be provided".to_owned());
    }
    let mut made = Vec::new();
    for named in &call.words {
        let found = user(call, named).ok_or_else(|| format!("Unable to find user {named}"))?;
        match call.client.send("POST", &format!("/users/{}/convert_to_bot", text(&found, "id")), &Value::Null) {
            Ok(bot) => made.push(bot),
            Err(refusal) => eprintln!("{}", refusal.message),
        }
    }
    if !made.is_empty() {
        let line = made.iter().map(|bot| format!("{} converted to bot.", text(bot, "username"))).collect::<Vec<_>>().join("\n");
        call.print(&made.into(), || line);
    }
    Ok(())
}

fn set_active(call: &Call, active: bool) -> Outcome {
    let mut problems = Vec::new();
    for named in &call.words {
        match user(call, named) {
            Some(found) => drop(call.client.send("PUT", &format!("/users/{}/active", text(&found, "id")), &json!({ "active": active }))?),
            None => problems.push(format!("user {named} not found")),
        }
    }
    all_of(&problems)
}

pub fn deactivate(call: &Call) -> Outcome {
    set_active(call, false)
}

pub fn activate(call: &Call) -> Outcome {
    set_active(call, true)
}

pub fn change_password(call: &Call) -> Outcome {
    let found = user(call, call.word(0)?).ok_or("couldn't find user")?;
    call.client.send("PUT", &format!("/users/{}/password", text(&found, "id")), &json!({ "new_password": call.required("password")? }))?;
    println!("Password for user \"{}\" successfully changed", call.word(0)?);
    Ok(())
}

pub fn bot_list(call: &Call) -> Outcome {
    let bots = call.client.get("/bots?per_page=200")?.as_array().cloned().unwrap_or_default();
    let count = bots.len();
    let lines = bots.iter().map(|bot| format!("{}: {}", text(bot, "user_id"), text(bot, "username"))).collect::<Vec<_>>().join("\n");
    call.print(&list_or_null(bots), || lines);
    eprintln!("There are {count} bots on local instance");
    Ok(())
}

fn set_bot(call: &Call, verb: &str) -> Outcome {
    for named in &call.words {
        let found = user(call, named).ok_or_else(|| format!("can't find user '{named}'"))?;
        call.client.send("POST", &format!("/bots/{}/{verb}", text(&found, "id")), &Value::Null)?;
    }
    Ok(())
}

pub fn bot_disable(call: &Call) -> Outcome {
    set_bot(call, "disable")
}

pub fn bot_enable(call: &Call) -> Outcome {
    set_bot(call, "enable")
}

pub fn token_generate(call: &Call) -> Outcome {
    let found = user(call, call.word(0)?).ok_or_else(|| format!("could not retrieve user information of {:?}", call.words[0]))?;
    let path = format!("/users/{}/tokens", text(&found, "id"));
    let token = call.client.send("POST", &path, &json!({ "description": call.word(1)? }))?;
    let line = format!("{}: {}", text(&token, "token"), text(&token, "description"));
    call.print(&vec![token].into(), || line);
    Ok(())
}
