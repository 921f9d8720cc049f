//! An edit of somebody's YAML that touches nothing else: comments, order, anchors, line ends and blanks stay as they are.
//!
//! A parser says where things stand; the text is changed there, and the result is read again: everything that was there has to be
//! there still, and nothing but what was asked for has to be new.

use images::{Class, Error, Result};
use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// A node, with where it stands in the text (bytes).
#[derive(Clone, Debug, PartialEq)]
struct Node {
    start: usize,
    end: usize,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Scalar { text: String, style: ScalarStyle, decorated: bool },
    Map(Vec<(Node, Node)>),
    List(Vec<Node>),
    Alias(usize),
}

/// Sets scalars in the mapping at `path`, which is made where it is missing, and returns the new text.
///
/// # Errors
/// [`Class::Usage`] for what is not YAML, with its line; for what cannot be edited without writing it anew, with what to do.
pub fn set(text: &str, file: &str, path: &[&str], values: &[(&str, &str)]) -> Result<String> {
    let edit = Edit { text, file };
    let before = edit.read(text)?;
    let new = match &before {
        None => edit.append(path, values),
        Some(root) => edit.descend(root, path, values, path)?,
    };
    let after = edit.read(&new).map_err(|error| error.context("the edit"))?;
    match same(before.as_ref(), after.as_ref(), path, values) {
        true => Ok(new),
        false => Err(edit.refused("its form is one that this edit does not know").hint(edit.by_hand(path, values))),
    }
}

/// A scalar by its path; none where it is missing, or where the text is no YAML.
pub fn scalar(text: &str, path: &[&str]) -> Option<String> {
    let mut node = Edit { text, file: "" }.read(text).ok()??;
    for name in path {
        let What::Map(entries) = node.what else { return None };
        node = entries.into_iter().find(|(key, _)| is(key, name))?.1;
    }
    match node.what {
        What::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

struct Edit<'a> {
    text: &'a str,
    file: &'a str,
}

impl Edit<'_> {
    fn refused(&self, why: impl std::fmt::Display) -> Error {
        Error::new(Class::Usage, format!("{} is not changed", self.file)).detail(why.to_string())
    }

    fn by_hand(&self, path: &[&str], values: &[(&str, &str)]) -> String {
        format!("write it by hand:\n{}", block(path, values, "", "\n"))
    }

    /// The only document; none where there is nothing but comments.
    fn read(&self, text: &str) -> Result<Option<Node>> {
        // Where each character begins: the parser counts characters.
        let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let at = |index: usize| bytes.get(index).copied().unwrap_or(text.len());
        let mut events = Vec::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                let line = error.marker().line();
                let shown = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
                let tab = shown.starts_with('\t') || shown.trim_start_matches(' ').starts_with('\t');
                let why = format!("line {line} is not YAML: {}", error.info());
                let error = self.refused(why);
                if tab { error.hint("YAML is indented with spaces; a tab stands there") } else { error }
            })?;
            events.push((event, span));
        }
        let documents = events.iter().filter(|(event, _)| matches!(event, Event::DocumentStart(_))).count();
        if documents > 1 {
            return Err(self.refused(format!("it holds {documents} documents; Jenkins reads one")));
        }
        let mut rest = events.into_iter().filter(|(event, _)| {
            !matches!(event, Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing)
        });
        let Some(first) = rest.next() else { return Ok(None) };
        let root = node(first, &mut rest, &at).ok_or_else(|| self.refused("it cannot be read to its end"))?;
        Ok(Some(root).filter(|root| !matches!(&root.what, What::Scalar { text, decorated: false, .. } if text.is_empty())))
    }

    /// Goes down the path; what is missing of it is made where it ends.
    fn descend(&self, found: &Node, path: &[&str], values: &[(&str, &str)], whole: &[&str]) -> Result<String> {
        let depth = whole.len() - path.len();
        let name = if depth == 0 { "the document".to_owned() } else { whole[..depth].join(".") };
        let entries = match &found.what {
            What::Map(entries) if self.is_flow(found) => {
                let why = format!("{name} is written in braces{}", if entries.is_empty() { "" } else { ", as in JSON" });
                return Err(self.refused(why).hint(self.by_hand(whole, values)));
            }
            What::Map(entries) => entries,
            What::Alias(_) => return Err(self.refused(format!("{name} is an alias of another place")).hint(self.by_hand(whole, values))),
            _ => {
                let what = if matches!(found.what, What::List(_)) { "a list" } else { "a value" };
                return Err(self.refused(format!("{name} is no mapping: expected `key: value` lines, found {what}")));
            }
        };
        let Some((key, below)) = path.split_first() else { return self.set_here(entries, values, whole) };
        let mut named = entries.iter().filter(|(found, _)| is(found, key));
        let (found, twice) = (named.next(), named.next());
        if twice.is_some() {
            return Err(self.refused(format!("{key} stands twice in {name}")));
        }
        let indent = self.indent(&entries[0].0);
        match found {
            Some((found, value)) if is_empty(value) => {
                let deeper = format!("{indent}  ");
                Ok(self.insert_after_line(
                    found.end.max(value.end.min(self.line_end(found.end))),
                    &block(below, values, &deeper, self.newline()),
                ))
            }
            Some((_, value)) => self.descend(value, below, values, whole),
            // Right behind the key that the mapping belongs to, so that a comment above its first entry stays above that.
            None if depth > 0 => Ok(self.insert_at(self.line_start(entries[0].0.start), &block(path, values, &indent, self.newline()))),
            None => Ok(self.append(path, values)),
        }
    }

    /// Replaces values that differ, and adds those that are missing in front of the mapping's first entry.
    fn set_here(&self, entries: &[(Node, Node)], values: &[(&str, &str)], whole: &[&str]) -> Result<String> {
        let mut new = self.text.to_owned();
        let mut edits: Vec<(usize, usize, String)> = Vec::new();
        let mut missing = Vec::new();
        for (key, wanted) in values {
            let mut named = entries.iter().filter(|(found, _)| is(found, key));
            match (named.next(), named.next()) {
                (_, Some(_)) => return Err(self.refused(format!("{key} stands twice in {}", whole.join(".")))),
                (Some((_, Node { what: What::Scalar { text, .. }, .. })), None) if text == wanted => {}
                (Some((found, value)), None) if is_empty(value) => {
                    edits.push((self.colon(found.end), self.colon(found.end), format!(" {}", quoted(wanted))))
                }
                (Some((_, Node { start, end, what: What::Scalar { style, decorated: false, .. } })), None)
                    if !matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) =>
                {
                    edits.push((*start, start + written(&self.text[*start..*end]), quoted(wanted)));
                }
                (Some(_), None) => {
                    let why = format!("{}.{key} is no plain value", whole.join("."));
                    return Err(self.refused(why).hint(self.by_hand(whole, values)));
                }
                (None, _) => missing.push((*key, *wanted)),
            }
        }
        if let (Some((first, _)), false) = (entries.first(), missing.is_empty()) {
            let start = self.line_start(first.start);
            edits.push((start, start, block(&[], &missing, &self.indent(first), self.newline())));
        }
        edits.sort_by_key(|edit| std::cmp::Reverse(edit.0));
        edits.into_iter().for_each(|(start, end, with)| new.replace_range(start..end, &with));
        Ok(new)
    }

    /// Behind everything, but for the mark of the document's end.
    fn append(&self, path: &[&str], values: &[(&str, &str)]) -> String {
        let newline = self.newline();
        let end = self.text.lines().rev().find(|line| !line.trim().is_empty()).filter(|line| line.trim_end() == "...");
        let at = end.and_then(|_| self.text.rfind("...")).unwrap_or(self.text.len());
        let open = if at > 0 && !self.text[..at].ends_with('\n') { newline } else { "" };
        self.insert_at(at, &format!("{open}{}", block(path, values, "", newline)))
    }

    fn insert_after_line(&self, at: usize, lines: &str) -> String {
        let end = self.line_end(at);
        match self.text[end..].starts_with('\n') {
            true => self.insert_at(end + 1, lines),
            false => self.insert_at(end, &format!("{}{lines}", self.newline())),
        }
    }

    fn insert_at(&self, at: usize, lines: &str) -> String {
        format!("{}{lines}{}", &self.text[..at], &self.text[at..])
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |before| before + 1)
    }

    fn line_end(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |after| at + after)
    }

    /// Behind the colon of a key that ends at `at`.
    fn colon(&self, at: usize) -> usize {
        self.text[at..].find(':').map_or(at, |after| at + after + 1)
    }

    fn indent(&self, key: &Node) -> String {
        self.text[self.line_start(key.start)..key.start].to_owned()
    }

    /// The line end of the file's first line.
    fn newline(&self) -> &'static str {
        match self.text.find('\n') {
            Some(at) if self.text[..at].ends_with('\r') => "\r\n",
            _ => "\n",
        }
    }

    fn is_flow(&self, map: &Node) -> bool {
        self.text[map.start..].starts_with('{')
    }
}

fn is(key: &Node, name: &str) -> bool {
    matches!(&key.what, What::Scalar { text, .. } if text == name)
}

/// `key:` with nothing behind it.
fn is_empty(value: &Node) -> bool {
    matches!(&value.what, What::Scalar { text, style: ScalarStyle::Plain, decorated: false } if matches!(text.as_str(), "" | "~" | "null"))
        && value.start == value.end
}

/// How long a scalar is as it is written: the parser's end of a quoted one lies behind the comment that follows it.
fn written(text: &str) -> usize {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return text.trim_end().len() };
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            // In single quotes a quote is written twice.
            '\'' if quote == '\'' && text[at + 1..].starts_with('\'') => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The keys of `path`, each two deeper than the one before, and the values in it.
fn block(path: &[&str], values: &[(&str, &str)], indent: &str, newline: &str) -> String {
    let keys = path.iter().enumerate().map(|(depth, key)| format!("{indent}{}{key}:{newline}", "  ".repeat(depth)));
    let deep = "  ".repeat(path.len());
    let values = values.iter().map(|(key, value)| format!("{indent}{deep}{key}: {}{newline}", quoted(value)));
    keys.chain(values).collect()
}

type Spanned<'a> = (Event<'a>, Span);

fn node<'a>(first: Spanned<'a>, rest: &mut impl Iterator<Item = Spanned<'a>>, at: &impl Fn(usize) -> usize) -> Option<Node> {
    let (event, span) = first;
    let (start, end) = (at(span.start.index()), at(span.end.index()));
    Some(match event {
        Event::Scalar(text, style, anchor, tag) => {
            let decorated = anchor > 0 || tag.is_some();
            Node { start, end, what: What::Scalar { text: text.into_owned(), style, decorated } }
        }
        Event::Alias(anchor) => Node { start, end, what: What::Alias(anchor) },
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match rest.next()? {
                    (Event::SequenceEnd, end) => return Some(Node { start, end: at(end.end.index()), what: What::List(items) }),
                    other => items.push(node(other, rest, at)?),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut entries = Vec::new();
            loop {
                match rest.next()? {
                    (Event::MappingEnd, end) => return Some(Node { start, end: at(end.end.index()), what: What::Map(entries) }),
                    other => {
                        let key = node(other, rest, at)?;
                        let value = rest.next()?;
                        entries.push((key, node(value, rest, at)?));
                    }
                }
            }
        }
        _ => return None,
    })
}

/// Whether `after` is `before` with the values in the mapping at `path`, and nothing else.
fn same(before: Option<&Node>, after: Option<&Node>, path: &[&str], values: &[(&str, &str)]) -> bool {
    let (Some(after), before) = (after, before.filter(|node| !is_empty(node))) else { return false };
    let empty = Vec::new();
    let before = match before.map(|node| &node.what) {
        None => &empty,
        Some(What::Map(entries)) => entries,
        Some(_) => return false,
    };
    let What::Map(after) = &after.what else { return false };
    let ours = |key: &Node| match path.split_first() {
        Some((name, _)) => is(key, name),
        None => values.iter().any(|(name, _)| is(key, name)),
    };
    let others = |entries: &[(Node, Node)]| {
        entries.iter().filter(|(key, _)| !ours(key)).map(|(key, value)| (plain(key), plain(value))).collect::<Vec<_>>()
    };
    if others(before) != others(after) {
        return false;
    }
    match path.split_first() {
        Some((name, below)) => {
            let of = |entries: &'_ [(Node, Node)]| entries.iter().find(|(key, _)| is(key, name)).map(|(_, value)| value.clone());
            after.iter().filter(|(key, _)| is(key, name)).count() == 1 && same(of(before).as_ref(), of(after).as_ref(), below, values)
        }
        None => values.iter().all(|(name, wanted)| {
            after.iter().filter(|(key, _)| is(key, name)).count() == 1
                && after.iter().any(|(key, value)| is(key, name) && is(value, wanted))
        }),
    }
}

/// A node wherever it stands.
fn plain(node: &Node) -> Node {
    let what = match &node.what {
        What::Map(entries) => What::Map(entries.iter().map(|(key, value)| (plain(key), plain(value))).collect()),
        What::List(items) => What::List(items.iter().map(plain).collect()),
        other => other.clone(),
    };
    Node { start: 0, end: 0, what }
}

#[cfg(test)]
mod tests;
