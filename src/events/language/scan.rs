//! From a text to its fields, operators and values.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::{
    super::Operator,
    MISSING,
    literal::{Form, Literal},
    misread::{Fault, clip},
};

/// Goes through a text.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

/// The first place outside of quotes where a character is as asked.
pub(super) fn first_outside_quotes(text: &str, is: impl Fn(char) -> bool) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.find(|c: char| {
        if quoted {
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            return false;
        }
        quoted = c == '"';
        is(c)
    })
}

/// Whether an operator may begin so.
pub(super) fn begins_operator(c: char) -> bool {
    "=<>!".contains(c)
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// The next field; its quoted parts may hold anything.
    pub(super) fn name(&mut self) -> Option<(&'a str, Range<usize>)> {
        self.skip_spaces();
        let (start, rest) = (self.at, self.rest());
        let end = first_outside_quotes(rest, |c| c.is_whitespace() || begins_operator(c));
        self.at = start + end.unwrap_or(rest.len());
        (!rest.is_empty()).then(|| (&self.text[start..self.at], start..self.at))
    }

    pub(super) fn operator(&mut self, name: &Range<usize>) -> Result<Operator, Fault> {
        self.skip_spaces();
        let Some(operator) = Operator::at_start_of(self.rest()) else {
            let field = &self.text[name.clone()];
            let why = if field.is_empty() {
                "here a field must stand, as in kind=order.paid".into()
            } else {
                // As other languages write it: `kind:order.paid`.
                let (name, value) = field.split_once([':', '~']).unwrap_or((field, "…"));
                format!(
                    "`{}` needs an operator and a value, as in {}={}",
                    clip(field),
                    clip(name),
                    clip(value)
                )
            };
            return Err((name.clone(), why));
        };
        if name.is_empty() {
            let place = self.at..self.at + operator.as_str().len();
            return Err((
                place,
                "a field must stand before this, as in kind=order.paid".into(),
            ));
        }
        self.at += operator.as_str().len();
        Ok(operator)
    }

    pub(super) fn value(&mut self) -> Result<(Literal<'a>, Range<usize>), Fault> {
        self.skip_spaces();
        let (start, rest) = (self.at, self.rest());
        match rest.chars().next() {
            None => Err((start..start, MISSING.into())),
            Some('"') => self.quoted(),
            // It would be taken for text with quotes around it, and nothing be found.
            Some('\'') => {
                let why = "text stands in double quotes, as in source=\"till 1\"";
                Err((start..start + 1, why.into()))
            }
            Some('=' | '<' | '>' | '!') => {
                let why = "here a value must stand, behind one of =, !=, <, <=, > and >=; put it in quotes if it begins so";
                Err((start..start + 1, why.into()))
            }
            Some('{' | '[') => {
                let json = self.json("this is not JSON")?;
                self.ends_here()?;
                let place = start..self.at;
                Ok((
                    Literal {
                        text: json.into(),
                        form: Form::Json,
                    },
                    place,
                ))
            }
            Some(_) => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                self.at += end;
                let literal = Literal {
                    text: rest[..end].into(),
                    form: Form::Bare,
                };
                Ok((literal, start..self.at))
            }
        }
    }

    fn quoted(&mut self) -> Result<(Literal<'a>, Range<usize>), Fault> {
        let start = self.at;
        let json = self.json("this text is not written as JSON writes text, or has no end")?;
        let text: String = serde_json::from_str(json)
            .map_err(|error| (start..self.at, format!("this text cannot be read: {error}")))?;
        let mut form = Form::Quoted;
        if self.rest().starts_with('*') {
            self.at += 1;
            form = Form::QuotedStar;
        }
        self.ends_here()?;
        let literal = Literal {
            text: text.into(),
            form,
        };
        Ok((literal, start..self.at))
    }

    /// Whether nothing follows a value without a space.
    fn ends_here(&self) -> Result<(), Fault> {
        let after = self.rest().chars().next();
        match after.filter(|next| !next.is_whitespace()) {
            None => Ok(()),
            Some(next) => {
                let place = self.at..self.at + next.len_utf8();
                let why = "a space must stand between a value and what follows";
                Err((place, why.into()))
            }
        }
    }

    /// One JSON value.
    fn json(&mut self, refusal: &str) -> Result<&'a str, Fault> {
        let rest = self.rest();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                let end = values.byte_offset();
                self.at += end;
                Ok(&rest[..end])
            }
            _ => Err((self.at..self.text.len(), refusal.into())),
        }
    }
}
