//! `run.json`: the report as it is.

use images::{Class, Error, Result};

use super::Report;

/// The document.
pub fn document(report: &Report) -> Result<String> {
    serde_json::to_string_pretty(report).map(|text| format!("{text}\n")).map_err(|error| Error::new(Class::Build, error.to_string()))
}

#[cfg(test)]
mod tests {
    use crate::report::tests::sample;

    #[test]
    fn its_fields_are_those_of_the_documentation() {
        let document: serde_json::Value = serde_json::from_str(&super::document(&sample()).unwrap()).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(keys(&document), "began broke failed format not_run passed phases run server steps took world");
        assert_eq!(keys(&document["steps"][1]), "at claim failure shown step took verdict");
        assert_eq!(document["steps"][2]["verdict"], "flaky");
        let text = fs_err::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/e2e.md")).unwrap();
        for field in keys(&document).split(' ').chain(keys(&document["steps"][1]).split(' ')) {
            assert!(text.contains(&format!("`{field}`")), "docs/e2e.md does not explain {field}");
        }
    }
}
