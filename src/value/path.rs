use std::{borrow::Cow, fmt, iter::FusedIterator, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{PathFault, ValueError};

/// Stands between two components. No component holds it, as it is a control character, and it sorts before all that they hold: so
/// paths sort by their components, and what stands inside another path comes right after it.
const BETWEEN: char = '\0';
/// For how long a text room is made in advance: most paths are shorter.
const DRAFT_BYTES: usize = 128;

/// Where something stands inside a value: names of maps, outermost first. Checked; a clone costs a counter.
///
/// Written with dots: `http.port`. A component that itself holds a dot, a quote or a backslash stands in double quotes, in which a
/// backslash stands before a quote or a backslash: `fields."http.status"`. What [`fmt::Display`] prints, [`Path::parse`] reads back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(Arc<str>);

/// What is left of a path.
#[derive(Clone)]
pub(crate) struct Components<'a>(Option<&'a str>);

/// A path that is being put together.
#[derive(Default)]
struct Draft {
    text: String,
    len: usize,
}

impl Path {
    /// The most components. Configuration is 20 deep and event data 64; beyond 50 nobody addresses a part by hand.
    pub const COMPONENTS_MAX: usize = 50;
    /// The longest component, in bytes.
    pub const COMPONENT_BYTES_MAX: usize = 128;

    /// The path of the whole value: no components. Printed as nothing.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads a path of 1 to [`Path::COMPONENTS_MAX`] components.
    ///
    /// # Errors
    ///
    /// [`ValueError::Path`], which says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        read(Draft::default(), text).map_err(|fault| refuse(text, fault))
    }

    /// As [`Path::parse`] and [`Path::join`], in one go.
    pub(crate) fn parse_within(&self, text: &str) -> Result<Self, ValueError> {
        let mut draft = Draft {
            text: String::with_capacity(self.0.len() + 1 + text.len().min(DRAFT_BYTES)),
            len: self.len(),
        };
        draft.text.push_str(&self.0);
        read(draft, text).map_err(|fault| refuse(text, fault))
    }

    /// A path of these components, each taken as it is, dots included.
    ///
    /// # Errors
    ///
    /// [`ValueError::Path`] for none or more than [`Path::COMPONENTS_MAX`] components, one that is empty or longer than
    /// [`Path::COMPONENT_BYTES_MAX`], or a control character.
    pub fn from_components<'a>(
        components: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ValueError> {
        let components: Vec<&str> = components
            .into_iter()
            .take(Self::COMPONENTS_MAX + 1)
            .collect();
        let mut draft = Draft::default();
        let added = components.iter().try_for_each(|name| draft.add(name));
        added
            .and_then(|()| draft.finish())
            .map_err(|fault| refuse(&components.join("."), fault))
    }

    /// The path one component further in.
    ///
    /// # Errors
    ///
    /// As [`Path::from_components`].
    pub fn child(&self, name: &str) -> Result<Self, ValueError> {
        let refused = |fault| refuse(&format!("{self}.{name}"), fault);
        if self.len() == Self::COMPONENTS_MAX {
            return Err(refused(PathFault::TooMany));
        }
        check(name).map_err(refused)?;
        Ok(self.followed_by(name))
    }

    /// The path that stands at `inner` within what stands here.
    ///
    /// # Errors
    ///
    /// [`ValueError::Path`] for more than [`Path::COMPONENTS_MAX`] components.
    pub fn join(&self, inner: &Self) -> Result<Self, ValueError> {
        if self.len() + inner.len() > Self::COMPONENTS_MAX {
            return Err(refuse(&format!("{self}.{inner}"), PathFault::TooMany));
        }
        if inner.is_empty() {
            return Ok(self.clone());
        }
        Ok(self.followed_by(&inner.0))
    }

    /// The path one component further out; none above the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.len().checked_sub(1).map(|len| self.prefix(len))
    }

    /// The components, outermost first.
    #[must_use = "an iterator does nothing until asked"]
    pub fn components(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator + Clone {
        self.parts()
    }

    /// The components, as what is left of the path.
    pub(crate) fn parts(&self) -> Components<'_> {
        Components((!self.is_empty()).then_some(&self.0))
    }

    /// How many components there are; 0 for the root.
    #[must_use]
    pub fn len(&self) -> usize {
        self.components().len()
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `self` is `prefix` or stands inside it, by whole components. Everything stands inside the root.
    #[must_use]
    pub fn starts_with(&self, prefix: &Self) -> bool {
        self.parts().start_with(prefix)
    }

    /// The first `len` components.
    pub(super) fn prefix(&self, len: usize) -> Self {
        let mut ends = self.0.match_indices(BETWEEN).map(|(at, _)| at);
        match len.checked_sub(1) {
            None => Self::root(),
            Some(last) => match ends.nth(last) {
                None => self.clone(),
                Some(end) => Self(self.0[..end].into()),
            },
        }
    }

    fn followed_by(&self, inner: &str) -> Self {
        if self.is_empty() {
            return Self(inner.into());
        }
        let mut text = String::with_capacity(self.0.len() + 1 + inner.len());
        text.push_str(&self.0);
        text.push(BETWEEN);
        text.push_str(inner);
        Self(text.into())
    }
}

impl Components<'_> {
    /// Whether nothing is left.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.0.is_none()
    }

    /// What is left after `name`, where that is the next component. Its length mostly tells that it is not.
    #[inline]
    pub(super) fn after(&self, name: &str) -> Option<Self> {
        let left = self.0?;
        let rest = match left.as_bytes().get(name.len()) {
            None if left.len() == name.len() => None,
            Some(&byte) if byte == BETWEEN as u8 => Some(&left[name.len() + 1..]),
            _ => return None,
        };
        is_component(name.as_bytes(), &left.as_bytes()[..name.len()]).then_some(Self(rest))
    }

    /// Whether what is left is `prefix` or stands inside it.
    pub(crate) fn start_with(&self, prefix: &Path) -> bool {
        let rest = self.0.unwrap_or_default().strip_prefix(&*prefix.0);
        rest.is_some_and(|rest| rest.is_empty() || prefix.is_empty() || rest.starts_with(BETWEEN))
    }
}

impl<'a> Iterator for Components<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let left = self.0?;
        // A loop over some bytes is faster than a search that is made for long texts.
        let end = left.bytes().position(|byte| byte == BETWEEN as u8);
        self.0 = end.map(|end| &left[end + 1..]);
        Some(&left[..end.unwrap_or(left.len())])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let between = |left: &str| left.bytes().filter(|byte| *byte == BETWEEN as u8).count();
        let len = self.0.map_or(0, |left| between(left) + 1);
        (len, Some(len))
    }
}

impl DoubleEndedIterator for Components<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let left = self.0?;
        let Some((left, last)) = left.rsplit_once(BETWEEN) else {
            self.0 = None;
            return Some(left);
        };
        self.0 = Some(left);
        Some(last)
    }
}

impl ExactSizeIterator for Components<'_> {}
impl FusedIterator for Components<'_> {}

/// Whether `name` is the same as a part of a path of its length, and that part one component. Most names are short: to call what
/// compares long ones would cost more than to compare their two ends, which overlap, as numbers.
#[inline]
fn is_component(name: &[u8], part: &[u8]) -> bool {
    if let (Some(name), Some(part)) = (four_to_eight(name), four_to_eight(part)) {
        return name == part && !holds_between(part);
    }
    name == part && !part.contains(&(BETWEEN as u8))
}

/// The first four and the last four of so many bytes.
#[inline]
fn four_to_eight(text: &[u8]) -> Option<u64> {
    let (first, last) = (text.first_chunk()?, text.last_chunk()?);
    let both =
        || u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last));
    (text.len() <= 8).then(both)
}

/// Whether one of the eight bytes is [`BETWEEN`], that is 0.
#[inline]
fn holds_between(bytes: u64) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    bytes.wrapping_sub(ONES) & !bytes & (ONES << 7) != 0
}

impl Draft {
    fn add(&mut self, component: &str) -> Result<(), PathFault> {
        if self.len == Path::COMPONENTS_MAX {
            return Err(PathFault::TooMany);
        }
        check(component)?;
        self.push(component);
        Ok(())
    }

    /// As [`Draft::add`], of what is known to hold nothing but [`PLAIN`] bytes.
    fn add_plain(&mut self, component: &str) -> Result<(), PathFault> {
        if self.len == Path::COMPONENTS_MAX {
            return Err(PathFault::TooMany);
        }
        check_length(component)?;
        self.push(component);
        Ok(())
    }

    fn push(&mut self, component: &str) {
        if self.len > 0 {
            self.text.push(BETWEEN);
        }
        self.text.push_str(component);
        self.len += 1;
    }

    fn finish(self) -> Result<Path, PathFault> {
        if self.len == 0 {
            return Err(PathFault::Empty);
        }
        Ok(Path(self.text.into()))
    }
}

impl FromStr for Path {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::parse(text)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.components()).finish()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, component) in self.components().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            if component.contains(['.', '"', '\\']) {
                write!(
                    f,
                    "\"{}\"",
                    component.replace('\\', "\\\\").replace('"', "\\\"")
                )?;
            } else {
                f.write_str(component)?;
            }
        }
        Ok(())
    }
}

impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The root is written as empty text, and only here read back from it.
impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::root());
        }
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// Bytes that need no second look in a path: what can be printed, but what parts and quotes.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        plain[byte as usize] = !matches!(byte, b'.' | b'"' | b'\\');
        byte += 1;
    }
    plain
};

fn check(component: &str) -> Result<(), PathFault> {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
    check_length(component)?;
    match component {
        _ if component.bytes().all(is_plain) => Ok(()),
        _ if component.contains(char::is_control) => Err(PathFault::Control),
        _ => Ok(()),
    }
}

fn check_length(component: &str) -> Result<(), PathFault> {
    match component.len() {
        0 => Err(PathFault::EmptyComponent),
        1..=Path::COMPONENT_BYTES_MAX => Ok(()),
        _ => Err(PathFault::LongComponent),
    }
}

/// Splits at the dots that stand outside quotes. Stops one component after the limit, however long the text.
fn read(mut draft: Draft, text: &str) -> Result<Path, PathFault> {
    if text.is_empty() {
        return Err(PathFault::Empty);
    }
    draft.text.reserve(text.len().min(DRAFT_BYTES));
    let mut rest = text;
    loop {
        // The usual component takes one look at each byte.
        let plain = rest.bytes().position(|byte| !PLAIN[usize::from(byte)]);
        let (component, after) = rest.split_at(plain.unwrap_or(rest.len()));
        if after.is_empty() || after.starts_with('.') {
            draft.add_plain(component)?;
            match after.get(1..) {
                Some(next) => rest = next,
                None => return draft.finish(),
            }
            continue;
        }
        let (component, after) = match rest.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted)?,
            None => take_bare(rest)?,
        };
        draft.add(&component)?;
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => return draft.finish(),
            None => return Err(PathFault::Quote),
        }
    }
}

fn take_bare(text: &str) -> Result<(Cow<'_, str>, &str), PathFault> {
    let is_end = |byte| matches!(byte, b'.' | b'"' | b'\\');
    let end = text.bytes().position(is_end).unwrap_or(text.len());
    let (bare, after) = text.split_at(end);
    if after.starts_with(['"', '\\']) {
        return Err(PathFault::Quote);
    }
    Ok((Cow::Borrowed(bare), after))
}

/// Takes a quoted component, of which the opening quote has been read.
fn take_quoted(text: &str) -> Result<(Cow<'_, str>, &str), PathFault> {
    let mut component = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Ok((Cow::Owned(component), &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, escaped @ ('"' | '\\'))) => component.push(escaped),
                _ => return Err(PathFault::Quote),
            },
            plain => component.push(plain),
        }
    }
    Err(PathFault::Quote)
}

fn refuse(path: &str, fault: PathFault) -> ValueError {
    const SHOWN_CHARS_MAX: usize = 200;
    ValueError::Path {
        path: path.chars().take(SHOWN_CHARS_MAX).collect(),
        fault,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn fault(text: &str) -> PathFault {
        match Path::parse(text) {
            Err(ValueError::Path { fault, .. }) => fault,
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn dots_part_and_quotes_hold_together() {
        let path = Path::parse(r#"fields."http.status".x"#).expect("a valid path");
        assert_eq!(
            path.components().collect::<Vec<_>>(),
            ["fields", "http.status", "x"]
        );
        assert_eq!(path.to_string(), r#"fields."http.status".x"#);
    }

    #[test]
    fn every_malformed_path_says_what_is_wrong() {
        assert_eq!(fault(""), PathFault::Empty);
        for text in [".", "a.", ".a", "a..b", "\"\""] {
            assert_eq!(fault(text), PathFault::EmptyComponent, "{text}");
        }
        for text in ["\"", "\"a", "\"a\"b", "a\"b\"", "\"a\\x\"", "\"a\\"] {
            assert_eq!(fault(text), PathFault::Quote, "{text}");
        }
        assert_eq!(fault("a\nb"), PathFault::Control);
        assert_eq!(fault(&"a.".repeat(1_000_000)), PathFault::TooMany);
    }

    #[test]
    fn limits_hold_to_the_component_and_to_the_byte() {
        assert_eq!(
            Path::parse(&["a"; 50].join(".")).map(|path| path.len()),
            Ok(50)
        );
        assert_eq!(fault(&["a"; 51].join(".")), PathFault::TooMany);
        assert!(Path::parse(&"x".repeat(128)).is_ok());
        assert_eq!(fault(&"x".repeat(129)), PathFault::LongComponent);
        assert!(Path::from_components(std::iter::repeat("a")).is_err());
        assert!(Path::from_components([]).is_err());
    }

    #[test]
    fn prefixes_go_by_whole_components() {
        let path = |text| Path::parse(text).expect("test path is valid");
        assert!(path("http.port").starts_with(&path("http")));
        assert!(path("http").starts_with(&Path::root()));
        assert!(!path("https.port").starts_with(&path("http")));
        assert!(!path("http").starts_with(&path("http.port")));
        assert_eq!(path("http").child("port"), Ok(path("http.port")));
        assert_eq!(path("http.port").parent(), Some(path("http")));
        assert_eq!(Path::root().parent(), None);
    }

    #[test]
    fn serde_carries_the_root_as_nothing() {
        assert_eq!(
            serde_json::to_string(&Path::root()).ok().as_deref(),
            Some("\"\"")
        );
        assert_eq!(
            serde_json::from_str::<Path>("\"\"").ok(),
            Some(Path::root())
        );
        assert!(serde_json::from_str::<Path>("\"a..b\"").is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(names in vec(r#"[a."\\é]{1,5}|\PC{1,9}"#, 1..6)) {
            let path = Path::from_components(names.iter().map(String::as_str)).expect("printable names");
            prop_assert_eq!(Path::parse(&path.to_string()), Ok(path));
        }

        #[test]
        fn a_path_is_a_list_of_names(
            names in vec(r#"[a."\\é ]{1,2}"#, 0..4),
            others in vec(r#"[a."\\é ]{1,2}"#, 0..4),
        ) {
            fn of(names: &[String]) -> Path {
                let path = Path::from_components(names.iter().map(String::as_str));
                path.unwrap_or_default() // no names are the root
            }
            let (path, other) = (of(&names), of(&others));

            prop_assert_eq!(path.cmp(&other), names.cmp(&others));
            prop_assert_eq!(path.starts_with(&other), names.starts_with(&others));
            prop_assert_eq!(path.join(&other), Ok(of(&[&*names, &*others].concat())));
            prop_assert_eq!(path.len(), names.len());
            prop_assert!(path.components().eq(names.iter().map(String::as_str)));
            prop_assert!(path.components().rev().eq(names.iter().rev().map(String::as_str)));
            prop_assert_eq!(path.parent(), names.split_last().map(|(_, above)| of(above)));
            let text = other.to_string();
            if !text.is_empty() {
                prop_assert_eq!(path.parse_within(&text), path.join(&other));
            }
            for len in 0..=names.len() {
                prop_assert_eq!(path.prefix(len), of(&names[..len]));
            }
        }

        #[test]
        fn any_text_is_a_path_or_an_error(text in r#"[a."\\]{0,12}|.*"#) {
            if let Ok(path) = Path::parse(&text) {
                prop_assert_eq!(Path::parse(&path.to_string()), Ok(path));
            }
        }
    }
}
