//! Reads a TOML document key by key and remembers every problem with its line, so that a person mends all of them at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use images::{Class, Error, Result};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What reading a value came to: the error is "expected …, found …" in words.
pub type Read<T> = Result<T, String>;

/// The problems of one document.
pub struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    problems: RefCell<Vec<(usize, String)>>,
}

/// A table of the document. Every key that is asked for is known; [`Table::finish`] reports the others.
pub struct Table<'r, 't> {
    reader: &'r Reader<'t>,
    path: String,
    /// Where the table begins.
    start: usize,
    entries: BTreeMap<&'r str, (Range<usize>, &'r Spanned<DeValue<'t>>)>,
    asked: RefCell<Vec<&'static str>>,
}

/// A value that somebody wrote, on its way to a type.
pub struct Item<'r, 't>(&'r DeValue<'t>);

/// Reads `text`, the content of `file`, with `read`; the error lists every problem in the order of lines.
pub fn read<'t, T>(file: &'t str, text: &'t str, read: impl FnOnce(&Table<'_, 't>) -> T) -> Result<T> {
    let reader = Reader { file, text, problems: RefCell::new(Vec::new()) };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        reader.report(error.span().unwrap_or_default(), error.message().to_owned());
    }
    let table = Table::new(&reader, String::new(), 0, document.get_ref());
    let value = read(&table);
    table.finish();
    reader.end(value)
}

impl Reader<'_> {
    fn report(&self, span: Range<usize>, problem: String) {
        self.problems.borrow_mut().push((span.start, problem));
    }

    fn line(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
    }

    fn end<T>(&self, value: T) -> Result<T> {
        let mut problems = self.problems.take();
        problems.sort();
        problems.dedup();
        let count = match problems.len() {
            0 => return Ok(value),
            1 => "a problem".to_owned(),
            count => format!("{count} problems"),
        };
        let error = Error::new(Class::Usage, format!("{} has {count}", self.file));
        Err(problems.iter().fold(error, |error, (at, problem)| error.detail(format!("line {}: {problem}", self.line(*at)))))
    }
}

impl<'r, 't> Table<'r, 't> {
    fn new(reader: &'r Reader<'t>, path: String, start: usize, table: &'r DeTable<'t>) -> Self {
        let entries = table.iter().map(|(key, value)| (key.get_ref().as_ref(), (key.span(), value))).collect();
        Table { reader, path, start, entries, asked: RefCell::default() }
    }

    fn name(&self, key: &str) -> String {
        match self.path.is_empty() {
            true => key.to_owned(),
            false => format!("{}.{key}", self.path),
        }
    }

    /// The value of `key`, or `None` where it is absent or wrong; what is wrong is remembered.
    pub fn get<T>(&self, key: &'static str, read: impl FnOnce(Item<'r, 't>) -> Read<T>) -> Option<T> {
        self.asked.borrow_mut().push(key);
        let (_, value) = self.entries.get(key)?;
        self.value(&self.name(key), value, read)
    }

    fn value<T>(&self, name: &str, value: &'r Spanned<DeValue<'t>>, read: impl FnOnce(Item<'r, 't>) -> Read<T>) -> Option<T> {
        let found = read(Item(value.get_ref()));
        found.map_err(|problem| self.reader.report(value.span(), format!("{name}: {problem}"))).ok()
    }

    /// Whether somebody wrote `key`, right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Every value of the list `key`; a wrong one is remembered with its own line.
    pub fn list<T>(&self, key: &'static str, mut read: impl FnMut(Item<'r, 't>) -> Read<T>) -> Option<Vec<T>> {
        let values = self.get(key, |item| item.0.as_array().ok_or_else(|| item.other("a list")))?;
        let name = self.name(key);
        Some(values.iter().filter_map(|value| self.value(&name, value, &mut read)).collect())
    }

    /// The table `key`, read whole.
    pub fn table<T>(&self, key: &'static str, read: impl FnOnce(&Table<'r, 't>) -> T) -> Option<T> {
        let table = self.get(key, |item| item.0.as_table().ok_or_else(|| item.other("a table")))?;
        let start = self.entries.get(key).map_or(self.start, |(span, _)| span.start);
        Some(self.nested(self.name(key), start, table, read))
    }

    /// The array of tables `key`, each read whole.
    pub fn tables<T>(&self, key: &'static str, mut read: impl FnMut(&Table<'r, 't>) -> T) -> Option<Vec<T>> {
        let values = self.get(key, |item| item.0.as_array().ok_or_else(|| item.other("a list of tables")))?;
        let name = self.name(key);
        let table = |(number, value): (usize, &'r Spanned<DeValue<'t>>)| {
            let table = self.value(&name, value, |item| item.0.as_table().ok_or_else(|| item.other("a table")))?;
            Some(self.nested(format!("{name}[{number}]"), value.span().start, table, &mut read))
        };
        Some(values.iter().enumerate().filter_map(table).collect())
    }

    fn nested<T>(&self, path: String, start: usize, table: &'r DeTable<'t>, read: impl FnOnce(&Table<'r, 't>) -> T) -> T {
        let table = Table::new(self.reader, path, start, table);
        let value = read(&table);
        table.finish();
        value
    }

    /// Every entry of the table `key`, whose keys are the writer's own.
    pub fn map<T>(&self, key: &'static str, mut read: impl FnMut(&str, Item<'r, 't>) -> Read<T>) -> Option<BTreeMap<String, T>> {
        let table = self.get(key, |item| item.0.as_table().ok_or_else(|| item.other("a table")))?;
        let name = self.name(key);
        let entries = table.iter().filter_map(|(key, value)| {
            let key = key.get_ref().as_ref();
            let value = self.value(&format!("{name}.{key}"), value, |item| read(key, item))?;
            Some((key.to_owned(), value))
        });
        Some(entries.collect())
    }

    /// Remembers a problem of `key` that shows only when several keys are looked at, at the line of that key or, where it
    /// is missing, of the table.
    pub fn problem(&self, key: &str, problem: impl std::fmt::Display) {
        let span = self.entries.get(key).map_or(self.start..self.start, |(span, _)| span.clone());
        self.reader.report(span, format!("{}: {problem}", self.name(key)));
    }

    fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, (span, _)) in self.entries.iter().filter(|(key, _)| !asked.contains(key)) {
            let mut known: Vec<&str> = asked.to_vec();
            known.sort_unstable();
            self.reader.report(span.clone(), format!("{}: unknown key; expected one of: {}", self.name(key), known.join(", ")));
        }
    }
}

impl<'r> Item<'r, '_> {
    fn other(&self, wanted: &str) -> String {
        let found = match self.0 {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        format!("expected {wanted}, found {found}")
    }

    /// A string without control characters, at most 4096 bytes.
    pub fn text(self) -> Read<&'r str> {
        let text = self.0.as_str().ok_or_else(|| self.other("a string"))?;
        if let Some(control) = text.chars().find(|letter| letter.is_control()) {
            return Err(format!("expected one line of text, found the character U+{:04X}", u32::from(control)));
        }
        match text.len() <= 4096 {
            true => Ok(text),
            false => Err(format!("expected at most 4096 bytes, found {}", text.len())),
        }
    }

    /// `true` or `false`.
    pub fn boolean(self) -> Read<bool> {
        self.0.as_bool().ok_or_else(|| self.other("true or false"))
    }

    /// A whole number within `range`.
    pub fn number(self, range: std::ops::RangeInclusive<u32>) -> Read<u32> {
        let wanted = match range.start() == range.end() {
            true => range.start().to_string(),
            false => format!("a whole number from {} to {}", range.start(), range.end()),
        };
        let number = self.0.as_integer().ok_or_else(|| self.other(&wanted))?;
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok().and_then(|value| u32::try_from(value).ok());
        value.filter(|value| range.contains(value)).ok_or_else(|| format!("expected {wanted}, found {}", number.as_str()))
    }

    /// A string that `T` can be made from; `wanted` says what it has to look like.
    pub fn parse<T: std::str::FromStr>(self, wanted: &str) -> Read<T> {
        let text = self.text()?;
        text.parse().map_err(|_| format!("expected {wanted}, found \"{text}\""))
    }

    /// One of these words.
    pub fn one_of<T: Copy>(self, words: &[(&str, T)]) -> Read<T> {
        let text = self.text()?;
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| format!("expected one of: {}; found \"{text}\"", known.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_listed_with_its_line() {
        let text = "port = \"x\"\nprots = 1\n[inner]\nflag = 3\nlist = [1, 70000]\n";
        let result = read("site.toml", text, |table| {
            table.get("port", |item| item.number(1..=65535));
            table.table("inner", |inner| {
                inner.get("flag", Item::boolean);
                inner.list("list", |item| item.number(1..=65535))
            });
        });
        insta::assert_snapshot!(result.unwrap_err(), @r#"
        site.toml has 4 problems
          line 1: port: expected a whole number from 1 to 65535, found a string
          line 2: prots: unknown key; expected one of: inner, port
          line 4: inner.flag: expected true or false, found a whole number
          line 5: inner.list: expected a whole number from 1 to 65535, found 70000
        "#);
    }

    #[test]
    fn text_that_is_no_toml_is_named_with_its_line() {
        let error = read("site.toml", "a = 1\nb = = 2\n", |table| table.get("a", |item| item.number(0..=9))).unwrap_err();
        assert!(error.to_string().contains("line 2: "), "{error}");
    }

    #[test]
    fn a_control_character_is_no_text() {
        let error = read("site.toml", "a = \"x\\ny\"", |table| table.get("a", |item| item.text().map(str::to_owned))).unwrap_err();
        assert!(error.to_string().contains("U+000A"), "{error}");
    }
}
