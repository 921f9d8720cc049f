//! Users, bots, tokens, teams, channels, members.

use serde_json::json;

use super::{BOTS, Stage};
use crate::replay::{PASSWORD, Replay, Who, With};

pub fn run(stage: &mut Stage) {
    stage.restart(&[]);
    for name in [
        "011-mmctl-user-create-admin",
        "012-mmctl-user-create-admin-again",
        "013-mmctl-user-create-dev-json",
        "014-mmctl-user-search",
        "015-mmctl-user-search-missing",
        "016-mmctl-team-list-empty",
        "284-mmctl-user-create-weak",
        "285-mmctl-user-create-existing-email",
    ] {
        stage.replay.mmctl(&stage.installed, name);
    }
    stage.replay.log_in(Who::Admin, "admin");
    places(&mut stage.replay);
    stage.replay.rest("050-user-create-by-admin");
    for name in [
        "051-mmctl-team-create-again",
        "052-mmctl-team-create",
        "053-mmctl-channel-create-again",
        "054-mmctl-channel-create",
        "055-mmctl-team-users-add",
        "056-mmctl-team-users-add-again",
        "057-mmctl-team-users-add-missing-team",
        "058-mmctl-channel-users-add",
        "059-mmctl-channel-users-add-again",
        "060-mmctl-channel-users-add-missing",
        "286-mmctl-channel-search",
        "287-mmctl-channel-search-missing",
        "288-mmctl-team-search",
        "289-mmctl-team-search-missing",
        "290-mmctl-channel-list",
        "292-mmctl-config-export",
    ] {
        stage.replay.mmctl(&stage.installed, name);
    }
    stage.replay.all(&[
        "294-teams-list",
        "295-logout-noauth",
        "296-api-404",
        "297-bad-id",
        "253-license-client",
        "061-bot-create-disabled",
    ]);
    let hookbot = json!({ "email": "hookbot@internal.test", "username": "hookbot", "password": PASSWORD });
    assert_eq!(stage.replay.send("POST", "/api/v4/users", Some(Who::Admin), &hookbot).0, 201);
    for name in [
        "062-mmctl-user-convert-bot",
        "063-mmctl-user-convert-bot-again",
        "064-mmctl-bot-create-local-disabled",
        "065-mmctl-bot-list",
        "074-mmctl-token-generate-local",
    ] {
        stage.replay.mmctl(&stage.installed, name);
    }
    stage.restart(&[BOTS]);
    bots(&mut stage.replay);
}

/// What needs nothing but an administrator.
pub fn portable(replay: &mut Replay) {
    let dev = json!({ "email": "dev@internal.test", "username": "dev", "password": PASSWORD });
    replay.send("POST", "/api/v4/users", Some(Who::Admin), &dev);
    let (_, dev, _) = replay.send("GET", "/api/v4/users/username/dev", Some(Who::Admin), &serde_json::Value::Null);
    let (_, me, _) = replay.send("GET", "/api/v4/users/me", Some(Who::Admin), &serde_json::Value::Null);
    for (recorded, here) in [("mgkbzjjbatbepq5nzmw54e9mbr", &dev), ("aju3z1uaupd5uj5cfd58hg4ftc", &me)] {
        replay.ids.insert(recorded.into(), here["id"].as_str().unwrap_or_default().into());
    }
    places(replay);
    replay.rest("050-user-create-by-admin");
    replay.all(&["296-api-404", "297-bad-id"]);
}

fn places(replay: &mut Replay) {
    replay.all(&[
        "018-team-create",
        "019-team-create-again",
        "020-team-create-bad-name",
        "021-team-create-reserved-name",
        "022-team-by-name",
        "024-team-exists",
        "025-team-exists-missing",
        "026-team-member-creator",
        "027-user-by-username",
        "028-user-by-username-missing",
        "030-channel-create",
        "031-channel-create-again",
        "032-channel-create-private",
        "033-channel-by-name",
        "034-channel-by-team-name-and-name",
        "036-channel-archive",
        "037-channel-by-name-archived",
        "038-channel-by-name-archived-include",
        "039-channel-create-archived-name",
        "040-channel-restore",
        "042-team-member-add",
        "043-team-member-add-again",
        "044-channel-member-add",
        "045-channel-member-add-again",
        "046-channel-member-get",
        "048-user-create-existing-username",
        "049-user-create-existing-email",
    ]);
}

fn bots(replay: &mut Replay) {
    let made = replay.rest("066-bot-create");
    let bot = made["user_id"].clone();
    replay.all(&["067-bot-create-again", "068-bot-get", "069-bot-list", "070-bot-user-object"]);
    let team = replay.ids["1u7nuj86e3b8ue1e4w7jz1wwwo"].clone();
    let member = json!({ "team_id": team, "user_id": bot });
    assert_eq!(replay.send("POST", &format!("/api/v4/teams/{team}/members"), Some(Who::Admin), &member).0, 201);
    replay.rest("072-bot-channel-join");
    let token = replay.rest("073-bot-token-create");
    replay.tokens.insert(Who::Bot, token["token"].as_str().unwrap_or_default().to_owned());
    replay.rest("075-bot-token-list");
    replay.rest_with("076-bot-post", &With { who: Some(Who::Bot), ..With::default() });
}
