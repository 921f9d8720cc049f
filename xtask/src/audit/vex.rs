//! What is said of holes: `images/vex.json`, statements as OpenVEX 0.2 has them.

use images::{Class, Error, Result};
use serde::Deserialize;

/// OpenVEX's five reasons.
const JUSTIFICATIONS: [&str; 5] = [
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
];

/// All statements, checked.
#[derive(Debug, Default)]
pub struct Vex {
    /// In the order of the file.
    pub statements: Vec<Statement>,
}

/// One statement.
#[derive(Debug)]
pub struct Statement {
    /// The hole.
    pub vulnerability: String,
    aliases: Vec<String>,
    /// What the statement is about.
    pub products: Vec<Product>,
    /// What is said.
    pub status: Status,
    justification: Option<String>,
    words: Option<String>,
}

/// What is said of a hole.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It does no harm here.
    NotAffected,
    /// It does, and something is to be done.
    Affected,
    /// It was mended here.
    Fixed,
    /// Nobody knows yet.
    UnderInvestigation,
}

/// A package URL, as far as it is looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct Product {
    /// Debian's binary or source package, the crate, or the Go module.
    pub name: String,
    /// Where the statement holds for one version alone.
    pub version: Option<String>,
    /// Whether it is a Go module.
    pub is_module: bool,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "@context")]
    context: String,
    statements: Vec<Written>,
}

#[derive(Deserialize)]
struct Written {
    vulnerability: Vulnerability,
    #[serde(default)]
    products: Vec<Thing>,
    status: Status,
    justification: Option<String>,
    impact_statement: Option<String>,
    action_statement: Option<String>,
}

#[derive(Deserialize)]
struct Vulnerability {
    name: String,
    #[serde(default)]
    aliases: Vec<String>,
}

#[derive(Deserialize)]
struct Thing {
    #[serde(rename = "@id")]
    id: String,
    #[serde(default)]
    subcomponents: Vec<Thing>,
}

impl Statement {
    /// The names of the hole.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.vulnerability).chain(&self.aliases).map(String::as_str)
    }

    /// Why, in a line.
    pub fn reason(&self) -> String {
        let status = match self.status {
            Status::NotAffected => "not affected",
            Status::Affected => "affected",
            Status::Fixed => "fixed",
            Status::UnderInvestigation => "under investigation",
        };
        let why: Vec<&str> = self.justification.iter().chain(&self.words).map(String::as_str).collect();
        if why.is_empty() { status.to_owned() } else { format!("{status}: {}", why.join("; ").replace('_', " ")) }
    }
}

impl Vex {
    /// Reads the statements; `file` is its name in errors, which tell everything that is wrong.
    pub fn parse(text: &[u8], file: &str) -> Result<Self> {
        let error = || Error::new(Class::Usage, format!("{file} is not OpenVEX as it has to be"));
        let read: File = serde_json::from_slice(text).map_err(|wrong| error().detail(wrong.to_string()))?;
        let mut wrong = Vec::new();
        if !read.context.starts_with("https://openvex.dev/ns") {
            wrong.push(format!("its @context is {:?}, not OpenVEX's", read.context));
        }
        let mut statements = Vec::new();
        for (number, written) in read.statements.into_iter().enumerate() {
            let mut problem = |what: &str| wrong.push(format!("statement {} ({}): {what}", number + 1, written.vulnerability.name));
            match written.status {
                Status::NotAffected if written.justification.is_none() && written.impact_statement.is_none() => {
                    problem("not_affected needs a justification or an impact_statement");
                }
                Status::Affected if written.action_statement.is_none() => problem("affected needs an action_statement"),
                _ => {}
            }
            if let Some(unknown) = written.justification.as_deref().filter(|one| !JUSTIFICATIONS.contains(one)) {
                problem(&format!("{unknown:?} is none of {}", JUSTIFICATIONS.join(", ")));
            }
            let mut products = Vec::new();
            for thing in &written.products {
                // Where parts are named, the statement is about them.
                let parts = if thing.subcomponents.is_empty() { std::slice::from_ref(thing) } else { &thing.subcomponents };
                for part in parts {
                    match Product::parse(&part.id) {
                        Some(product) => products.push(product),
                        None => problem(&format!("{:?} is no package URL of a Debian package, a crate or a Go module", part.id)),
                    }
                }
            }
            if written.products.is_empty() {
                problem("it names no product");
            }
            let Vulnerability { name, aliases } = written.vulnerability;
            let words = written.impact_statement.or(written.action_statement);
            statements.push(Statement {
                vulnerability: name,
                aliases,
                products,
                status: written.status,
                justification: written.justification,
                words,
            });
        }
        match wrong.is_empty() {
            true => Ok(Vex { statements }),
            false => Err(wrong.into_iter().fold(error(), Error::detail)),
        }
    }
}

impl Product {
    fn parse(purl: &str) -> Option<Self> {
        let is_module = purl.starts_with("pkg:golang/");
        let rest = ["pkg:deb/debian/", "pkg:cargo/", "pkg:golang/"].iter().find_map(|kind| purl.strip_prefix(kind))?;
        let rest = rest.split(['?', '#']).next()?;
        let (name, version) = match rest.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (rest, None),
        };
        let plain = |text: &str| text.replace("%2B", "+").replace("%2b", "+").replace("%3A", ":").replace("%3a", ":");
        (!name.is_empty()).then(|| Product { name: plain(name), version: version.map(plain), is_module })
    }
}
