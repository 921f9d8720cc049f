//! The Ruby that people write into `gitlab.rb`: settings and literal values. Nothing is run.
//!
//! Read are comments, strings with their escapes, heredocs, symbols, numbers, `true`, `false`, `nil`, arrays and hashes, over as many
//! lines as they take. Everything else (calls, interpolation, operators) is an [`Value::Unread`] with the reason, and what stands inside
//! of a conditional or a block carries the line of that. The grammar is that of Ruby 3.2's `doc/syntax/literals.rdoc`.
//!
//! One pass, no backtracking: 10 MB take as long as ten times 1 MB.

mod literals;
mod skip;

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
