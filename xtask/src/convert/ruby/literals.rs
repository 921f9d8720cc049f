//! Literals: strings, heredocs, numbers, symbols, arrays, hashes.

use super::{CALL, COMMAND, COMPUTED, CONDITION, INTERPOLATION, Pair, Parsed, Parser, Until, Value, closing};

/// Arrays and hashes in each other: more than anybody writes, and less than the stack holds.
const DEEPEST: usize = 64;

impl Parser<'_> {
    /// A literal; anything else is skipped to where the next value may begin.
    pub(super) fn value(&mut self, depth: usize) -> Parsed<Value> {
        let line = self.line;
        let until = if depth == 0 { Until::Statement } else { Until::Element(line) };
        if depth > DEEPEST {
            return Self::broken(line, format!("expected at most {DEEPEST} brackets in each other, found more"));
        }
        self.operand = true;
        let Some(byte) = self.peek() else { return Self::broken(line, "expected a value, found the end of the file") };
        let value = match byte {
            b'\'' | b'"' => self.strings()?,
            b'`' => {
                self.quoted(b'`', b'`', true)?;
                Value::Unread(COMMAND)
            }
            b'[' => self.list(depth)?,
            b'{' => self.hash(depth)?,
            b':' if self.rest()[1..].starts_with(['\'', '"']) => {
                self.at += 1;
                let quote = self.text.as_bytes()[self.at];
                self.quoted(quote, quote, quote == b'"')?.map_or(Value::Unread(INTERPOLATION), Value::Text)
            }
            b':' if self.rest()[1..].starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                self.at += 1;
                let mut name = self.word();
                name.extend(self.rest().starts_with(['?', '!']).then(|| self.bump()).flatten());
                Value::Text(name)
            }
            b'%' => match self.percent()? {
                Some(value) => value,
                None => return self.unread(COMPUTED, until),
            },
            b'<' if self.heredoc_starts() => self.heredoc()?,
            b'-' | b'+' if self.text.as_bytes().get(self.at + 1).is_some_and(u8::is_ascii_digit) => self.number(),
            b'0'..=b'9' => self.number(),
            byte if byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii() => {
                let start = self.at;
                match self.word().as_str() {
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    "nil" => Value::Nil,
                    word => {
                        let conditional = matches!(word, "if" | "unless" | "case" | "begin");
                        self.at = if word.is_empty() { start + self.rest().chars().next().map_or(0, char::len_utf8) } else { start };
                        return self.unread(if conditional { CONDITION } else { CALL }, until);
                    }
                }
            }
            _ => return self.unread(COMPUTED, until),
        };
        // At the outside the statement looks at what stands behind.
        match depth {
            0 => Ok(value),
            _ => Ok(self.behind(until)?.map_or(value, Value::Unread)),
        }
    }

    fn unread(&mut self, why: &'static str, until: Until) -> Parsed<Value> {
        self.skip(until)?;
        Ok(Value::Unread(why))
    }

    fn number(&mut self) -> Value {
        let start = self.at;
        self.at += usize::from(!self.rest().starts_with(|c: char| c.is_ascii_digit()));
        self.word();
        let fraction = self.peek() == Some(b'.') && self.text.as_bytes().get(self.at + 1).is_some_and(u8::is_ascii_digit);
        if fraction {
            self.at += 1;
            self.word();
        }
        let written = self.text[start..self.at].trim_start_matches('+').replace('_', "");
        let (sign, digits) = written.strip_prefix('-').map_or(("", written.as_str()), |digits| ("-", digits));
        let lower = digits.to_ascii_lowercase();
        let radix =
            [("0x", 16), ("0b", 2), ("0o", 8)].into_iter().find_map(|(mark, radix)| Some((lower.strip_prefix(mark)?.to_owned(), radix)));
        // A zero at the beginning makes it octal: 0600 is 384.
        let octal = || (lower.len() > 1 && !fraction).then(|| lower.strip_prefix('0').map(|rest| (rest.to_owned(), 8))).flatten();
        let value = match radix.or_else(octal) {
            Some((digits, radix)) => i64::from_str_radix(&digits, radix).ok().map(|number| format!("{sign}{number}")),
            // As Ruby prints it: 1.50 is 1.5, and 1.0 stays so.
            None if fraction => digits.parse::<f64>().ok().map(|number| format!("{sign}{number:?}")),
            None => digits.parse::<i64>().ok().map(|number| format!("{sign}{number}")),
        };
        value.map_or(Value::Unread("a number that cannot be read"), Value::Number)
    }

    /// A string, and those that stand beside it: `'a' "b"` is one.
    fn strings(&mut self) -> Parsed<Value> {
        let mut text = Some(String::new());
        while let Some(quote @ (b'\'' | b'"')) = self.peek() {
            let piece = self.quoted(quote, quote, quote == b'"')?;
            text = text.zip(piece).map(|(text, piece)| text + &piece);
            self.blanks();
        }
        Ok(text.map_or(Value::Unread(INTERPOLATION), Value::Text))
    }

    /// The text between two marks; nothing where it has to be evaluated.
    pub(super) fn quoted(&mut self, open: u8, close: u8, escapes: bool) -> Parsed<Option<String>> {
        let (line, mut text, mut nested, mut evaluated) = (self.line, String::new(), 0, false);
        self.at += 1;
        loop {
            let Some(byte) = self.peek() else {
                return Self::broken(
                    line,
                    format!("expected the {} that ends what begins here, found the end of the file", char::from(close)),
                );
            };
            match byte {
                b'\\' => {
                    self.at += 1;
                    if escapes {
                        self.escape(&mut text);
                    } else {
                        match self.peek() {
                            Some(byte) if byte == close || byte == open || byte == b'\\' => text.extend(self.bump()),
                            _ => text.push('\\'),
                        }
                    }
                }
                _ if byte == close && nested == 0 => {
                    self.at += 1;
                    return Ok((!evaluated).then_some(text));
                }
                b'#' if escapes && (self.next_is("#{") || self.next_is("#@") || self.next_is("#$")) => {
                    evaluated = true;
                    self.at += 1;
                    if self.next_is("{") {
                        self.skip_interpolation(line)?;
                    }
                }
                _ => {
                    if open != close {
                        nested += usize::from(byte == open);
                        nested -= usize::from(byte == close);
                    }
                    text.extend(self.bump());
                }
            }
        }
    }

    /// `{…}` in a string: strings in it may hold braces.
    fn skip_interpolation(&mut self, line: usize) -> Parsed<()> {
        let mut open = 0usize;
        // Strings within interpolations within strings: what closes each.
        let mut quotes: Vec<(u8, usize)> = Vec::new();
        while let Some(byte) = self.peek() {
            match (quotes.last().copied(), byte) {
                (_, b'\\') => {
                    self.at += 1;
                    self.bump();
                    continue;
                }
                (Some((quote, _)), _) if byte == quote => _ = quotes.pop(),
                (Some((b'"', depth)), b'#') if self.next_is("#{") => {
                    self.at += 1;
                    quotes.push((0, depth));
                    open += 1;
                    quotes.push((0, open));
                }
                (Some((b'"' | b'\'', _)), _) => {}
                (_, b'"' | b'\'') => quotes.push((byte, open)),
                (_, b'{') => open += 1,
                (_, b'}') => {
                    if let Some((0, depth)) = quotes.last().copied()
                        && depth == open
                    {
                        quotes.truncate(quotes.len().saturating_sub(2));
                    }
                    open = open.saturating_sub(1);
                    if open == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                _ => {}
            }
            self.bump();
        }
        Self::broken(line, "expected the } that ends an interpolation, found the end of the file")
    }

    /// What stands behind a backslash in a string with escapes.
    fn escape(&mut self, text: &mut String) {
        let digits = |rest: &str, radix: u32, most: usize| rest.chars().take(most).take_while(|c| c.is_digit(radix)).count();
        let mut code = |parser: &mut Self, length: usize, radix: u32| {
            let number = u32::from_str_radix(&parser.rest()[..length], radix).ok();
            text.push(number.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
            parser.at += length;
        };
        let Some(c) = self.rest().chars().next() else { return };
        match c {
            'x' | 'u' if digits(&self.rest()[1..], 16, 1) == 1 => {
                self.at += 1;
                let length = digits(self.rest(), 16, if c == 'x' { 2 } else { 4 });
                code(self, length, 16);
            }
            'u' if self.rest().starts_with("u{") => {
                self.at += 2;
                loop {
                    self.blanks();
                    match digits(self.rest(), 16, 6) {
                        0 => break,
                        length => code(self, length, 16),
                    }
                }
                self.eat("}");
            }
            '0'..='7' => {
                let length = digits(self.rest(), 8, 3);
                code(self, length, 8);
            }
            '\n' => _ = self.bump(),
            _ => {
                let plain = match c {
                    'n' => '\n',
                    't' => '\t',
                    's' => ' ',
                    'r' => '\r',
                    'e' => '\u{1b}',
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'v' => '\u{b}',
                    c => c,
                };
                self.bump();
                text.push(plain);
            }
        }
    }

    /// `%w[a b]`, `%i[a b]`, `%q(…)`, `%Q(…)`, `%(…)`; nothing where it is none of these.
    pub(super) fn percent(&mut self) -> Parsed<Option<Value>> {
        let bytes = self.text.as_bytes();
        let (kind, at) = match bytes.get(self.at + 1) {
            Some(kind @ (b'w' | b'W' | b'i' | b'I' | b'q' | b'Q')) => (*kind, self.at + 2),
            _ => (b'Q', self.at + 1),
        };
        let Some(open) = bytes.get(at).copied().filter(|byte| byte.is_ascii_punctuation()) else { return Ok(None) };
        self.at = at;
        let text = self.quoted(open, closing(open), kind.is_ascii_uppercase())?;
        Ok(Some(match (text, kind) {
            (None, _) => Value::Unread(INTERPOLATION),
            (Some(text), b'q' | b'Q') => Value::Text(text),
            (Some(text), _) => Value::List(text.split_ascii_whitespace().map(|word| Value::Text(word.to_owned())).collect()),
        }))
    }

    pub(super) fn heredoc_starts(&self) -> bool {
        let name = |rest: &str| rest.starts_with(['"', '\'']) || rest.starts_with(|c: char| c.is_alphabetic() || c == '_');
        self.rest().strip_prefix("<<").is_some_and(|rest| name(rest.strip_prefix(['~', '-']).unwrap_or(rest)))
    }

    /// `<<~NAME` and its kin; its lines begin behind this one, or behind the heredoc before it.
    pub(super) fn heredoc(&mut self) -> Parsed<Value> {
        let line = self.line;
        self.at += 2;
        let squiggly = self.eat("~");
        let indented = squiggly || self.eat("-");
        let raw = self.peek() == Some(b'\'');
        let name = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => {
                self.at += 1;
                let end = self.rest().find(['\n', char::from(quote)]).filter(|end| self.text.as_bytes()[self.at + end] == quote);
                let Some(end) = end else {
                    return Self::broken(line, "expected the quote that ends a heredoc's name, found none in its line");
                };
                let name = self.rest()[..end].to_owned();
                self.at += end + 1;
                name
            }
            _ => self.word(),
        };
        let (end_of_line, start, before) = match self.after {
            Some(known) => known,
            None => {
                let end = self.rest().find('\n').map_or(self.text.len(), |length| self.at + length);
                (end, (end + 1).min(self.text.len()), 0)
            }
        };
        let (mut at, mut lines) = (start, Vec::new());
        loop {
            let rest = &self.text[at..];
            if rest.is_empty() {
                return Self::broken(
                    line,
                    format!("expected a line {name}, which ends the heredoc that begins here, found the end of the file"),
                );
            }
            let one = rest.split('\n').next().unwrap_or(rest);
            at = (at + one.len() + 1).min(self.text.len());
            if (if indented { one.trim_start_matches([' ', '\t']) } else { one }) == name {
                break;
            }
            lines.push(one);
        }
        self.after = Some((end_of_line, at, before + lines.len() + 1));
        let indent = |line: &&str| line.len() - line.trim_start_matches([' ', '\t']).len();
        let least = lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
        let body: String = lines
            .iter()
            .map(|line| match squiggly {
                true => format!("{}\n", line.get(least.min(indent(line))..).unwrap_or_default()),
                false => format!("{line}\n"),
            })
            .collect();
        if raw {
            return Ok(Value::Text(body));
        }
        if ["#{", "#@", "#$"].iter().any(|mark| body.contains(mark)) {
            return Ok(Value::Unread(INTERPOLATION));
        }
        let mut inner = Parser { text: &body, at: 0, line: 1, after: None, blocks: Vec::new(), operand: true };
        let mut text = String::with_capacity(body.len());
        while let Some(c) = inner.bump() {
            if c == '\\' { inner.escape(&mut text) } else { text.push(c) }
        }
        Ok(Value::Text(text))
    }

    fn list(&mut self, depth: usize) -> Parsed<Value> {
        let line = self.line;
        self.at += 1;
        let mut values = Vec::new();
        loop {
            self.space();
            if self.peek().is_none() {
                return Self::broken(line, "expected the ] that ends what begins here, found the end of the file");
            }
            if self.eat("]") {
                return Ok(Value::List(values));
            }
            values.push(self.value(depth + 1)?);
            self.space();
            if !self.eat(",") && self.peek() != Some(b']') {
                return Self::broken(
                    line,
                    format!("expected , or the ] that ends what begins here, found {} in line {}", self.found(), self.line),
                );
            }
        }
    }

    fn hash(&mut self, depth: usize) -> Parsed<Value> {
        let line = self.line;
        self.at += 1;
        let mut pairs = Vec::new();
        loop {
            self.space();
            if self.peek().is_none() {
                return Self::broken(line, "expected the } that ends what begins here, found the end of the file");
            }
            if self.eat("}") {
                return Ok(Value::Hash(pairs));
            }
            let start = self.line;
            let key = self.key(depth)?;
            self.space();
            let value = self.value(depth + 1)?;
            pairs.push(Pair { line: start, key, value });
            self.space();
            if !self.eat(",") && self.peek() != Some(b'}') {
                return Self::broken(
                    line,
                    format!("expected , or the }} that ends what begins here, found {} in line {}", self.found(), self.line),
                );
            }
        }
    }

    /// `'key' =>`, `:key =>`, `key:` or `'key':`.
    fn key(&mut self, depth: usize) -> Parsed<Value> {
        let line = self.line;
        let start = self.at;
        if self.peek().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_') {
            let word = self.word();
            if self.next_is(":") && !self.next_is("::") {
                self.at += 1;
                return Ok(Value::Text(word));
            }
            self.at = start;
        }
        let key = match self.peek() {
            Some(b'\'' | b'"') => {
                let key = self.strings()?;
                if self.eat(":") {
                    return Ok(key);
                }
                key
            }
            _ => self.value(depth + 1)?,
        };
        self.space();
        match self.eat("=>") {
            true => Ok(key),
            false => Self::broken(line, format!("expected => behind a key, found {} in line {}", self.found(), self.line)),
        }
    }

    /// What stands here, for an error; never what it says, which may be a secret.
    fn found(&self) -> &'static str {
        match self.peek() {
            None => "the end of the file",
            Some(b'\'' | b'"') => "a string",
            Some(b'=') => "=",
            Some(b']' | b'}' | b')') => "another bracket",
            Some(byte) if byte.is_ascii_digit() => "a number",
            Some(byte) if byte.is_ascii_alphabetic() => "a word",
            Some(_) => "something else",
        }
    }
}
