use std::{env, fmt, fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use super::error::CookieError;

/// The secret that all nodes of a cluster share; a node that does not know it is not let in.
///
/// It is never sent: each side proves that it knows it. It does not encrypt anything; that is what TLS is for. Make one with
/// `head -c 32 /dev/urandom | base64`.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie(Arc<str>);

impl Cookie {
    /// The shortest cookie: 16 bytes, so that it is not found by trying.
    pub const BYTES_MIN: usize = 16;

    /// The longest cookie.
    pub const BYTES_MAX: usize = 1024;

    /// A cookie from text; white space around it does not count.
    ///
    /// # Errors
    ///
    /// [`CookieError::Length`].
    pub fn new(text: impl AsRef<str>) -> Result<Self, CookieError> {
        let text = text.as_ref().trim();
        if !(Self::BYTES_MIN..=Self::BYTES_MAX).contains(&text.len()) {
            return Err(CookieError::Length { given: text.len() });
        }
        Ok(Self(text.into()))
    }

    /// The cookie in a file that nobody but its owner can read. Blocks the thread.
    ///
    /// # Errors
    ///
    /// [`CookieError::File`], [`CookieError::Readable`] when others can read it, [`CookieError::Length`].
    pub fn from_file(file: impl AsRef<Path>) -> Result<Self, CookieError> {
        let file = file.as_ref();
        let unreadable = |source| CookieError::File {
            file: file.to_owned(),
            source,
        };
        let mode = fs::metadata(file).map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(CookieError::Readable {
                file: file.to_owned(),
                mode,
            });
        }
        Self::new(fs::read_to_string(file).map_err(unreadable)?)
    }

    /// The cookie in an environment variable.
    ///
    /// # Errors
    ///
    /// [`CookieError::Variable`] when it is not set or not UTF-8, [`CookieError::Length`].
    pub fn from_env(variable: &str) -> Result<Self, CookieError> {
        match env::var(variable) {
            Ok(text) => Self::new(text),
            Err(_) => Err(CookieError::Variable {
                variable: variable.to_owned(),
            }),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Cookie {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_long_enough_and_never_shown() {
        assert!(matches!(
            Cookie::new("short  "),
            Err(CookieError::Length { given: 5 })
        ));
        assert!(Cookie::new("x".repeat(1025)).is_err());
        let cookie = Cookie::new("  sixteen bytes ok\n").expect("long enough");
        assert_eq!(cookie.bytes(), b"sixteen bytes ok");
        assert_eq!(format!("{cookie:?}"), "Cookie(..)");
    }

    #[test]
    fn a_file_that_others_can_read_is_no_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("cookie");
        fs::write(&file, "a cookie of some length\n").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
        let refused = Cookie::from_file(&file).expect_err("others can read it");
        assert!(refused.to_string().contains("chmod 600"), "{refused}");

        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
        assert!(Cookie::from_file(&file).is_ok());
        assert!(matches!(
            Cookie::from_file("/nowhere"),
            Err(CookieError::File { .. })
        ));
    }
}
