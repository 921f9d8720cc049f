//! Relations between packages (Debian policy 7.1): `a (>= 1) | b:any, c`.

use std::fmt;

use super::version;
use crate::error::{Class, Error, Result};

/// One package that would do: a name, and the versions of it that would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The package, or what another one provides.
    pub name: &'a str,
    /// Which versions.
    pub version: Option<(Operator, &'a str)>,
}

/// Alternatives, of which one is enough, the first one first.
pub type Clause<'a> = Vec<Relation<'a>>;

/// How versions are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Operator {
    const ALL: [(&'static str, Operator); 5] = [
        ("<<", Operator::Earlier),
        ("<=", Operator::EarlierOrEqual),
        (">=", Operator::LaterOrEqual),
        (">>", Operator::Later),
        ("=", Operator::Equal),
    ];

    fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Operator::Earlier => order.is_lt(),
            Operator::EarlierOrEqual => order.is_le(),
            Operator::Equal => order.is_eq(),
            Operator::LaterOrEqual => order.is_ge(),
            Operator::Later => order.is_gt(),
        }
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some((operator, version)) = &self.version {
            let sign = Operator::ALL.iter().find(|(_, one)| one == operator).map_or("", |(sign, _)| sign);
            write!(f, " ({sign} {version})")?;
        }
        Ok(())
    }
}

/// A clause as a control file writes it.
pub fn show(clause: &[Relation<'_>]) -> String {
    clause.iter().map(Relation::to_string).collect::<Vec<_>>().join(" | ")
}

impl Relation<'_> {
    /// Whether a package in that version satisfies the relation.
    pub fn takes(&self, version: &str) -> bool {
        self.version.is_none_or(|(operator, wanted)| operator.holds(version::compare(version, wanted)))
    }

    /// Whether something provided satisfies it: what is provided without a version satisfies no versioned relation
    /// (policy 7.5).
    pub fn takes_provided(&self, version: Option<&str>) -> bool {
        match version {
            Some(version) => self.takes(version),
            None => self.version.is_none(),
        }
    }
}

/// Reads `Depends` or `Pre-Depends`. An empty field is no clause.
pub fn parse(field: &str) -> Result<Vec<Clause<'_>>> {
    let clauses = field.split(',').map(str::trim).filter(|clause| !clause.is_empty());
    clauses.map(|clause| clause.split('|').map(relation).collect()).collect()
}

/// Reads `Provides`: names, each with the version that is provided, if any.
pub fn parse_provides(field: &str) -> Result<Vec<(&str, Option<&str>)>> {
    let mut provided = Vec::new();
    for clause in parse(field)? {
        match clause.as_slice() {
            [Relation { name, version: None }] => provided.push((*name, None)),
            [Relation { name, version: Some((Operator::Equal, version)) }] => provided.push((*name, Some(*version))),
            _ => return Err(wrong(field, "only \"name\" and \"name (= version)\" can be provided")),
        }
    }
    Ok(provided)
}

fn relation(text: &str) -> Result<Relation<'_>> {
    let text = text.trim();
    let (name, version) = match text.split_once('(') {
        None => (text, None),
        Some((name, rest)) => {
            let inside = rest.strip_suffix(')').ok_or_else(|| wrong(text, "a bracket is not closed"))?.trim();
            let found = Operator::ALL.iter().find_map(|(sign, operator)| Some((*operator, inside.strip_prefix(sign)?.trim())));
            let (operator, version) = found.ok_or_else(|| wrong(text, "a version needs one of << <= = >= >>"))?;
            let legal = |c: char| c.is_ascii_alphanumeric() || ".+-~:".contains(c);
            if version.is_empty() || !version.chars().all(legal) {
                return Err(wrong(text, "that is not a version"));
            }
            (name.trim(), Some((operator, version)))
        }
    };
    // `python3:any`: any architecture would do; there is only one here.
    let name =
        name.split_once(':').filter(|(_, qualifier)| matches!(*qualifier, "any" | "native" | "amd64")).map_or(name, |(name, _)| name);
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    if name.len() < 2 || !name.chars().all(legal) {
        return Err(wrong(text, "that is not a package name"));
    }
    Ok(Relation { name, version })
}

fn wrong(text: &str, why: &str) -> Error {
    Error::new(Class::Fetch, format!("\"{text}\" is not a relation between packages: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_restrictions_and_qualifiers_are_read() {
        let clauses = parse("libc6 (>= 2.38), debconf (>= 0.5) | debconf-2.0 , python3:any (<< 3.14), g++,").expect("valid");
        let shown = clauses.iter().map(|clause| show(clause)).collect::<Vec<_>>();
        assert_eq!(shown, ["libc6 (>= 2.38)", "debconf (>= 0.5) | debconf-2.0", "python3 (<< 3.14)", "g++"]);
        assert!(parse("").expect("valid").is_empty());
        for bad in ["a (", "libc6 (2.3)", "libc6 (>= )", "libc6 (>= 1 2)", "Libc6", "a|", "libc6 [amd64]", "libc6 <!nocheck>", "x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn restrictions_hold_or_do_not() {
        for (field, version, expected) in [
            ("aa (>= 1.0)", "1.0-1", true),
            ("aa (>= 1.0-1)", "1.0-1~bpo", false),
            ("aa (<< 2)", "2~rc1", true),
            ("aa (= 1:1-1)", "1-1", false),
            ("aa (>> 1)", "1", false),
            ("aa (<= 1)", "1-0", true),
            ("aa", "anything", true),
        ] {
            assert_eq!(parse(field).expect(field)[0][0].takes(version), expected, "{field} {version}");
        }
    }

    #[test]
    fn what_is_provided_without_a_version_satisfies_no_versioned_relation() {
        assert_eq!(parse_provides("awk, editor (= 2)").expect("valid"), [("awk", None), ("editor", Some("2"))]);
        assert!(parse_provides("awk | gawk").is_err() && parse_provides("awk (>= 1)").is_err());
        let versioned = &parse("awk (>= 1)").expect("valid")[0][0];
        assert!(!versioned.takes_provided(None) && versioned.takes_provided(Some("1.2")) && !versioned.takes_provided(Some("0.9")));
    }
}
