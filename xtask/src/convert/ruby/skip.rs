//! The way over what is not understood: as much of Ruby as it takes to find the end of it.

use super::{Parsed, Parser, Until, closing};

impl Parser<'_> {
    /// Over what is not understood, and no further than `until`. Keeps the blocks that begin and end there.
    pub(super) fn skip(&mut self, until: Until) -> Parsed<()> {
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
    pub(super) fn parameters(&mut self) {
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
