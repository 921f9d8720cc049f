use tools_double::sonarqube::{Hook, NOBODY, SonarQube, TOKEN, Version};
use tools_double::{Double, Fault};
use xtask::integrations::api::Scheme;
use xtask::integrations::sonarqube::{WEBHOOK, Wanted, apply};
use xtask::integrations::{Applied, states};
use xtask::provision::Tool;

use crate::{Place, each_fault_is_told_and_the_next_run_finishes, mode};

const SECRET: &str = "the-secret-of-the-gateway-0123456789";
const URL: &str = "https://mattermost.cicd.local:9443/sonarqube";
const BOTH: [Version; 2] = [Version::V9_9, Version::V25_1];

fn place(projects: &str) -> Place {
    let toml = format!("[sonarqube]\nurl = \"https://sonarqube.cicd.local\"\nprojects = [{projects}]\n");
    Place::new(&toml, &format!("SONARQUBE_WEBHOOK_SECRET={SECRET}\n"))
}

fn run_as(place: &Place, double: &Double<SonarQube>, token: &str) -> images::Result<Vec<String>> {
    let bundle = place.bundle(Tool::Sonarqube);
    bundle.write().unwrap();
    let mut api = place.api(Tool::Sonarqube, double, Scheme::BasicUser, token);
    let wanted = Wanted::of(&place.site, place.site.sonarqube.as_ref().unwrap(), &place.secrets()).unwrap();
    let mut applied = Applied::read(bundle.folder()).of_server(api.base());
    apply(&mut api, &wanted, &mut applied)
}

fn run(place: &Place, double: &Double<SonarQube>) -> Vec<String> {
    run_as(place, double, TOKEN).unwrap()
}

fn is_right(double: &Double<SonarQube>) {
    double.tool(|tool| {
        let [hook] = tool.hooks.as_slice() else { panic!("{} webhooks", tool.hooks.len()) };
        assert_eq!((hook.name.as_str(), hook.url.as_str(), hook.secret.as_deref()), (WEBHOOK, URL, Some(SECRET)));
    });
}

fn hook(name: &str, url: &str, secret: Option<&str>) -> Hook {
    let made = format!("{name}-{url}-{}", secret.is_some());
    Hook { key: made, project: None, name: name.to_owned(), url: url.to_owned(), secret: secret.map(str::to_owned), delivered: None }
}

#[test]
fn sonarqubes_webhook_is_made_once_and_signed() {
    for version in BOTH {
        let (place, double) = (place(""), Double::start(SonarQube::new(version)));
        assert_eq!(run(&place, &double), ["+ webhook for all projects"]);
        is_right(&double);
        double.asked();
        assert_eq!(run(&place, &double), Vec::<String>::new());
        assert!(double.asked().iter().all(|asked| asked.method == "GET"), "the second run tells nothing");
    }
}

#[test]
fn sonarqubes_webhook_is_repaired_by_name_and_keeps_its_secret() {
    for version in BOTH {
        for (name, found, expected) in [
            ("another address", hook(WEBHOOK, "http://elsewhere/", Some(SECRET)), "address"),
            ("no secret", hook(WEBHOOK, URL, None), "secret"),
            ("another secret", hook(WEBHOOK, URL, Some("another-secret-0123456789")), "secret"),
        ] {
            let (place, double) = (place(""), Double::start(SonarQube::new(version)));
            double.tool(|tool| tool.hooks = vec![hook("somebody's", URL, None), found]);
            let changes = run(&place, &double);
            assert!(changes[0].starts_with("~ webhook for all projects: ") && changes[0].contains(expected), "{name}: {changes:?}");
            double.tool(|tool| assert_eq!(tool.hooks.remove(0).name, "somebody's"));
            is_right(&double);
            // 9.9 deletes the secret when an update leaves it out.
            let told = double.asked().into_iter().find(|asked| asked.path.ends_with("update")).unwrap();
            assert_eq!(told.param("secret"), SECRET);
        }
    }
}

#[test]
fn a_gateway_that_refused_the_last_signature_gets_the_secret_again() {
    let (place, double) = (place(""), Double::start(SonarQube::new(Version::V25_1)));
    run(&place, &double);
    // 25.1 shows no secret: somebody may have put another one there.
    double.tool(|tool| {
        tool.hooks[0].secret = Some("another-secret-0123456789".to_owned());
        tool.hooks[0].delivered = Some(200);
    });
    assert_eq!(run(&place, &double), Vec::<String>::new());
    double.tool(|tool| tool.hooks[0].delivered = Some(401));
    assert_eq!(run(&place, &double), ["~ webhook for all projects: secret"]);
    is_right(&double);
}

#[test]
fn projects_have_webhooks_of_their_own_and_none_is_there_twice() {
    for version in BOTH {
        let (place, double) = (place("\"bad\""), Double::start(SonarQube::new(version)));
        let of_project = |url: &str| Hook { project: Some("bad".to_owned()), key: format!("of-{url}"), ..hook(WEBHOOK, url, Some(SECRET)) };
        double.tool(|tool| tool.hooks = vec![of_project("http://old/"), of_project(URL), hook(WEBHOOK, URL, Some(SECRET))]);
        let changes = run(&place, &double);
        assert_eq!(changes.len(), 3, "{changes:?}");
        is_right(&double);
        double.tool(|tool| assert_eq!(tool.hooks[0].project.as_deref(), Some("bad")));
        assert_eq!(run(&place, &double), Vec::<String>::new());
    }
}

#[test]
fn a_site_that_goes_back_to_one_for_all_leaves_no_webhook_of_a_project_behind() {
    for version in BOTH {
        let (mut place, double) = (place("\"bad\""), Double::start(SonarQube::new(version)));
        assert_eq!(run(&place, &double), ["+ webhook for project bad"]);
        place.site.sonarqube.as_mut().unwrap().projects.clear();
        let expected = ["+ webhook for all projects", "- webhook for project bad: site.toml does not name it any more"];
        assert_eq!(run(&place, &double), expected);
        is_right(&double);
        double.tool(|tool| assert_eq!(tool.hooks[0].project, None));
        double.asked();
        run(&place, &double);
        assert!(double.asked().iter().all(|asked| !asked.path.contains("project=")), "it is looked for once");
    }
}

#[test]
fn every_refusal_of_sonarqube_is_told_with_a_next_step_and_without_a_secret() {
    let words = [
        (Fault::Status(401), "make a user token"),
        (Fault::Status(403), "Administer System"),
        (Fault::Status(404), "[sonarqube] url in site.toml"),
        (Fault::Status(409), "SonarQube answered 409"),
        (Fault::Status(500), "SonarQube answered 500"),
        (Fault::Status(503), "SonarQube answered 503"),
        (Fault::Html, "SonarQube"),
        (Fault::Cut, "the connection to SonarQube was cut"),
        (Fault::Lost, "the connection to SonarQube was cut"),
    ];
    for version in BOTH {
        let places = place("");
        each_fault_is_told_and_the_next_run_finishes(
            || {
                let _ = fs_err::remove_dir_all(places.folder.integrations());
                Double::start(SonarQube::new(version))
            },
            |double| run_as(&places, double, TOKEN),
            is_right,
            &words,
            &[SECRET, TOKEN],
        );
    }
}

#[test]
fn sonarqubes_own_words_are_told_and_what_is_behind_them() {
    for version in BOTH {
        let double = Double::start(SonarQube::new(version));
        for (toml, token, expected) in [
            ("", "squ_nonsense-0123456789", vec!["does not know the token", "status"]),
            ("", NOBODY, vec!["Insufficient privileges", "Administer System"]),
            ("projects = [\"nope\"]", TOKEN, vec!["Project 'nope' not found", "are keys"]),
            ("name", TOKEN, vec!["loopback and wildcard", "sonar.validateWebhooks"]),
        ] {
            let place = match toml {
                "name" => Place::new("[sonarqube]\nurl = \"https://s.test\"\n", &format!("SONARQUBE_WEBHOOK_SECRET={SECRET}\n")),
                projects => {
                    let toml = format!("[sonarqube]\nurl = \"https://s.test\"\n{projects}\n");
                    Place::new(&toml, &format!("SONARQUBE_WEBHOOK_SECRET={SECRET}\n"))
                }
            };
            let error = match toml {
                "name" => {
                    let mut api = place.api(Tool::Sonarqube, &double, Scheme::BasicUser, token);
                    let wanted = Wanted::of(&place.site, place.site.sonarqube.as_ref().unwrap(), &place.secrets()).unwrap();
                    let wanted = Wanted { url: "https://10.99.0.1:9443/sonarqube".to_owned(), ..wanted };
                    apply(&mut api, &wanted, &mut Applied::default()).unwrap_err()
                }
                _ => run_as(&place, &double, token).unwrap_err(),
            };
            for words in expected.iter().filter(|words| **words != "status") {
                assert!(error.to_string().contains(words), "expected {words:?} in {error}");
            }
        }
    }
}

#[test]
fn a_request_that_only_asks_is_sent_again_and_one_that_makes_something_is_not() {
    let (place, double) = (place(""), Double::start(SonarQube::new(Version::V25_1)));
    double.fault(1, Fault::Status(503));
    double.fault(2, Fault::Cut);
    assert_eq!(run(&place, &double), ["+ webhook for all projects"]);
    // The pause that it asks for counts; nobody waits for an hour.
    let (place, double) = (self::place(""), Double::start(SonarQube::new(Version::V25_1)));
    double.fault(1, Fault::Busy(0));
    assert_eq!(run(&place, &double), ["+ webhook for all projects"]);
    double.asked();
    double.fault(1, Fault::Busy(3600));
    assert!(run_as(&place, &double, TOKEN).unwrap_err().to_string().contains("SonarQube answered 429"));
    assert_eq!(double.asked().len(), 1);
    let (place, double) = (self::place(""), Double::start(SonarQube::new(Version::V25_1)));
    // The answer to the second request, which makes the webhook, is lost: nobody knows, so nobody asks twice.
    double.fault(2, Fault::Lost);
    assert!(run_as(&place, &double, TOKEN).is_err());
    assert_eq!(double.asked().iter().filter(|asked| asked.method == "POST").count(), 1);
    run(&place, &double);
    is_right(&double);
}

#[test]
fn sonarqubes_ready_files_hold_everything_and_are_written_once() {
    let place = place("");
    assert!(states(&place.folder, &place.site)[0].starts_with("~ integrations sonarqube: README.md, "));
    let bundle = place.bundle(Tool::Sonarqube);
    assert_eq!(bundle.write().unwrap().len(), 5);
    let at = |name: &str| bundle.folder().join(name);
    assert_eq!((mode(bundle.folder()), mode(&at("webhook-secret")), mode(&at("README.md"))), (0o700, 0o600, 0o644));
    let properties = fs_err::read_to_string(at("sonar.properties")).unwrap();
    for who in ["sonar.ce.", "sonar.web."] {
        let line = properties.lines().find(|line| line.starts_with(&format!("{who}javaAdditionalOpts="))).unwrap();
        assert!(line.contains("-Djavax.net.ssl.trustStore=/opt/sonarqube/conf/chatops-truststore.p12"), "{line}");
    }
    let steps = fs_err::read_to_string(at("README.md")).unwrap();
    for told in [URL, WEBHOOK, "sonar.validateWebhooks", "192.168.1.20"] {
        assert!(steps.contains(told), "{told} is not in the steps");
    }
    assert!(!steps.contains(SECRET) && !steps.contains('{'), "{steps}");
    assert_eq!(place.bundle(Tool::Sonarqube).write().unwrap(), Vec::<&str>::new());
    assert_eq!(states(&place.folder, &place.site), ["= integrations sonarqube: files are ready; nothing was applied through its API"]);
    // What somebody changed, or opened to others, is written again.
    fs_err::write(at("sonar.properties"), "other").unwrap();
    fs_err::set_permissions(at("webhook-secret"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(place.bundle(Tool::Sonarqube).write().unwrap(), ["sonar.properties", "webhook-secret"]);
}
