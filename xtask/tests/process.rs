//! What a person is told when another program is missing, fails, hangs or talks.
#![allow(clippy::unwrap_used)] // helpers of tests: a panic there is a failure with a place

use std::path::Path;
use std::time::{Duration, Instant};

use images::Class;
use xtask::process::{Process, tail};

fn shell(script: &str) -> Process {
    Process::new("sh", "/").args(["-c", script])
}

fn is_running(pid: &str) -> bool {
    let stat = fs_err::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    // A zombie that nobody waited for is as good as gone.
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

fn is_gone_soon(pid: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if !is_running(pid) {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

#[test]
fn a_missing_program_is_named_with_the_command_that_brings_it() {
    let error = Process::new("no-such-program", "/").arg("--version").brought_by("apt-get install no-such").capture().unwrap_err();
    assert_eq!(error.class(), Class::MissingTool);
    insta::assert_snapshot!(error, @r"
    no-such-program is not on this machine
      needed for: no-such-program --version
    hint: apt-get install no-such
    ");
}

#[test]
fn a_missing_folder_is_not_taken_for_a_missing_program() {
    let error = Process::new("sh", "/no/such/folder").capture().unwrap_err();
    assert_eq!(error.class(), Class::Build);
    insta::assert_snapshot!(error, @"cannot run sh: /no/such/folder is not a folder");
}

#[test]
fn a_failure_names_command_folder_status_and_last_words() {
    let error = shell("echo one; echo it broke >&2; exit 7").fails_as(Class::Check).capture().unwrap_err();
    assert_eq!(error.class(), Class::Check);
    insta::assert_snapshot!(error, @r"
    sh failed with exit status 7
      command: sh -c 'echo one; echo it broke >&2; exit 7'
      folder: /
      | it broke
    ");
}

#[test]
fn a_failure_that_says_nothing_on_standard_error_is_explained_by_its_output() {
    let error = shell("echo only here; exit 1").capture().unwrap_err();
    assert!(error.to_string().ends_with("| only here"), "{error}");
}

#[test]
fn a_signal_is_named() {
    let error = shell("kill -9 $$").capture().unwrap_err();
    assert_eq!(error.message(), "sh was ended by signal 9");
}

#[test]
fn environment_and_standard_input_reach_the_program() {
    let process = shell("printf '%s-%s-' \"$GIVEN\" \"${HOME-none}\"; cat").env("GIVEN", "a b").env_remove("HOME").stdin("typed");
    assert_eq!(process.text().unwrap(), "a b-none-typed");
}

#[test]
fn the_folder_is_the_one_that_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let here = Process::new("pwd", folder.path()).text().unwrap();
    assert_eq!(Path::new(&here), fs_err::canonicalize(folder.path()).unwrap());
}

#[test]
fn a_program_that_reads_standard_input_is_not_left_waiting_for_the_terminal() {
    assert_eq!(Process::new("cat", "/").text().unwrap(), "");
}

#[test]
fn a_non_zero_status_can_be_an_answer() {
    let outcome = shell("echo no; exit 3").outcome().unwrap();
    assert!(!outcome.success());
    assert_eq!((outcome.status.code(), outcome.stdout.as_slice()), (Some(3), b"no\n".as_slice()));
}

#[test]
fn a_deadline_ends_the_program_and_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let script = "sleep 600 & echo $! > child; wait";
    let error = Process::new("sh", folder.path()).args(["-c", script]).deadline(Duration::from_millis(300)).capture().unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!(error.message(), "sh did not finish within 0.3 s");
    let child = fs_err::read_to_string(folder.path().join("child")).unwrap();
    assert!(is_gone_soon(child.trim()), "{child} is still there");
}

#[test]
fn a_log_keeps_command_and_both_outputs_and_the_error_repeats_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("logs/a.log");
    shell("echo first").log_to(&log).unwrap();
    let error = shell("echo out; echo err >&2; exit 1").log_to(&log).unwrap_err();
    insta::assert_snapshot!(fs_err::read_to_string(&log).unwrap(), @r"
    $ sh -c 'echo first'
    first
    $ sh -c 'echo out; echo err >&2; exit 1'
    out
    err
    ");
    let error = error.to_string();
    assert!(error.contains("| out\n  | err\n  log: ") && !error.contains("| first"), "{error}");
}

#[test]
fn a_log_is_ticked_while_the_program_runs() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    // The program ends only after the first tick has been seen.
    let waits = Process::new("sh", folder.path()).args(["-c", "until [ -e seen ]; do sleep 0.05; done"]).deadline(Duration::from_secs(60));
    let mut ticks = 0;
    let outcome = waits
        .outcome_in_log(&folder.path().join("log"), |_| {
            ticks += 1;
            fs_err::write(&seen, "").unwrap();
        })
        .unwrap();
    assert!(outcome.success() && ticks >= 1);
}

#[test]
fn a_background_program_is_stopped_and_when_it_refuses_killed() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let stubborn = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done").start(&log).unwrap();
    let pid = stubborn.pid().to_string();
    while !fs_err::read_to_string(&log).unwrap().contains("\nready") {
        assert!(stubborn.ended().unwrap().is_none());
    }
    stubborn.stop(Duration::from_millis(200));
    assert!(is_gone_soon(&pid));
}

#[test]
fn a_background_program_does_not_outlive_its_handle() {
    let folder = tempfile::tempdir().unwrap();
    let running = shell("exec sleep 600").start(&folder.path().join("log")).unwrap();
    let pid = running.pid().to_string();
    assert!(is_running(&pid));
    drop(running);
    assert!(is_gone_soon(&pid));
}

#[test]
fn a_tail_is_the_last_lines_that_say_something() {
    assert_eq!(tail(b"a\n\nb  \nc\n\n", 2), ["b", "c"]);
    assert_eq!(tail(b"", 2), [""; 0]);
}
