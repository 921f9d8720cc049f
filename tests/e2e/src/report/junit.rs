//! `junit.xml`, as CI systems read it: a suite for each group of steps.

use maud::{PreEscaped, html};

use super::{Proved, Report};
use crate::journal::Verdict;

/// The document.
pub fn document(report: &Report) -> String {
    let mut groups: Vec<(&str, Vec<&Proved>)> = Vec::new();
    for step in &report.steps {
        let group = step.ended.step.split_once("::").map_or(step.ended.step.as_str(), |(group, _)| group);
        match groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, steps)) => steps.push(step),
            None => groups.push((group, vec![step])),
        }
    }
    let body = html! {
        testsuites name={ "e2e " (report.run) } time=(seconds(report.took)) {
            @for (group, steps) in &groups {
                testsuite name=(group) tests=(steps.len())
                    failures=(steps.iter().filter(|step| step.ended.verdict.is_failure()).count())
                    skipped=(steps.iter().filter(|step| is_skipped(step)).count()) {
                    @for step in steps { (case(group, step)) }
                }
            }
            @if let Some(why) = &report.broke {
                testsuite name="run" tests="1" failures="1" {
                    testcase classname="run" name="comes_to_its_end" { failure message="the run broke off" { (plain(why)) } }
                }
            }
        }
    };
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", body.into_string())
}

fn case(group: &str, step: &Proved) -> PreEscaped<String> {
    let name = step.ended.step.split_once("::").map_or("", |(_, name)| name);
    let why = plain(step.ended.failure.as_deref().unwrap_or_default());
    html! {
        testcase classname=(group) name=(name) time=(seconds(step.ended.took)) {
            @if step.ended.verdict.is_failure() {
                failure message={ (step.ended.verdict.words()) ": " (why.lines().next().unwrap_or_default()) } { (step.claim) "\n" (why) }
            } @else if is_skipped(step) {
                skipped message=(why) {}
            }
        }
    }
}

fn is_skipped(step: &Proved) -> bool {
    matches!(step.ended.verdict, Verdict::NotRun | Verdict::NeedsRelease | Verdict::NeedsFull)
}

fn seconds(took: f64) -> String {
    format!("{took:.3}")
}

/// Without what XML 1.0 has no way to say.
fn plain(text: &str) -> String {
    text.chars().filter(|c| *c >= ' ' || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use crate::report::tests::sample;

    #[test]
    fn failures_and_skips_are_counted_and_no_character_is_forbidden() {
        let text = super::document(&sample());
        assert!(text.contains("<testsuite name=\"egress\" tests=\"5\" failures=\"2\" skipped=\"2\">"), "{text}");
        assert!(text.contains("message=\"failed: a &lt;wrong&gt; image\"") && !text.contains('\u{1b}'), "{text}");
        assert_eq!(text.matches("<testcase").count(), text.matches("</testcase>").count());
    }
}
