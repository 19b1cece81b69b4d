//! Values as they are written, and what they say.

use std::{borrow::Cow, fmt};

use crate::{
    ids::NodeId,
    value::{Limits, Value},
};

use super::super::{KIND_BYTES_MAX, SOURCE_BYTES_MAX, filter::KindFilter};

/// A value as it is written.
#[derive(Debug)]
pub(super) struct Literal<'a> {
    /// Without quotes and escapes.
    pub(super) text: Cow<'a, str>,
    pub(super) form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Bare,
    Quoted,
    /// Text in quotes with a star behind it.
    QuotedStar,
    /// A list or map.
    Json,
}

impl Literal<'_> {
    /// The text, for fields that know no prefixes and no JSON.
    pub(super) fn plain(&self) -> Result<&str, String> {
        match self.form {
            Form::Bare | Form::Quoted => Ok(&self.text),
            Form::QuotedStar => Err("only a kind may end in `*`".into()),
            Form::Json => Err("only data is compared with lists and maps".into()),
        }
    }

    pub(super) fn kind(&self) -> Result<KindFilter, String> {
        let (text, starred) = match self.form {
            Form::Json => (self.plain()?, false),
            Form::Quoted => (&*self.text, false),
            Form::QuotedStar => (&*self.text, true),
            Form::Bare => match self.text.strip_suffix('*') {
                Some(prefix) => (prefix, true),
                None => (&*self.text, false),
            },
        };
        if self.form == Form::Bare && text.contains('*') {
            let why = "a `*` stands at the end of a kind only; in quotes it is itself, as in kind=\"a*b\"";
            return Err(why.into());
        }
        match text.len() {
            0 if !starred => Err("a kind is not empty; leave it out for every kind".into()),
            0..=KIND_BYTES_MAX if starred => Ok(KindFilter::Prefix(text.into())),
            0..=KIND_BYTES_MAX => Ok(KindFilter::Exact(text.into())),
            bytes => Err(format!(
                "the kind has {bytes} bytes; kinds have 1 to {KIND_BYTES_MAX}"
            )),
        }
    }

    /// The value that data is compared with.
    pub(super) fn any(&self) -> Result<Value, String> {
        match self.form {
            Form::Quoted => Ok((&*self.text).into()),
            Form::QuotedStar => self.plain().map(Value::from),
            Form::Json => Value::from_json(&*self.text, Limits::DEFAULT).map_err(|e| e.to_string()),
            Form::Bare => Ok(scalar(&self.text)),
        }
    }
}

/// As JSON writes it. `inf`, `+5`, `007` and what is beyond all numbers are text, and so is an option with quotes or spaces around it.
fn scalar(text: &str) -> Value {
    let may_be = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let read = text
        .chars()
        .all(may_be)
        .then(|| Value::from_json(text, Limits::DEFAULT));
    match read {
        Some(Ok(value)) => value,
        _ => text.into(),
    }
}

pub(super) fn read<T, E: fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

pub(super) fn source(text: &str) -> Result<&str, String> {
    match text.len() {
        0..=SOURCE_BYTES_MAX => Ok(text),
        bytes => Err(format!(
            "the source has {bytes} bytes; sources have at most {SOURCE_BYTES_MAX}"
        )),
    }
}

pub(super) fn number(text: &str) -> Result<usize, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| "that is not a number; give one, as in limit=100".into())
}

pub(super) fn node(text: &str) -> Result<NodeId, String> {
    let number = number(text).ok().and_then(|node| u16::try_from(node).ok());
    let node = number.and_then(|node| NodeId::new(node).ok());
    node.ok_or_else(|| format!("that is no node; give a number from 0 to {}", NodeId::MAX))
}
