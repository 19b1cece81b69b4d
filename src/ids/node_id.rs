use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{IdError, error::shown, random};

/// A node's number in the ids it makes: 0 to [`NodeId::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u16);

/// A node's name for people: 1 to [`NodeName::BYTES_MAX`] letters, digits, `-`, `_` or `.`, with a letter or digit first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

impl NodeId {
    /// The largest node id: ids have 10 bits for it.
    pub const MAX: u16 = 1023;

    /// Checks and wraps a node id.
    ///
    /// # Errors
    ///
    /// [`IdError::NodeId`] above [`NodeId::MAX`].
    pub fn new(id: u16) -> Result<Self, IdError> {
        if id > Self::MAX {
            return Err(IdError::NodeId { given: id.into() });
        }
        Ok(Self(id))
    }

    /// Draws one at random. Of 1024 nodes that draw, some draw the same; configure larger fleets.
    #[must_use]
    pub fn random() -> Self {
        let [bits, _] = random::bits();
        Self::from_low_bits(bits)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked to 10 bits")]
    pub(super) fn from_low_bits(bits: u64) -> Self {
        Self((bits & u64::from(Self::MAX)) as u16)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.0)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u16::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl NodeName {
    /// The longest name, in bytes: that of a DNS label (RFC 1035, section 2.3.4), so that a host name's first part always fits.
    pub const BYTES_MAX: usize = 63;

    /// Checks and wraps a name.
    ///
    /// # Errors
    ///
    /// [`IdError::NodeName`].
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, IdError> {
        let name = name.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let first = name.bytes().next();
        if name.len() > Self::BYTES_MAX
            || !first.is_some_and(|byte| byte.is_ascii_alphanumeric())
            || !name.bytes().all(allowed)
        {
            return Err(IdError::NodeName {
                given: shown(&name),
            });
        }
        Ok(Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeName {
    type Err = IdError;

    fn from_str(name: &str) -> Result<Self, IdError> {
        Self::new(name)
    }
}

impl Serialize for NodeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_have_ten_bits() {
        assert_eq!(NodeId::new(1023).map(NodeId::get), Ok(1023));
        assert_eq!(NodeId::new(1024), Err(IdError::NodeId { given: 1024 }));
        assert!(serde_json::from_str::<NodeId>("1024").is_err());
    }

    #[test]
    fn drawn_node_ids_differ() {
        let drawn: std::collections::HashSet<_> = (0..1000).map(|_| NodeId::random()).collect();
        assert!(drawn.len() > 500, "{} of 1000 are distinct", drawn.len());
    }

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "node-1", "7", "db_2.example.org", &"x".repeat(63)] {
            assert_eq!(
                NodeName::new(good).map(|name| name.to_string()),
                Ok(good.to_owned())
            );
        }
        for bad in [
            "",
            "-a",
            ".",
            "a b",
            "a/b",
            "knoten-ä",
            "a\n",
            &"x".repeat(64),
        ] {
            assert!(NodeName::new(bad).is_err(), "{bad:?}");
        }
    }
}
