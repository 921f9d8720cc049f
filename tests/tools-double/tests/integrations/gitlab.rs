use tools_double::gitlab::{Application, Gitlab, MAINTAINER, PLACES, TOKEN};
use tools_double::{Double, Fault};
use xtask::integrations::api::Scheme;
use xtask::integrations::gitlab::{APPLICATION, Done, Wanted, application, apply, command_url, slash_command, token_name, trigger};
use xtask::integrations::{Applied, states};
use xtask::provision::Tool;
use xtask::site::secrets::{Name, Secret};

use crate::{Place, each_fault_is_told_and_the_next_run_finishes, mode};

const SITE: &str = "[gitlab]\nurl = \"https://gitlab.cicd.local\"\nprojects = [\"group/sub/project\"]\ngroups = [\"group\"]\nbranches = \"protected\"\n\
                    events = { merge_request = \"code-reviews\", pipeline = \"builds\" }\n";
const HOOK: &str = "https://mattermost.cicd.local:8065/hooks/cccccccccccccccccccccccccc";

fn place() -> Place {
    Place::new(SITE, &format!("WEBHOOK_GITLAB_CODE_REVIEWS={HOOK}\n"))
}

fn double() -> Double<Gitlab> {
    let mut gitlab = Gitlab::default();
    gitlab.allow_list = vec!["mattermost.cicd.local".to_owned()];
    Double::start(gitlab)
}

fn wanted(place: &Place) -> Wanted {
    Wanted::of(&place.site, place.site.gitlab.as_ref().unwrap(), &place.secrets())
}

fn tell(place: &Place, double: &Double<Gitlab>, token: &str) -> images::Result<Done> {
    let bundle = place.bundle(Tool::Gitlab);
    bundle.write().unwrap();
    let mut api = place.api(Tool::Gitlab, double, Scheme::PrivateToken, token);
    let mut applied = Applied::read(bundle.folder()).of_server(api.base());
    apply(&mut api, &wanted(place), &mut applied)
}

/// As the verb does: what GitLab shows once goes into `secrets.env` at once.
fn link(place: &Place, double: &Double<Gitlab>, token: &str, again: bool) -> images::Result<Done> {
    let api = place.api(Tool::Gitlab, double, Scheme::PrivateToken, token);
    let mut secrets = place.secrets();
    application(&api, &wanted(place), &place.secrets(), again, &mut |id, secret| {
        secrets.put(Name::GitlabOauthId, id);
        secrets.put(Name::GitlabOauthSecret, secret);
        images::file::write_beside(&place.folder.secrets(), secrets.render().expose().as_bytes(), 0o600)
    })
}

fn is_right(double: &Double<Gitlab>) {
    double.tool(|tool| {
        for place in PLACES {
            let told = &tool.integrations[&format!("{place}/mattermost")];
            for (key, value) in [
                ("webhook", HOOK.into()),
                ("username", "GitLab".into()),
                ("channel", "code-reviews".into()),
                ("branches_to_be_notified", "protected".into()),
                ("notify_only_broken_pipelines", true.into()),
                ("merge_requests_events", true.into()),
                ("merge_request_channel", "code-reviews".into()),
                ("pipeline_events", true.into()),
                ("pipeline_channel", "builds".into()),
                ("push_events", false.into()),
                ("confidential_issues_events", false.into()),
            ] {
                assert_eq!(told[key], serde_json::Value::clone(&value), "{place}: {key}");
            }
        }
    });
}

#[test]
fn gitlab_is_told_events_channels_and_branches_by_path_and_once() {
    let (place, double) = (place(), double());
    let done = tell(&place, &double, TOKEN).unwrap();
    assert_eq!(done.changes, ["~ group/sub/project: switched on", "~ group: switched on"]);
    assert_eq!(done.problems, Vec::<String>::new());
    is_right(&double);
    // The path is one piece of the address: nothing is searched for.
    assert!(double.asked().iter().any(|asked| asked.path == "/api/v4/projects/group%2Fsub%2Fproject/integrations/mattermost"));
    assert_eq!(tell(&place, &double, TOKEN).unwrap().changes, Vec::<String>::new());
    assert!(double.asked().iter().all(|asked| asked.method == "GET"));
}

#[test]
fn a_drift_in_gitlab_is_undone_and_a_new_webhook_is_told() {
    let (place, double) = (place(), double());
    tell(&place, &double, TOKEN).unwrap();
    double.tool(|tool| {
        let told = tool.integrations.get_mut("groups/group/mattermost").unwrap();
        told["pipeline_channel"] = "elsewhere".into();
        told["push_events"] = true.into();
    });
    assert_eq!(tell(&place, &double, TOKEN).unwrap().changes, ["~ group: pipeline_channel, push_events"]);
    is_right(&double);
    images::file::write_beside(&place.folder.secrets(), b"WEBHOOK_GITLAB_CODE_REVIEWS=https://new/hooks/x\n", 0o600).unwrap();
    assert_eq!(tell(&place, &double, TOKEN).unwrap().changes, ["~ group/sub/project: webhook", "~ group: webhook"]);
    double.tool(|tool| assert_eq!(tool.integrations["groups/group/mattermost"]["webhook"], "https://new/hooks/x"));
}

#[test]
fn whether_gitlab_may_ask_private_addresses_is_looked_at() {
    for (local, list, expected) in [
        (true, vec![], None),
        (false, vec!["192.168.1.20:8065".to_owned()], None),
        (false, vec!["mattermost.cicd.local.evil".to_owned()], Some("put mattermost.cicd.local on the list")),
        (false, vec![], Some("GitLab asks no private address")),
    ] {
        let (place, double) = (place(), double());
        double.tool(|tool| (tool.allow_local, tool.allow_list) = (local, list));
        let problems = tell(&place, &double, TOKEN).unwrap().problems;
        assert_eq!(problems.len(), usize::from(expected.is_some()), "{problems:?}");
        assert!(expected.is_none_or(|words| problems[0].contains(words)), "{problems:?}");
    }
    let problems = tell(&place(), &double(), MAINTAINER).unwrap().problems;
    assert!(problems[0].contains("only an administrator's token can tell"), "{problems:?}");
}

#[test]
fn the_oauth_application_is_made_once_and_leads_back_by_name_and_by_address() {
    let (place, double) = (place(), double());
    // On the second page of the list stands nothing that could be taken for it.
    let other = |id: usize| Application {
        id: 1000 + id,
        name: "theirs".to_owned(),
        application_id: "x".to_owned(),
        secret: "y".to_owned(),
        redirects: String::new(),
    };
    double.tool(|tool| tool.applications = (0..100).map(other).collect());
    assert_eq!(link(&place, &double, TOKEN, false).unwrap().changes.len(), 1);
    let made = double.tool(|tool| tool.applications.last().unwrap().clone());
    let redirects: Vec<&str> = made.redirects.lines().collect();
    for expected in [
        "https://192.168.1.20:8065/plugins/com.github.manland.mattermost-plugin-gitlab/oauth/complete",
        "https://mattermost.cicd.local:8065/plugins/com.github.manland.mattermost-plugin-gitlab/oauth/complete",
        "https://mattermost.cicd.local:8065/login/gitlab/complete",
        "https://mattermost.cicd.local:8065/signup/gitlab/complete",
    ] {
        assert!(redirects.contains(&expected), "{expected} is not in {redirects:?}");
    }
    let secrets = place.secrets();
    assert_eq!(secrets.get(Name::GitlabOauthId).unwrap().expose(), made.application_id);
    assert_eq!(secrets.get(Name::GitlabOauthSecret).unwrap().expose(), made.secret);
    assert_eq!(mode(&place.folder.secrets()), 0o600);
    double.asked();
    assert_eq!(link(&place, &double, TOKEN, false).unwrap().changes, Vec::<String>::new());
    assert!(double.asked().iter().all(|asked| asked.method == "GET"));
}

#[test]
fn an_application_that_is_of_no_use_is_replaced_only_where_that_is_asked_for() {
    let (place, double) = (place(), double());
    link(&place, &double, TOKEN, false).unwrap();
    let before = place.secrets();
    double.tool(|tool| tool.applications[0].redirects = "https://old/".to_owned());
    let error = link(&place, &double, TOKEN, false).unwrap_err().to_string();
    assert!(error.contains("other addresses") && error.contains("--reauthorise"), "{error}");
    images::file::write_beside(&place.folder.secrets(), format!("WEBHOOK_GITLAB_CODE_REVIEWS={HOOK}\n").as_bytes(), 0o600).unwrap();
    let error = link(&place, &double, TOKEN, false).unwrap_err().to_string();
    assert!(error.contains("shows it only once"), "{error}");
    assert_eq!(link(&place, &double, TOKEN, true).unwrap().changes.len(), 2);
    double.tool(|tool| assert_eq!((tool.applications.len(), tool.applications[0].name.as_str()), (1, APPLICATION)));
    assert_ne!(place.secrets().get(Name::GitlabOauthId), before.get(Name::GitlabOauthId));
    // What somebody made by hand, for one account, is not in the list, and stays.
    double.tool(|tool| tool.applications.clear());
    assert_eq!(link(&place, &double, TOKEN, false).unwrap().changes, Vec::<String>::new());
    // Without an administrator's token it is a step by hand.
    let done = link(&self::place(), &double, MAINTAINER, false).unwrap();
    assert!(done.problems[0].contains("administrator's token"), "{:?}", done.problems);
    let error = link(&place, &double, MAINTAINER, true).unwrap_err().to_string();
    assert!(error.contains("nothing was revoked"), "{error}");
}

#[test]
fn an_application_whose_secret_was_lost_on_the_way_is_told_and_replaced_on_demand() {
    let (place, double) = (place(), double());
    // GitLab makes it, and its answer is lost: the secret is shown this one time.
    double.fault(2, Fault::Lost);
    let error = link(&place, &double, TOKEN, false).unwrap_err().to_string();
    assert!(error.contains("was cut"), "{error}");
    assert!(link(&place, &double, TOKEN, false).unwrap_err().to_string().contains("--reauthorise"));
    link(&place, &double, TOKEN, true).unwrap();
    double.tool(|tool| assert_eq!(tool.applications.len(), 1, "a second one was made"));
    assert_eq!(link(&place, &double, TOKEN, false).unwrap().changes, Vec::<String>::new());
}

#[test]
fn gitlabs_slash_commands_get_mattermosts_token_once() {
    let (place, double) = (place(), double());
    let bundle = place.bundle(Tool::Gitlab);
    bundle.write().unwrap();
    let mut api = place.api(Tool::Gitlab, &double, Scheme::PrivateToken, TOKEN);
    let token = Secret::new("the-token-of-a-command");
    for expected in [true, false] {
        let mut applied = Applied::read(bundle.folder()).of_server(api.base());
        assert_eq!(slash_command(&mut api, "group/sub/project", &token, &mut applied).unwrap(), expected);
    }
    double.tool(|tool| {
        assert_eq!(tool.integrations["projects/group%2Fsub%2Fproject/mattermost-slash-commands"]["token"], "the-token-of-a-command");
    });
    assert_eq!(
        (token_name("group/sub/project").as_str(), trigger("Group/Project").as_str()),
        ("GITLAB_COMMAND_GROUP_SUB_PROJECT", "group-project")
    );
    let url = command_url(place.site.gitlab.as_ref().unwrap(), "group/sub/project");
    assert_eq!(url, "https://gitlab.cicd.local/api/v4/projects/group%2Fsub%2Fproject/integrations/mattermost_slash_commands/trigger");
}

#[test]
fn every_refusal_of_gitlab_is_told_with_a_next_step_and_without_a_secret() {
    let words = [
        (Fault::Status(409), "GitLab answered 409"),
        (Fault::Status(500), "GitLab answered 500"),
        (Fault::Status(502), "GitLab answered 502"),
        (Fault::Html, "the answer is not GitLab's"),
        (Fault::Cut, "the connection to GitLab was cut"),
        (Fault::Lost, "the connection to GitLab was cut"),
    ];
    let place = place();
    each_fault_is_told_and_the_next_run_finishes(
        || {
            let _ = fs_err::remove_dir_all(place.folder.integrations());
            double()
        },
        |double| tell(&place, double, TOKEN).map(|done| done.changes),
        is_right,
        &words,
        &[HOOK, TOKEN],
    );
    for (fault, expected) in [(401, "personal access token"), (403, "Maintainer"), (404, "may the token see it")] {
        let double = double();
        double.always(Fault::Status(fault));
        let error = tell(&place, &double, TOKEN).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{fault}: {error}");
    }
}

#[test]
fn gitlabs_ready_files_hold_everything_and_are_written_once() {
    let place = place();
    assert_eq!(place.bundle(Tool::Gitlab).write().unwrap(), ["README.md", "chatops-ca.crt", "gitlab.rb", "integration.json"]);
    assert_eq!(place.bundle(Tool::Gitlab).write().unwrap(), Vec::<&str>::new());
    assert_eq!(states(&place.folder, &place.site), ["= integrations gitlab: files are ready; nothing was applied through its API"]);
    let bundle = place.bundle(Tool::Gitlab);
    assert_eq!(mode(&bundle.folder().join("integration.json")), 0o600);
    assert_eq!(bundle.text("gitlab.rb"), "gitlab_rails['mattermost_host'] = 'https://mattermost.cicd.local:8065'\n");
    let steps = bundle.text("README.md");
    for told in [
        "/etc/gitlab/trusted-certs/",
        "gitlab-ctl reconfigure",
        "Outbound requests",
        "Trusted",
        "groups/group/integrations/mattermost",
        "oauth/complete",
    ] {
        assert!(steps.contains(told), "{told} is not in the steps");
    }
    assert!(!steps.contains("/hooks/") && !steps.contains('{'), "{steps}");
}
