//! The table of the article's mistakes: each row names tests that are there.

use std::path::{Path, PathBuf};

/// Every Rust file below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != "fuzz") {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn each_mistake_of_the_article_has_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = fs_err::read_to_string(root.join("docs/integrations.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| 0")).collect();
    assert!(rows.len() >= 25, "only {} rows", rows.len());
    for script in ["04", "05", "06", "07", "08", "09"] {
        assert!(rows.iter().any(|row| row.starts_with(&format!("| {script}"))), "no row for script {script}");
    }
    let mut files = Vec::new();
    ["xtask", "tests", "images"].iter().for_each(|folder| sources(&root.join(folder), &mut files));
    let own = Path::new(file!()).file_name().unwrap();
    let all: Vec<String> =
        files.iter().filter(|path| path.file_name().unwrap() != own).map(|path| fs_err::read_to_string(path).unwrap()).collect();
    for row in rows {
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let tests: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test in the row {row}");
        for test in tests {
            // A function, or the name of a claim.
            let forms = [format!("fn {test}("), format!("\"{test}\""), format!("::{test}\"")];
            let is_there = all.iter().any(|source| forms.iter().any(|form| source.contains(form)));
            assert!(is_there, "there is no test {test}, of the row {row}");
        }
    }
}
