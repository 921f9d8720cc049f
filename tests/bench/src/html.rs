//! One page with everything in it: the plot as inline SVG, the table, what to know when reading them. No script, nothing fetched.

use std::fmt::Write as _;

use crate::report::{COLD_BAR, Image, Line, Report, seconds};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 330.0;
const ROW: f64 = 22.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}\
h2{margin-top:2.5rem}pre{overflow-x:auto;font-size:12px;line-height:1.45}svg{width:100%;height:auto;font:13px system-ui,sans-serif}\
.ours{fill:#0b7a75}.peer{fill:#b8c0cc}.floor{fill:#e09f3e}.bar{stroke:#b3261e;stroke-width:1.5;stroke-dasharray:4 3}.range{stroke:#1c2430;stroke-width:1}\
text{fill:#1c2430}.quiet{fill:#5b6676}\
@media(prefers-color-scheme:dark){body{color:#e6e9ef;background:#14181f}text{fill:#e6e9ef}.quiet{fill:#9aa5b5}.peer{fill:#4a5463}.range{stroke:#e6e9ef}.ours{fill:#2bb3ab}}";

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Image builds, side by side</title>\n<style>{STYLE}</style>\n<h1>Image builds, side by side</h1>\n\
         <p>Medians of {} runs; the thin line is the fastest to the slowest run. <b>Floor</b>: decoding the same packages on all cores, one SHA-256 \
         pass and one write, measured in the same run. The dashed line is {COLD_BAR} times the floor.</p>\n",
        report.runs
    );
    for image in &report.images {
        let _ = writeln!(page, "<h2>{}</h2>\n<p>{}</p>", escape(&image.name), escape(&image.heading()));
        for what in ["cold", "no-op", "CA changed", "one upgraded"] {
            page.push_str(&plot(image, what));
        }
    }
    let _ = writeln!(page, "<h2>All figures</h2>\n<pre>{}</pre>\n</html>", escape(&report.table()));
    page
}

/// Horizontal bars of one thing that was done, from zero.
fn plot(image: &Image, what: &str) -> String {
    let mut lines: Vec<Line> = image.lines().into_iter().filter(|line| line.what == what).collect();
    if lines.is_empty() {
        return String::new();
    }
    let mut bar = None;
    if what == "cold" {
        let sum = image.lines().into_iter().find(|line| line.what == "floor" && line.who == "sum");
        lines.splice(0..0, sum.map(|line| Line { who: "floor".into(), ..line }));
        bar = Some(image.floor.seconds() * COLD_BAR);
    }
    let most = lines.iter().map(|line| line.sample.max).chain(bar).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + value / most * (WIDTH - LEFT - 90.0);
    let height = ROW * lines.len() as f64 + 34.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{name}, {what}\">\n<text x=\"0\" y=\"18\" font-weight=\"600\">{what}</text>\n",
        name = escape(&image.name)
    );
    for (index, line) in lines.iter().enumerate() {
        let class = match line.who.as_str() {
            "ours" => "ours",
            "floor" => "floor",
            _ => "peer",
        };
        let (top, end) = (28.0 + ROW * index as f64, x(line.sample.median));
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect class=\"{class}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"15\" rx=\"2\"/>\
             <line class=\"range\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{mid:.1}\" y2=\"{mid:.1}\"/><text class=\"quiet\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            top + 12.0,
            escape(&line.who),
            end - LEFT,
            x(line.sample.min),
            x(line.sample.max),
            x(line.sample.max) + 6.0,
            top + 12.0,
            seconds(line.sample.median),
            mid = top + 7.5,
        );
    }
    if let Some(bar) = bar {
        let at = x(bar);
        let _ = writeln!(svg, "<line class=\"bar\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"22\" y2=\"{:.1}\"/>", height - 4.0);
    }
    svg.push_str("</svg>\n");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn bars_are_as_long_as_what_they_show() {
        let report = sample();
        let svg = plot(&report.images[0], "cold");
        let widths: Vec<f64> =
            svg.split("<rect ").skip(1).filter_map(|rect| rect.split("width=\"").nth(1)?.split('"').next()?.parse().ok()).collect();
        // floor 1.0, ours 1.2, umoci 6, docker 12
        assert_eq!(widths.len(), 4);
        for (width, expected) in widths.iter().zip([1.0, 1.2, 6.0, 12.0]) {
            assert!((width / widths[3] - expected / 12.0).abs() < 0.01, "{widths:?}");
        }
        assert_eq!(svg.matches("class=\"bar\"").count(), 1);
        assert_eq!(plot(&report.images[0], "no-op").matches("<rect").count(), 1);
    }

    #[test]
    fn the_page_stands_alone_and_says_nothing_twice_over() {
        let page = page(&sample());
        assert!(page.contains("a &lt;fast&gt; one") && !page.contains("<fast>"));
        for outside in ["http://", "https://", "<script", "src=", "href="] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }
}
