use std::path::PathBuf;

use tools_double::jenkins::{Jenkins, TOKEN};
use tools_double::{Double, Fault};
use xtask::integrations::api::Scheme;
use xtask::integrations::jenkins::{CREDENTIAL, VARIABLE, Wanted, apply, merge, put_line, put_secret};
use xtask::integrations::{Applied, states};
use xtask::provision::Tool;

use crate::{Place, each_fault_is_told_and_the_next_run_finishes, mode};

const SITE: &str = "[jenkins]\nurl = \"https://jenkins.cicd.local\"\n";
const BUILDS: &str = "https://mattermost.cicd.local:8065/hooks/aaaaaaaaaaaaaaaaaaaaaaaaaa";
const ALERTS: &str = "https://mattermost.cicd.local:8065/hooks/bbbbbbbbbbbbbbbbbbbbbbbbbb";
const YAML: &str = "# ours\njenkins:\n  mode: NORMAL # stays\nunclassified:\n  location:\n    url: https://jenkins.cicd.local/\n";

struct Set {
    place: Place,
    yaml: PathBuf,
    secrets: PathBuf,
}

fn set() -> Set {
    let place = Place::new(SITE, &format!("WEBHOOK_JENKINS_BUILDS={BUILDS}\nWEBHOOK_JENKINS_ALERTS={ALERTS}\n"));
    let (yaml, secrets) = (place.beside().join("jenkins.yaml"), place.beside().join("secrets"));
    images::file::write_beside(&yaml, YAML.as_bytes(), 0o640).unwrap();
    fs_err::create_dir(&secrets).unwrap();
    Set { place, yaml, secrets }
}

impl Set {
    fn double(&self) -> Double<Jenkins> {
        Double::start(Jenkins::new(self.yaml.clone(), self.secrets.clone()))
    }

    fn wanted(&self) -> Wanted {
        Wanted::of(self.place.site.jenkins.as_ref().unwrap(), &self.place.secrets())
    }

    fn files(&self) -> bool {
        merge(&self.yaml, &self.wanted()).unwrap() | put_secret(&self.secrets, &self.wanted()).unwrap()
    }

    fn tell(&self, double: &Double<Jenkins>, token: &str, edited: bool) -> images::Result<Vec<String>> {
        let bundle = self.place.bundle(Tool::Jenkins);
        bundle.write().unwrap();
        let mut api = self.place.api(Tool::Jenkins, double, Scheme::Basic, token);
        let mut applied = Applied::read(bundle.folder()).of_server(api.base());
        apply(&mut api, &self.wanted(), edited, &mut applied)
    }
}

fn is_right(double: &Double<Jenkins>) {
    double.tool(|tool| {
        assert_eq!(tool.credentials.get(CREDENTIAL).map(String::as_str), Some(ALERTS));
        let notifier: Vec<(&str, &str)> = tool.notifier.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(notifier, [("buildServerUrl", "https://jenkins.cicd.local/"), ("endpoint", BUILDS), ("room", "builds")]);
    });
}

#[test]
fn jenkins_takes_what_was_merged_and_a_second_run_tells_nothing() {
    let set = set();
    let double = set.double();
    assert!(set.files());
    assert_eq!((mode(&set.yaml), mode(&set.secrets.join(VARIABLE))), (0o640, 0o600));
    assert!(fs_err::read_to_string(&set.yaml).unwrap().starts_with("# ours\njenkins:\n  mode: NORMAL # stays\n"));
    assert_eq!(set.tell(&double, TOKEN, true).unwrap(), ["+ credential mattermost-alerts", "~ configuration: read again"]);
    is_right(&double);
    double.asked();
    assert!(!set.files());
    assert_eq!(set.tell(&double, TOKEN, false).unwrap(), Vec::<String>::new());
    assert!(double.asked().iter().all(|asked| asked.method == "GET" || asked.path.ends_with("/export")));
}

#[test]
fn a_new_webhook_reaches_jenkins_by_its_secret_file_and_credential() {
    let set = set();
    let double = set.double();
    double.tool(|tool| _ = tool.credentials.insert(CREDENTIAL.to_owned(), "an old address".to_owned()));
    set.files();
    assert_eq!(set.tell(&double, TOKEN, true).unwrap(), ["~ credential mattermost-alerts", "~ configuration: read again"]);
    is_right(&double);
    let text = format!("WEBHOOK_JENKINS_BUILDS={ALERTS}\nWEBHOOK_JENKINS_ALERTS={BUILDS}\n");
    images::file::write_beside(&set.place.folder.secrets(), text.as_bytes(), 0o600).unwrap();
    assert!(set.files());
    assert_eq!(set.tell(&double, TOKEN, true).unwrap().len(), 2);
    double.tool(|tool| assert_eq!((tool.notifier["endpoint"].as_str(), tool.credentials[CREDENTIAL].as_str()), (ALERTS, BUILDS)));
}

#[test]
fn what_jenkins_has_not_taken_is_told() {
    let set = set();
    let double = set.double();
    let error = set.tell(&double, TOKEN, false).unwrap_err().to_string();
    assert!(error.contains(&format!("no value for {VARIABLE} was found")) && error.contains("--jenkins-yaml FILE"), "{error}");
    merge(&set.yaml, &set.wanted()).unwrap();
    // The variable is known nowhere yet.
    let error = set.tell(&double, TOKEN, true).unwrap_err().to_string();
    assert!(error.contains(&format!("no value for {VARIABLE} was found")), "{error}");
    put_secret(&set.secrets, &set.wanted()).unwrap();
    set.tell(&double, TOKEN, true).unwrap();
    is_right(&double);
    double.tool(|tool| tool.plugins = vec!["configuration-as-code"]);
    let error = set.tell(&double, TOKEN, false).unwrap_err().to_string();
    assert!(error.starts_with("Jenkins lacks plugins: mattermost, plain-credentials"), "{error}");
    for (token, expected) in [("admin:nonsense", "the file holds USER:TOKEN"), ("reader:token", "Overall/Administer")] {
        let error = set.tell(&double, token, false).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn every_refusal_of_jenkins_is_told_with_a_next_step_and_without_a_secret() {
    let words = [
        (Fault::Status(401), "USER:TOKEN"),
        (Fault::Status(403), "Overall/Administer"),
        (Fault::Status(404), "[jenkins] url in site.toml"),
        (Fault::Status(409), "Jenkins answered 409"),
        (Fault::Status(500), "Jenkins answered 500"),
        (Fault::Html, "Jenkins"),
        (Fault::Cut, "the connection to Jenkins was cut"),
        (Fault::Lost, "the connection to Jenkins was cut"),
    ];
    let set = set();
    set.files();
    each_fault_is_told_and_the_next_run_finishes(
        || {
            let _ = fs_err::remove_dir_all(set.place.folder.integrations());
            set.double()
        },
        |double| set.tell(double, TOKEN, true),
        is_right,
        &words,
        &[BUILDS, ALERTS, TOKEN],
    );
}

#[test]
fn jenkins_env_gets_one_line_and_keeps_its_mode() {
    let set = set();
    let file = set.place.beside().join("jenkins.env");
    images::file::write_beside(&file, format!("# theirs\n{VARIABLE}=old\nA=1\n").as_bytes(), 0o640).unwrap();
    assert!(put_line(&file, &set.wanted()).unwrap());
    assert_eq!(fs_err::read_to_string(&file).unwrap(), format!("# theirs\n{VARIABLE}={BUILDS}\nA=1\n"));
    assert_eq!(mode(&file), 0o640);
    assert!(!put_line(&file, &set.wanted()).unwrap());
    let none = Place::new(SITE, "");
    let wanted = Wanted::of(none.site.jenkins.as_ref().unwrap(), &none.secrets());
    let error = put_line(&file, &wanted).unwrap_err().to_string();
    assert!(error.contains("cargo xtask provision"), "{error}");
}

#[test]
fn a_jenkins_yaml_that_is_no_mapping_stays_as_it_is() {
    let set = set();
    fs_err::write(&set.yaml, "- a\n- list\n").unwrap();
    assert!(merge(&set.yaml, &set.wanted()).unwrap_err().to_string().contains("is no mapping"));
    assert_eq!(fs_err::read_to_string(&set.yaml).unwrap(), "- a\n- list\n");
}

#[test]
fn jenkins_ready_files_hold_everything_and_name_rooms_as_the_plugin_parses_them() {
    let set = set();
    assert_eq!(set.place.bundle(Tool::Jenkins).write().unwrap().len(), 8);
    assert_eq!(set.place.bundle(Tool::Jenkins).write().unwrap(), Vec::<&str>::new());
    assert_eq!(states(&set.place.folder, &set.place.site).len(), 1);
    let folder = set.place.bundle(Tool::Jenkins).folder().to_owned();
    let read = |name: &str| fs_err::read_to_string(folder.join(name)).unwrap();
    for (name, expected) in
        [(VARIABLE, 0o600), ("jenkins.env", 0o600), ("alerts-webhook", 0o600), ("jenkins.yaml", 0o644), ("README.md", 0o644)]
    {
        assert_eq!(mode(&folder.join(name)), expected, "{name}");
    }
    assert_eq!(read("jenkins.env"), format!("{VARIABLE}={BUILDS}\n"));
    let (example, steps) = (read("Jenkinsfile"), read("README.md"));
    // NAME@channel would post as NAME; the article took that for the team.
    assert!(read("jenkins.yaml").contains("room: \"builds\"\n") && !example.contains("engineering@") && !example.contains("'#"));
    assert!(example.contains("credentialsId: 'mattermost-alerts'") && example.contains("endpoint: ALERTS, channel: 'alerts'"), "{example}");
    for told in ["A reload reads it", "Only a restart reads it", "/jenkins connect", "/jenkins build", "/jenkins get-log", "trustStore="] {
        assert!(steps.contains(told), "{told} is not in the steps");
    }
    for text in [&example, &steps, &read("jenkins.yaml")] {
        assert!(!text.contains("/hooks/"), "{text}");
    }
    // One channel for both needs no second webhook.
    let one = Place::new(&format!("{SITE}alerts = \"builds\"\n"), &format!("WEBHOOK_JENKINS_BUILDS={BUILDS}\n"));
    let bundle = one.bundle(Tool::Jenkins);
    assert!(
        bundle.text("Jenkinsfile").contains("mattermostSend(channel: 'builds', color: 'danger'")
            && bundle.text("alerts-webhook").is_empty()
    );
    // Before provisioning there is no address yet.
    assert_eq!(Place::new(SITE, "").bundle(Tool::Jenkins).write().unwrap().len(), 5);
}
