//! Counting checks.

use std::fmt;
use std::ops::AddAssign;

use crate::process::both_ends;

/// How many checks passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Checks that say yes.
    pub passed: usize,
    /// Checks that say no.
    pub failed: usize,
    /// Checks that could not be made.
    pub skipped: usize,
}

impl Tally {
    /// One check.
    pub fn one(passed: bool) -> Self {
        Tally { passed: passed.into(), failed: (!passed).into(), skipped: 0 }
    }

    /// How many checks there are.
    pub fn all(self) -> usize {
        self.passed + self.failed + self.skipped
    }

    /// Of a whole run: one that failed without a failed check broke off, and one without any check proves nothing. Both count as one
    /// failure.
    fn of_run(mut self, succeeded: bool) -> Self {
        if self.failed == 0 && (!succeeded || self.all() == 0) {
            self.failed = 1;
        }
        self
    }

    /// Where nothing may be skipped, a skip is a failure.
    #[must_use]
    pub fn strict(self) -> Self {
        Tally { passed: self.passed, failed: self.failed + self.skipped, skipped: 0 }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// The closing line of a suite: `12 passed, 0 failed, 0 skipped`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// What `cargo test` printed: the sum over its test programs, and a line for each skipped test, with its reason where it gave one.
pub fn of_cargo_test(printed: &str, succeeded: bool) -> (Tally, Vec<String>) {
    let mut tally = Tally::default();
    for line in printed.lines().filter_map(|line| line.strip_prefix("test result: ")) {
        for (count, what) in line.split(['.', ';']).filter_map(|part| part.trim().split_once(' ')) {
            let Ok(count) = count.parse::<usize>() else { continue };
            match what {
                "passed" => tally.passed += count,
                "failed" => tally.failed += count,
                "ignored" => tally.skipped += count,
                _ => {}
            }
        }
    }
    let skipped = printed.lines().filter_map(|line| line.strip_prefix("test ")).filter_map(|line| line.split_once(" ... ignored"));
    let skipped = skipped.map(|(name, reason)| format!("{name}{reason}")).collect();
    (tally.of_run(succeeded), skipped)
}

/// Why tests failed, as their programs print it after the last test: a head for each, and what it said, without where the panic came
/// from. Nothing where no test failed.
pub fn words_of_failed_tests(printed: &str) -> Vec<String> {
    let is_head = |line: &str| line.starts_with("---- ") && line.ends_with(" ----");
    let is_end = |line: &str| line == "failures:" || line == "stack backtrace:" || line.starts_with("test result: ");
    let mut words: Vec<String> = Vec::new();
    let mut within = false;
    for line in printed.lines() {
        if is_head(line) {
            words.push(line.to_owned());
        } else if let Some(last) = words.last_mut().filter(|_| within && !is_end(line)) {
            last.push('\n');
            last.push_str(line);
        }
        within = is_head(line) || (within && !is_end(line));
    }
    words.iter().flat_map(|words| both_ends(words)).filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// What a closing line of the form of [`Tally`]'s own counts, the last one of what was printed.
pub fn of_closing_line(printed: &str, succeeded: bool) -> Tally {
    let count = |line: &str| -> Option<Tally> {
        let mut counts = ["passed", "failed", "skipped"].into_iter().zip(line.split(", ")).map(|(word, part)| {
            let (number, what) = part.split_once(' ')?;
            number.parse::<usize>().ok().filter(|_| what == word)
        });
        Some(Tally { passed: counts.next()??, failed: counts.next()??, skipped: counts.next()?? })
    };
    printed.lines().rev().find_map(count).unwrap_or_default().of_run(succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_closing_line_counts_and_a_run_that_broke_off_is_a_failure() {
        let printed = "1 passed, 0 failed, 0 skipped\n✔ one\n7 passed, 0 failed, 2 skipped\nreport: x\n";
        assert_eq!(of_closing_line(printed, true), Tally { passed: 7, failed: 0, skipped: 2 });
        assert_eq!(of_closing_line(printed, false), Tally { passed: 7, failed: 1, skipped: 2 });
        assert_eq!(of_closing_line("error: no root", false), Tally { passed: 0, failed: 1, skipped: 0 });
        assert_eq!(of_closing_line("", true).failed, 1);
    }

    const PRINTED: &str = "\
running 3 tests
test one ... ok
test two ... ignored, needs Docker
test three ... FAILED

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

running 2 tests
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 5 filtered out; finished in 0.00s
";

    #[test]
    fn every_test_program_is_counted() {
        let (tally, skipped) = of_cargo_test(PRINTED, false);
        assert_eq!(tally, Tally { passed: 3, failed: 1, skipped: 1 });
        assert_eq!(skipped, ["two, needs Docker"]);
    }

    #[test]
    fn why_tests_failed_is_told_from_amid_what_was_printed() {
        let printed = "running 2 tests\ntest one ... FAILED\n\nfailures:\n\n---- one stdout ----\n\nthread 'one' panicked at a.rs:1:2:\nno psql\n\
                       stack backtrace:\n   0: begin\nnote: more\n\n---- two ----\nnothing came\n\n\nfailures:\n    one\n    two\n\n\
                       test result: FAILED. 0 passed; 2 failed\n";
        assert_eq!(
            words_of_failed_tests(printed),
            ["---- one stdout ----", "thread 'one' panicked at a.rs:1:2:", "no psql", "---- two ----", "nothing came"]
        );
        assert!(words_of_failed_tests(PRINTED).is_empty());
    }

    #[test]
    fn a_run_that_does_not_compile_is_a_failure() {
        assert_eq!(of_cargo_test("error: could not compile `images`\n", false).0, Tally { passed: 0, failed: 1, skipped: 0 });
        let broke_off =
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\nerror: could not compile\n";
        assert_eq!(of_cargo_test(broke_off, false).0, Tally { passed: 2, failed: 1, skipped: 0 });
    }

    #[test]
    fn a_run_without_tests_is_a_failure() {
        assert_eq!(of_cargo_test("", true).0, Tally { passed: 0, failed: 1, skipped: 0 });
    }

    #[test]
    fn where_nothing_may_be_skipped_a_skip_is_a_failure() {
        let strict = Tally { passed: 3, failed: 1, skipped: 2 }.strict();
        assert_eq!(strict.to_string(), "3 passed, 3 failed, 0 skipped");
    }
}
