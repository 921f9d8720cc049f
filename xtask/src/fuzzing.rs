//! The bodies of the fuzz targets of what this crate reads from elsewhere, as [`images::fuzzing`] has those of the images.

use crate::convert::{Draft, config_json, gitlab_rb};
use crate::site::env::{environments, wanted};
use crate::site::parse;
use crate::site::secrets::{Name, Secret, Secrets};

/// A target's body.
pub type Body = fn(&[u8]);

/// Every target by the name of its corpus and of its file in `tests/fuzz/fuzz_targets`.
pub const TARGETS: [(&str, Body); 2] = [("config_json", config_json), ("gitlab_rb", gitlab_rb)];

/// A `gitlab.rb`.
pub fn gitlab_rb(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = gitlab_rb::read(text, "gitlab.rb").map(checked);
}

/// A `config.json`.
pub fn config_json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = config_json::read(text, "config.json").map(checked);
}

/// What is promised of every site that is converted: each setting has an answer, `site.toml` is read, and the server takes what is made
/// from it.
fn checked(draft: Draft) {
    assert_eq!(draft.unanswered(), [""; 0]);
    let report = draft.report("file");
    assert!(!report.json().contains('\u{1b}') && !report.markdown().contains('\u{1b}'), "a terminal would obey");
    let toml = draft.toml("file");
    let address = || Ok(vec![std::net::IpAddr::from([192, 0, 2, 1])]);
    let site = match parse("site.toml", &toml, address) {
        Ok(site) => site,
        Err(error) => panic!("{toml}\n{error}"),
    };
    let mut secrets = Secrets::default();
    draft.secrets.into_iter().for_each(|(name, value)| secrets.put(name, value));
    draft.others.into_iter().for_each(|(name, value)| secrets.put_other(&name, "a setting", value));
    // The password of another's database may not stand in the file.
    if secrets.get(Name::DatabasePassword).is_none() {
        secrets.put(Name::DatabasePassword, Secret::new("0123456789"));
    }
    // A linear congruential generator (Knuth's MMIX): the same bytes each time, and no short period.
    let mut state = 1u64;
    let filled = secrets.fill(wanted(&site), &mut |bytes| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = state.to_be_bytes()[0];
        }
        Ok(())
    });
    assert!(filled.is_ok());
    if let Err(error) = environments(&site, &secrets) {
        panic!("{toml}\n{error}");
    }
    let text = secrets.render();
    assert!(
        Secrets::parse(text.expose(), "secrets.env").is_ok_and(|again| again.render().expose() == text.expose()),
        "read as it was written"
    );
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz")
    }

    #[test]
    fn every_file_of_every_corpus_is_read_without_a_panic() {
        images::fuzzing::replay(&TARGETS, &folder());
    }

    #[test]
    fn every_target_can_be_fuzzed() {
        images::fuzzing::wired(&TARGETS, "xtask", &folder());
    }

    /// A corpus of refused files would prove little.
    #[test]
    fn good_seeds_are_accepted() {
        let read = |name: &str| fs_err::read_to_string(folder().join("corpus").join(name)).unwrap();
        assert!(gitlab_rb::read(&read("gitlab_rb/page"), "page").unwrap().report("page").settings.len() > 25);
        assert!(config_json::read(&read("config_json/omnibus"), "omnibus").unwrap().report("omnibus").settings.len() > 10);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
        /// What a person who edits, or a disk that lies, makes of a good file.
        #[test]
        fn a_file_with_pieces_cut_moved_or_changed_is_read_without_a_panic(
            target in 0..TARGETS.len(),
            file in 0..100usize,
            cuts in proptest::collection::vec((0..4096usize, 0..64usize, 0..4096usize), 1..6),
            byte in proptest::num::u8::ANY,
        ) {
            let (name, body) = TARGETS[target];
            let entries = fs_err::read_dir(folder().join("corpus").join(name)).unwrap();
            let mut files: Vec<PathBuf> = entries.map(|file| file.unwrap().path()).collect();
            files.sort();
            let mut data = fs_err::read(&files[file % files.len()]).unwrap();
            for (from, length, to) in cuts {
                let from = from % data.len();
                let piece: Vec<u8> = data.drain(from..(from + length).min(data.len())).collect();
                let to = to % (data.len() + 1);
                data.splice(to..to, if length % 3 == 0 { Vec::new() } else { piece });
                data.insert(to, if length % 2 == 0 { byte & 0x7f } else { b'\n' });
            }
            body(&data);
        }

        #[test]
        fn settings_of_any_value_come_to_a_site(
            name in "(mattermost\\['(service_site_url|uid|gid|sql_data_source|gitlab_auth_endpoint|gitlab_enable|gitlab_id|gitlab_secret|\
                email_smtp_server|email_feedback_email|email_smtp_port|email_smtp_username|team_site_name|plugin_plugins|\
                plugin_plugin_states|database_name|email_connection_security|\
                log_advanced_logging_json|ldap_bind_password)'\\] =|mattermost_external_url)",
            value in "(https?://)?[a-z0-9.:@/?#%=&\\[\\]{}\" $,]{0,24}",
        ) {
            let value = value.replace('\'', "");
            gitlab_rb(format!("{name} '{value}'\nmattermost['email_feedback_email'] = 'a@b.c'\n").as_bytes());
        }
    }
}
