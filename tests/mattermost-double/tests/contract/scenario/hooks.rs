//! Incoming webhooks: their management, every input, and what becomes of them.

use serde_json::json;

use super::{BOTS, Stage, long};
use crate::replay::{Replay, Who, With};

pub fn run(stage: &mut Stage) {
    make(&mut stage.replay);
    for name in
        ["082-mmctl-webhook-create-incoming", "083-mmctl-webhook-create-incoming-nouser", "084-mmctl-webhook-create-incoming-botowner"]
    {
        stage.replay.mmctl(&stage.installed, name);
    }
    stage.replay.mmctl(&stage.installed, "085-mmctl-webhook-list");
    stage.replay.all(&["086-hook-list", "087-hook-list-team"]);
    posts(&mut stage.replay);
    stage.replay.hook("botowned", &["133-hookpost-bot-owned"]);
    rest(&mut stage.replay);
    stage.replay.mmctl_with(&stage.installed, "282-mmctl-webhook-delete", "again");
    stage.replay.mmctl_with(&stage.installed, "283-mmctl-webhook-delete-again", "again");
    // The recorded page holds parts of long messages alone; there were more of them.
    stage.replay.rest_with("141-posts-after-hooks", &With { query: "per_page=30", ..With::default() });
    stage.replay.rest("142-posts-alerts");
    owners(stage);

    stage.restart(&[("MM_SERVICESETTINGS_ENABLEINCOMINGWEBHOOKS", "false")]);
    stage.replay.all(&["144-hook-create-disabled-server", "145-hook-list-disabled-server"]);
    let both = [("MM_SERVICESETTINGS_ENABLEPOSTUSERNAMEOVERRIDE", "true"), ("MM_SERVICESETTINGS_ENABLEPOSTICONOVERRIDE", "true")];
    stage.restart(&both);
    stage.replay.hook("sonarqube", &["146-hookpost-username-override-on"]);
    stage.replay.all(&["147-posts-override-on", "148-hook-create-username-override-on"]);
    stage.restart(&[BOTS]);
}

/// What needs nothing but an administrator, and a server whose webhooks are on.
pub fn portable(replay: &mut Replay) {
    let wanted =
        json!({ "team_id": replay.ids.get("1u7nuj86e3b8ue1e4w7jz1wwwo"), "name": "alerts", "display_name": "Alerts", "type": "O" });
    replay.send("POST", "/api/v4/channels", Some(Who::Admin), &wanted);
    make(replay);
    posts(replay);
    rest(replay);
}

fn make(replay: &mut Replay) {
    for (name, keep) in [
        ("078-hook-create", "sonarqube"),
        ("079-hook-create-same-again", "again"),
        ("080-hook-create-locked", "locked"),
        ("081-hook-create-username-override-off", "u"),
    ] {
        replay.rest_with(name, &With { keep, ..With::default() });
    }
    replay.hook("sonarqube", &["088-hook-get"]);
}

fn posts(replay: &mut Replay) {
    replay.hook(
        "sonarqube",
        &[
            "090-hookpost-text",
            "091-hookpost-form-payload",
            "092-hookpost-multipart",
            "093-hookpost-attachments",
            "094-hookpost-attachments-only",
            "096-hookpost-text-plain-ctype",
            "097-hookpost-charset-ctype",
            "098-hookpost-wrong-id",
            "099-hookpost-bad-id-format",
            "100-hookpost-get-method",
            "102-hookpost-other-channel",
            "103-hookpost-other-channel-hash",
            "104-hookpost-dm-user",
            "105-hookpost-dm-unknown-user",
            "108-hookpost-empty-object",
            "109-hookpost-empty-text",
            "110-hookpost-empty-body",
            "111-hookpost-null-body",
            "112-hookpost-array-body",
            "114-hookpost-text-number",
            "115-hookpost-form-no-payload",
            "116-hookpost-form-bad-payload",
            "117-hookpost-sonarqube-body",
            "118-hookpost-too-long-text",
            "121-hookpost-username-override-off",
            "122-hookpost-slash-suffix",
            "123-hookpost-props",
            "124-hookpost-props-attachments",
            "126-hookpost-type-custom",
            "127-hookpost-type-system",
            "128-hookpost-priority",
        ],
    );
    replay.hook("locked", &["106-hookpost-locked-other-channel"]);
    for (name, length) in [
        ("120-hookpost-body-5MB", 5_000_000),
        ("129-hookpost-payload-290000", 290_000),
        ("130-hookpost-payload-299900", 299_900),
        ("132-hookpost-payload-1000000", 1_000_000),
    ] {
        replay.rest_with(name, &long(length));
    }
}

fn rest(replay: &mut Replay) {
    replay.hook("again", &["134-hook-delete", "135-hookpost-deleted-hook"]);
    replay.hook("sonarqube", &["136-hook-update"]);
    let hook = json!({ "channel_id": replay.ids["tai1kfmumjrd88ekop81egft8r"], "display_name": "private" });
    let (status, made, _) = replay.send("POST", "/api/v4/hooks/incoming", Some(Who::Admin), &hook);
    assert_eq!(status, 201, "{made}");
    replay.hooks.insert("private".into(), made["id"].as_str().unwrap_or_default().into());
    replay.hook("private", &["138-hookpost-private-channel"]);
    replay.all(&["139-hook-create-unknown-channel", "140-hook-create-no-channel"]);
}

/// Whose owner is deactivated, or whose channel is archived.
fn owners(stage: &mut Stage) {
    let viewer = stage.replay.ids["j8x5g9g6ijngty5rff3ne6sxcr"].clone();
    let alerts = stage.replay.ids["f1uug6tasirh9mehsun5kbw8mh"].clone();
    let wanted = json!({ "channel_id": stage.replay.ids["89dedbiiwpyf3rgcjc4fxiq6py"], "display_name": "viewers", "user_id": viewer });
    let (_, made, _) = stage.replay.send("POST", "/api/v4/hooks/incoming", Some(Who::Admin), &wanted);
    stage.replay.hooks.insert("viewers".into(), made["id"].as_str().unwrap_or_default().into());
    stage.replay.hook("viewers", &["276-hookpost-owner-viewer"]);
    stage.replay.mmctl(&stage.installed, "277-mmctl-user-deactivate");
    stage.replay.hook("viewers", &["278-hookpost-owner-deactivated"]);
    stage.replay.mmctl(&stage.installed, "279-mmctl-channel-archive");
    stage.replay.hook("botowned", &["280-hookpost-archived-channel"]);
    assert_eq!(stage.replay.send("POST", &format!("/api/v4/channels/{alerts}/restore"), Some(Who::Admin), &json!({})).0, 200);
    stage.replay.hook("botowned", &["298-hookpost-after-archive-restore"]);
}
