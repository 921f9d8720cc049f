//! The Ruby that people write into `gitlab.rb`: settings and literal values. Nothing is run.
//!
//! Read are comments, strings with their escapes, heredocs, symbols, numbers, `true`, `false`, `nil`, arrays and hashes, over as many
//! lines as they take. Everything else (calls, interpolation, operators) is an [`Value::Unread`] with the reason, and what stands inside
//! of a conditional or a block carries the line of that. The grammar is that of Ruby 3.2's `doc/syntax/literals.rdoc`.
//!
//! One pass, no backtracking: 10 MB take as long as ten times 1 MB.

/// Arrays and hashes in each other: more than anybody writes, and less than the stack holds.
const DEEPEST: usize = 64;

/// A value as it stands in the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `nil`
    Nil,
    /// `true`, `false`
    Bool(bool),
    /// A number, in the digits of the file without `_`.
    Number(String),
    /// A string, a heredoc, or a symbol.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// A hash, in the order of the file.
    Hash(Vec<Pair>),
    /// What would have to be evaluated: why.
    Unread(&'static str),
}

/// One entry of a hash.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Where it begins.
    pub line: usize,
    /// Left of `=>`, or of the colon.
    pub key: Value,
    /// Right of it.
    pub value: Value,
}

/// `name value`, or `name['key']['key'] = value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Where it begins, counted from 1.
    pub line: usize,
    /// The name at its beginning; empty where there is none.
    pub name: String,
    /// What stands in brackets behind it.
    pub keys: Vec<String>,
    /// What it is set to.
    pub value: Value,
    /// The line of the conditional or block that it stands in.
    pub inside: Option<usize>,
}

/// The file ends, or goes on, in a way that nothing behind it can be understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// Where what has no end begins.
    pub line: usize,
    /// What was expected, and what was found.
    pub problem: String,
}

const CALL: &str = "a call, and nothing is run";
const INTERPOLATION: &str = "a string with interpolation, and nothing is evaluated";
const COMPUTED: &str = "something that Ruby has to compute, and nothing is evaluated";
const COMMAND: &str = "a command for a shell, and nothing is run";
const CONDITION: &str = "a conditional, and nothing is evaluated";

/// Every statement of `text` that sets something or may do so.
///
/// # Errors
/// [`Broken`] for a string, heredoc, bracket, comment or block without an end, and for an end without a beginning.
pub fn parse(text: &str) -> Result<Vec<Statement>, Broken> {
    // As Ruby reads a file of Windows, and one that begins with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut parser = Parser { text: &text, at: 0, line: 1, after: None, blocks: Vec::new(), operand: true };
    parser.file()
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    line: usize,
    /// Heredocs that began in this line: where the line ends, where the last of them does, and how many lines they have.
    after: Option<(usize, usize, usize)>,
    /// Where the conditionals and blocks begin that are open.
    blocks: Vec<usize>,
    /// Whether a value comes next, not an operator: `/` begins a pattern, `<<A` a heredoc, `if` a conditional.
    operand: bool,
}

type Parsed<T> = Result<T, Broken>;

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next_is(&self, word: &str) -> bool {
        self.text.as_bytes()[self.at..].starts_with(word.as_bytes())
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.next_is(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// One character, whatever it is. A line break leads over the heredocs that began in the line.
    fn bump(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            if let Some((_, resume, lines)) = self.after.take_if(|(end, ..)| *end < self.at) {
                (self.at, self.line) = (resume, self.line + lines);
            }
        }
        Some(c)
    }

    fn broken<T>(line: usize, problem: impl Into<String>) -> Parsed<T> {
        Err(Broken { line, problem: problem.into() })
    }

    /// Letters, digits and `_`.
    fn word(&mut self) -> String {
        let word: String = self.rest().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        self.at += word.len();
        word
    }

    fn blanks(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\\' if self.next_is("\\\n") => {
                    self.at += 1;
                    self.bump();
                }
                _ => break,
            }
        }
    }

    fn comment(&mut self) {
        let length = self.rest().find('\n').unwrap_or(self.rest().len());
        self.at += length;
    }

    /// Blanks, comments and line breaks.
    fn space(&mut self) {
        loop {
            self.blanks();
            match self.peek() {
                Some(b'\n') => _ = self.bump(),
                Some(b'#') => self.comment(),
                _ => return,
            }
        }
    }

    fn file(&mut self) -> Parsed<Vec<Statement>> {
        let mut statements = Vec::new();
        loop {
            self.blanks();
            let line_start = self.at == 0 || self.text.as_bytes()[self.at - 1] == b'\n';
            match self.peek() {
                None => break,
                Some(b'\n' | b';') => _ = self.bump(),
                Some(b'#') => self.comment(),
                Some(b'=') if line_start && self.next_is("=begin") => self.long_comment()?,
                Some(b'_') if line_start && (self.rest() == "__END__" || self.next_is("__END__\n")) => break,
                Some(_) => statements.extend(self.statement()?),
            }
        }
        match self.blocks.last() {
            Some(line) => Self::broken(*line, "expected the `end` of what begins here, found the end of the file"),
            None => Ok(statements),
        }
    }

    fn long_comment(&mut self) -> Parsed<()> {
        let line = self.line;
        loop {
            self.comment();
            if self.bump().is_none() {
                return Self::broken(line, "expected =end, found the end of the file");
            }
            if self.next_is("=end") {
                self.comment();
                return Ok(());
            }
        }
    }

    fn statement(&mut self) -> Parsed<Option<Statement>> {
        let (line, inside) = (self.line, self.blocks.last().copied());
        self.operand = true;
        let start = self.at;
        let name = self.word();
        let mut statement = Statement { line, name, keys: Vec::new(), value: Value::Unread(CALL), inside };
        match statement.name.as_str() {
            "if" | "unless" | "case" | "while" | "until" | "for" | "begin" | "def" | "class" | "module" => {
                self.at = start;
                self.skip(Until::Statement)?;
                statement.value = Value::Unread(CONDITION);
                // What stands in it is reported with its own line.
                return Ok(Some(statement));
            }
            "else" | "elsif" | "when" | "in" | "rescue" | "ensure" | "then" | "do" | "end" => {
                self.at = start;
                self.skip(Until::Statement)?;
                return Ok(None);
            }
            "" => {
                self.skip(Until::Statement)?;
                statement.value = Value::Unread(COMPUTED);
                return Ok(Some(statement));
            }
            _ => {}
        }
        self.operand = false;
        while self.peek() == Some(b'[') {
            self.at += 1;
            self.space();
            let key = self.value(1)?;
            self.space();
            let closed = self.eat("]");
            match key {
                Value::Text(key) if closed => statement.keys.push(key),
                _ => {
                    if !closed {
                        self.skip(Until::Bracket(line))?;
                        self.eat("]");
                    }
                    self.operand = false;
                    self.skip(Until::Statement)?;
                    statement.value = Value::Unread(COMPUTED);
                    return Ok(Some(statement));
                }
            }
        }
        let spaced = matches!(self.peek(), Some(b' ' | b'\t'));
        self.blanks();
        let assigned = self.next_is("=") && !self.next_is("==") && !self.next_is("=~") && !self.next_is("=>");
        // `name 'value'` and `name('value')`: how GitLab's settings without brackets are set.
        let modified = ["if", "unless", "while", "until", "and", "or", "rescue"].iter().any(|word| self.next_is(word));
        let literal = !modified && self.peek().is_some_and(|byte| b"'\"[{:%<-".contains(&byte) || byte.is_ascii_alphanumeric());
        let called = !assigned && statement.keys.is_empty() && (self.peek() == Some(b'(') || spaced && literal);
        if assigned {
            self.at += 1;
            self.space();
            statement.value = self.value(0)?;
            if statement.keys.is_empty() {
                // To Ruby this is a variable of the file's own, and no setting.
                statement.value = Value::Unread("an assignment to a variable, which sets nothing in GitLab: there is no = in this setting");
            }
        } else if called {
            let bracket = self.eat("(");
            self.space_if(bracket);
            let value = self.value(usize::from(bracket))?;
            self.space_if(bracket);
            statement.value = match !bracket || self.eat(")") {
                true => value,
                false => {
                    self.skip(Until::Bracket(line))?;
                    self.eat(")");
                    Value::Unread(CALL)
                }
            };
        } else {
            self.operand = false;
            self.skip(Until::Statement)?;
            return Ok(Some(statement));
        }
        if let Some(why) = self.behind(Until::Statement)? {
            statement.value = Value::Unread(why);
        }
        Ok(Some(statement))
    }

    fn space_if(&mut self, many_lines: bool) {
        if many_lines { self.space() } else { self.blanks() }
    }

    /// What stands behind a value and makes another of it: skipped, with the reason.
    fn behind(&mut self, until: Until) -> Parsed<Option<&'static str>> {
        self.blanks();
        self.operand = false;
        let why = match self.peek() {
            None | Some(b'\n' | b';' | b'#') => return Ok(None),
            Some(b',' | b']' | b'}' | b')') if !matches!(until, Until::Statement) => return Ok(None),
            Some(b'=') if self.next_is("=>") && !matches!(until, Until::Statement) => return Ok(None),
            Some(b'.' | b'&') => CALL,
            Some(b'i' | b'u') if ["if ", "unless ", "if(", "unless(", "until "].iter().any(|word| self.next_is(word)) => CONDITION,
            Some(_) => COMPUTED,
        };
        self.skip(until)?;
        Ok(Some(why))
    }

    /// A literal; anything else is skipped to where the next value may begin.
    fn value(&mut self, depth: usize) -> Parsed<Value> {
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
                self.strings()?
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
            None if fraction => digits.parse::<f64>().ok().map(|_| written.clone()),
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
    fn quoted(&mut self, open: u8, close: u8, escapes: bool) -> Parsed<Option<String>> {
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
    fn percent(&mut self) -> Parsed<Option<Value>> {
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

    fn heredoc_starts(&self) -> bool {
        let name = |rest: &str| rest.starts_with(['"', '\'']) || rest.starts_with(|c: char| c.is_alphabetic() || c == '_');
        self.rest().strip_prefix("<<").is_some_and(|rest| name(rest.strip_prefix(['~', '-']).unwrap_or(rest)))
    }

    /// `<<~NAME` and its kin; its lines begin behind this one, or behind the heredoc before it.
    fn heredoc(&mut self) -> Parsed<Value> {
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

    /// Over what is not understood, and no further than `until`. Keeps the blocks that begin and end there.
    fn skip(&mut self, until: Until) -> Parsed<()> {
        let mut open: Vec<(u8, usize)> = Vec::new();
        // `while x do` has one end.
        let mut looped = false;
        let mut first = true;
        loop {
            let Some(byte) = self.peek() else {
                let unclosed = open.last().map(|(close, line)| (*close, *line));
                let (close, line) = match (unclosed, until) {
                    (Some(unclosed), _) => unclosed,
                    (None, Until::Statement) => return Ok(()),
                    (None, Until::Element(line) | Until::Bracket(line)) => (b']', line),
                };
                return Self::broken(
                    line,
                    format!("expected the {} that ends what begins here, found the end of the file", char::from(close)),
                );
            };
            let outside = open.is_empty();
            match byte {
                b'\n' | b';' if outside && matches!(until, Until::Statement) => {
                    // An operator at the end of a line goes on in the next.
                    if byte == b';' || first || !self.operand {
                        return Ok(());
                    }
                    self.bump();
                }
                b',' if outside && matches!(until, Until::Element(_)) => return Ok(()),
                b'=' if outside && matches!(until, Until::Element(_)) && self.next_is("=>") => return Ok(()),
                b']' | b'}' | b')' => {
                    match open.last() {
                        Some((close, _)) if *close == byte => _ = open.pop(),
                        Some((close, line)) => {
                            return Self::broken(
                                *line,
                                format!(
                                    "expected the {} that ends what begins here, found {} in line {}",
                                    char::from(*close),
                                    char::from(byte),
                                    self.line
                                ),
                            );
                        }
                        None if matches!(until, Until::Statement) => {
                            return Self::broken(self.line, format!("expected what {} ends, found nothing that is open", char::from(byte)));
                        }
                        None => return Ok(()),
                    }
                    self.at += 1;
                    self.operand = false;
                }
                b'[' | b'{' | b'(' => {
                    open.push((closing(byte), self.line));
                    self.at += 1;
                    self.parameters();
                    self.operand = true;
                }
                b' ' | b'\t' | b'\r' | b'\\' => {
                    let before = self.at;
                    self.blanks();
                    if self.at == before {
                        self.at += 1;
                    }
                    continue;
                }
                b'\n' => _ = self.bump(),
                b'#' => self.comment(),
                b'\'' | b'"' | b'`' => {
                    self.quoted(byte, byte, byte != b'\'')?;
                    self.operand = false;
                }
                b'<' if self.heredoc_starts() && (self.operand || self.argument()) => {
                    self.heredoc()?;
                    self.operand = false;
                }
                b'%' if self.operand || self.argument() && !self.rest()[1..].starts_with([' ', '=']) => {
                    if self.percent()?.is_none() {
                        self.at += 1;
                    }
                    self.operand = false;
                }
                b'/' if self.operand && !self.rest()[1..].starts_with([' ', '=']) => self.pattern(),
                b'?' if self.operand && self.rest().chars().nth(2).is_none_or(|c| !c.is_alphanumeric()) => {
                    self.at += 1;
                    self.bump();
                    self.operand = false;
                }
                b':' if self.rest()[1..].starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                    self.at += 1;
                    self.word();
                    self.operand = false;
                }
                byte if byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii() => self.skip_word(&mut looped)?,
                b'.' | b'@' | b'$' => {
                    self.at += 1;
                    // Behind a dot every word is a name: `range.end`.
                    self.word();
                    self.operand = false;
                }
                _ => {
                    self.bump();
                    self.operand = true;
                }
            }
            first = false;
        }
    }

    /// Whether what stands here is the argument of the word before it: a space before, none behind.
    fn argument(&self) -> bool {
        self.at > 0 && matches!(self.text.as_bytes()[self.at - 1], b' ' | b'\t')
    }

    /// `|name, name|` at the beginning of a block.
    fn parameters(&mut self) {
        self.blanks();
        if self.next_is("|") {
            let line = self.rest()[1..].split('\n').next().unwrap_or_default();
            self.at += line.find('|').map_or(1, |at| at + 2);
        }
    }

    fn pattern(&mut self) {
        let line = self.rest().split('\n').next().unwrap_or_default();
        let mut escaped = false;
        let end = line.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '/' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        self.at += end.map_or(1, |(at, _)| at + 1);
        self.operand = end.is_none();
    }

    fn skip_word(&mut self, looped: &mut bool) -> Parsed<()> {
        let beginning = self.operand;
        let word = self.word();
        if word.is_empty() {
            self.bump();
        }
        // `end?` is a name, and so is `end:`.
        if self.rest().starts_with(['?', '!']) && !self.rest().starts_with("!=") || self.next_is(":") && !self.next_is("::") {
            self.at += 1;
            self.operand = false;
            return Ok(());
        }
        self.operand = false;
        match word.as_str() {
            "if" | "unless" | "while" | "until" => {
                if beginning {
                    self.blocks.push(self.line);
                    *looped = matches!(word.as_str(), "while" | "until");
                }
                self.operand = true;
            }
            "for" => {
                self.blocks.push(self.line);
                *looped = true;
            }
            "case" | "begin" | "def" | "class" | "module" => {
                self.blocks.push(self.line);
                self.operand = word == "case";
            }
            "do" => {
                if !std::mem::take(looped) {
                    self.blocks.push(self.line);
                }
                self.parameters();
            }
            "end" if self.blocks.pop().is_none() => {
                return Self::broken(self.line, "expected what `end` ends, found nothing that is open");
            }
            "and" | "or" | "not" | "when" | "in" | "elsif" => self.operand = true,
            _ => {}
        }
        Ok(())
    }
}

/// Where to stop.
#[derive(Clone, Copy)]
enum Until {
    /// At the end of the statement.
    Statement,
    /// At the end of an element of the array or hash that began in this line.
    Element(usize),
    /// At the bracket that closes what began in this line.
    Bracket(usize),
}

fn closing(open: u8) -> u8 {
    match open {
        b'(' => b')',
        b'[' => b']',
        b'{' => b'}',
        b'<' => b'>',
        other => other,
    }
}

#[cfg(test)]
mod tests;
