//! `report.html`: one page with everything in it, for an auditor. No script, nothing fetched; light and dark; readable on a phone.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Proved, Report};
use crate::journal::Verdict;
use crate::step::{Cell, Table};

const STYLE: &str = "\
:root{--ink:#1c2430;--quiet:#5b6676;--paper:#fff;--line:#d8dde5;--card:#f6f7f9;--good:#0b7a53;--bad:#b3261e;--none:#8a6d1a;--box:#e8eef6}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--quiet:#9aa5b5;--paper:#14181f;--line:#333b48;--card:#1b2029;--good:#4cc38a;--bad:#ff8a80;--none:#d9b64a;--box:#222b38}}\
*{box-sizing:border-box}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;color:var(--ink);background:var(--paper)}\
h1{font-size:1.5rem}h2{margin-top:2.5rem;font-size:1.2rem}p.quiet,.quiet{color:var(--quiet)}\
.counts{display:flex;flex-wrap:wrap;gap:.5rem;padding:0;list-style:none}.counts li{padding:.3rem .8rem;border:1px solid var(--line);border-radius:.5rem;background:var(--card)}\
.passed{color:var(--good)}.failed,.flaky{color:var(--bad)}.not-run,.needs-release{color:var(--none)}\
details{border:1px solid var(--line);border-radius:.5rem;margin:.4rem 0;background:var(--card)}summary{padding:.5rem .8rem;cursor:pointer}\
details>div{padding:0 .8rem .8rem}pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.8rem;background:var(--paper);padding:.5rem;border-radius:.3rem}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;width:100%}th,td{text-align:left;vertical-align:top;padding:.25rem .5rem;border-bottom:1px solid var(--line);overflow-wrap:anywhere}\
td.good{background:color-mix(in srgb,var(--good) 25%,transparent)}td.bad{background:color-mix(in srgb,var(--bad) 25%,transparent)}\
svg{width:100%;height:auto;font:13px system-ui,sans-serif}svg text{fill:var(--ink)}svg .quiet{fill:var(--quiet)}svg .box{fill:var(--box);stroke:var(--line)}svg .wire{stroke:var(--quiet);fill:none}\
svg .bar{fill:var(--good)}svg .bar.failed,svg .bar.flaky{fill:var(--bad)}svg .bar.phase{fill:var(--quiet)}";

/// The page.
pub fn page(report: &Report) -> String {
    let good = report.failed == 0;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "End-to-end proof " (report.run) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "End-to-end proof: " span class=(if good { "passed" } else { "failed" }) { (if good { "it is so" } else { "it is not so" }) } }
                p { "Run " b { (report.run) } ", " (format!("{:.1}", report.took)) " s, against " b { (report.server) } "." }
                ul.counts {
                    li.passed { (report.passed) " passed" }
                    li.failed { (report.failed) " failed" }
                    li.not-run { (report.not_run) " not run" }
                }
                @if let Some(why) = &report.broke { h2.failed { "The run broke off" } pre { (why) } }
                h2 { "Where it ran" }
                (topology(report))
                h2 { "What was proved" }
                @for step in &report.steps { (proved(step)) }
                h2 { "When" }
                (timeline(report))
                p.quiet {
                    "Beside this page: junit.xml, run.json, logs/, inspect/, certificates/, compose.json, packet-filter.txt, evidence/. "
                    "Secrets of the site are replaced by their names in brackets; the site itself was removed with the run."
                }
            }
        }
    };
    page.into_string()
}

const fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Flaky => "flaky",
        Verdict::NotRun => "not-run",
        Verdict::NeedsRelease | Verdict::NeedsFull => "needs-release",
    }
}

fn proved(step: &Proved) -> Markup {
    let ended = &step.ended;
    html! {
        details open[ended.verdict.is_failure() || !ended.shown.tables.is_empty()] {
            summary {
                span class=(class(ended.verdict)) { (ended.verdict.mark()) " " (ended.verdict.words()) }
                " " (step.claim) " " span.quiet { (ended.step) ", " (format!("{:.1}", ended.took)) " s" }
            }
            div {
                @if let Some(why) = &ended.failure { pre { (why) } }
                @for shown in &ended.shown.tables { (table(shown)) }
                @if !ended.shown.facts.is_empty() {
                    div.wide { table { @for (what, seen) in &ended.shown.facts { tr { th { (what) } td { (seen) } } } } }
                }
                @if !ended.shown.files.is_empty() { p.quiet { "files: " (ended.shown.files.join(", ")) } }
            }
        }
    }
}

fn table(shown: &Table) -> Markup {
    let cell = |cell: &Cell| {
        let class = match cell.good {
            Some(true) => "good",
            Some(false) => "bad",
            None => "",
        };
        html! { td class=(class) { (cell.text) } }
    };
    html! {
        p { b { (shown.title) } }
        div.wide { table {
            tr { @for column in &shown.columns { th { (column) } } }
            @for (head, cells) in &shown.rows { tr { th { (head) } @for one in cells { (cell(one)) } } }
        } }
    }
}

/// The lab: the server with its services, the LAN, and who comes from there.
fn topology(report: &Report) -> Markup {
    let of = |what: &str| report.said(what).unwrap_or("?");
    let services = [
        format!("mattermost  HTTPS :{}  calls :{}", of("port of mattermost"), of("port of calls")),
        format!("coturn  TURN :{}  TURNS :{}  relays :{}", of("port of turn"), of("port of turns"), of("relay ports")),
        format!("alert-gateway  HTTPS :{}", of("port of alert gateway")),
        "postgres  TLS, internal network".to_owned(),
    ];
    html! {
        svg viewBox="0 0 760 310" role="img" aria-label="The network of the run" {
            rect.box x="10" y="10" width="460" height="230" rx="8" {}
            text x="24" y="34" font-weight="600" { "server " (of("server")) }
            text.quiet x="24" y="52" { "a network namespace, a Docker Engine of its own, no default route" }
            @for (at, service) in services.iter().enumerate() {
                @let top = 66 + at * 42;
                rect.box x="24" y=(top) width="432" height="34" rx="5" {}
                text x="36" y=(top + 22) { (service) }
            }
            path.wire d="M240 240 V280 M40 280 H730 M620 280 V240" {}
            text x="44" y="300" { "LAN 192.168.77.0/24" }
            rect.box x="500" y="150" width="240" height="90" rx="8" {}
            text x="514" y="176" font-weight="600" { "clients 192.168.77.100–" }
            text.quiet x="514" y="196" { "tools, an attacker, phones behind" }
            text.quiet x="514" y="214" { "routers: a namespace each" }
            text.quiet x="500" y="40" { "outside: no way leads there;" }
            text.quiet x="500" y="58" { "a packet that tries is counted" }
        }
    }
}

/// A bar for each part of the run.
fn timeline(report: &Report) -> Markup {
    const LEFT: f64 = 330.0;
    const WIDTH: f64 = 960.0;
    const ROW: f64 = 20.0;
    let phases = report.phases.iter().map(|phase| (phase.name.as_str(), phase.at, phase.took, "phase"));
    let steps = report.steps.iter().map(|step| (step.ended.step.as_str(), step.ended.at, step.ended.took, class(step.ended.verdict)));
    let mut bars: Vec<_> = phases.chain(steps.filter(|bar| !matches!(bar.3, "not-run" | "needs-release"))).collect();
    bars.sort_by(|one, other| one.1.total_cmp(&other.1));
    let begin = bars.iter().map(|bar| bar.1).fold(report.began, f64::min);
    let all = bars.iter().map(|bar| bar.1 + bar.2 - begin).fold(f64::MIN_POSITIVE, f64::max);
    let x = |seconds: f64| seconds / all * (WIDTH - LEFT - 60.0);
    html! {
        div.wide {
            svg viewBox={ "0 0 " (WIDTH) " " (ROW * bars.len() as f64 + 10.0) } role="img" aria-label="When each step ran" style="min-width:40rem" {
                @for (at, (name, began, took, class)) in bars.iter().enumerate() {
                    @let top = ROW * at as f64 + 4.0;
                    text x=(LEFT - 8.0) y=(top + 12.0) text-anchor="end" font-size="11" { (name.chars().take(56).collect::<String>()) }
                    rect class={ "bar " (class) } x=(format!("{:.1}", LEFT + x(began - begin))) y=(top) height="14" rx="2"
                        width=(format!("{:.1}", x(*took).max(1.5))) {}
                    text.quiet x=(format!("{:.1}", LEFT + x(began - begin + took) + 5.0)) y=(top + 12.0) font-size="11" { (format!("{took:.1} s")) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::report::tests::sample;

    #[test]
    fn the_page_stands_alone_and_shows_every_verdict() {
        let page = super::page(&sample());
        for outside in ["http://", "https://", "<script", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("a &lt;wrong&gt; image") && !page.contains("<wrong>"));
        for words in ["✔ passed", "✘ failed", "✘ flaky", "– not run", "– needs the release", "192.168.77.20", "prefers-color-scheme:dark"]
        {
            assert!(page.contains(words), "{words}");
        }
        assert!(page.contains("<td class=\"good\">0.4 ms</td><td class=\"bad\">blocked</td>"));
        // Three steps that ran and a phase.
        assert_eq!(page.matches("class=\"bar ").count(), 4);
    }
}
