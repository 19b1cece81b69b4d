//! Who may talk to the node: requests that name this machine. Pure.
//!
//! A browser on the same machine is outside: a page from anywhere may make it send requests to 127.0.0.1. Such a request
//! carries the page's own name in `Host` (after a DNS change, "rebinding") or in `Origin`, and is refused by that. Of a picture, a script
//! or a link of such a page a browser names no origin, but says that it is of another site (Fetch Metadata, `Sec-Fetch-Site`).

use std::net::{IpAddr, SocketAddr};

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Outside {
    #[error("the request names the host {0:?}; use localhost, 127.0.0.1 or [::1]")]
    Host(String),
    #[error(
        "the request comes from a page of {0:?}; only pages of this node may use its interface"
    )]
    Origin(String),
    #[error(
        "the request comes from a page of another site ({0}); only pages of this node may use its interface"
    )]
    Site(String),
    #[error("the request names its host, its origin or its site more than once; name each once")]
    Ambiguous,
}

/// What a request says of who sent it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sender<'a> {
    pub(super) host: Option<&'a str>,
    pub(super) origin: Option<&'a str>,
    /// `Sec-Fetch-Site`: browsers send it, and no page can.
    pub(super) site: Option<&'a str>,
    /// Somebody goes to the node's own page, maybe by a link from elsewhere. That shows nothing to where the link stands.
    pub(super) goes_to_the_page: bool,
}

/// Whether an address is one that only this machine can reach.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Checks the names that a request carries.
pub(super) fn check(sender: Sender<'_>) -> Result<(), Outside> {
    let host = sender.host.unwrap_or_default();
    if !names_this_machine(host) {
        return Err(Outside::Host(host.to_owned()));
    }
    match sender.site {
        None | Some("same-origin" | "none") => {}
        Some(_) if sender.goes_to_the_page => {}
        Some(site) => return Err(Outside::Site(site.to_owned())),
    }
    match sender.origin {
        None => Ok(()),
        Some(origin) => match origin.strip_prefix("http://") {
            // The page's own name, port included, must be the one that the request was sent to.
            Some(page) if page == host => Ok(()),
            _ => Err(Outside::Origin(origin.to_owned())),
        },
    }
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if port.is_empty() || port.starts_with(':') => name,
            _ => return false,
        },
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let address: Option<IpAddr> = name.parse().ok();
    name.eq_ignore_ascii_case("localhost")
        || address.is_some_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_host(host: Option<&str>) -> Result<(), Outside> {
        check(Sender {
            host,
            ..Sender::default()
        })
    }

    #[test]
    fn names_of_this_machine_are_let_in() {
        for host in [
            "127.0.0.1:4610",
            "127.0.0.1",
            "127.9.9.9:1",
            "localhost:4610",
            "LOCALHOST",
            "localhost.",
            "[::1]:4610",
            "[::1]",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert_eq!(check_host(Some(host)), Ok(()), "{host}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        for host in [
            "",
            "example.com",
            "127.0.0.1.example.com:4610",
            "localhost.example.com",
            "192.168.0.7:4610",
            "0.0.0.0:4610",
            "[::]:4610",
            "[::1].example.com",
            "[::1",
            ":4610",
        ] {
            assert!(check_host(Some(host)).is_err(), "{host}");
        }
        assert!(check_host(None).is_err());
    }

    #[test]
    fn only_a_page_of_the_node_itself_may_ask() {
        let from = |origin| {
            check(Sender {
                host: Some("127.0.0.1:4610"),
                origin: Some(origin),
                ..Sender::default()
            })
        };
        assert_eq!(from("http://127.0.0.1:4610"), Ok(()));
        for origin in [
            "http://127.0.0.1:8080",
            "http://localhost:4610",
            "https://127.0.0.1:4610",
            "http://example.com",
            "null",
        ] {
            assert!(from(origin).is_err(), "{origin}");
        }
    }

    #[test]
    fn what_a_page_of_another_site_has_fetched_is_refused_and_a_link_to_the_page_is_not() {
        for (site, goes_to_the_page, is_let_in) in [
            ("same-origin", false, true),
            ("none", false, true),
            ("same-site", false, false),
            ("cross-site", false, false),
            ("?", false, false),
            ("cross-site", true, true),
        ] {
            let sender = Sender {
                host: Some("127.0.0.1:4610"),
                site: Some(site),
                goes_to_the_page,
                ..Sender::default()
            };
            assert_eq!(check(sender).is_ok(), is_let_in, "{sender:?}");
        }
    }

    #[test]
    fn only_loopback_addresses_are_listened_on() {
        for (address, loopback) in [
            ("127.0.0.1:0", true),
            ("127.1.2.3:80", true),
            ("[::1]:80", true),
            ("0.0.0.0:80", false),
            ("192.168.1.1:80", false),
            ("[::]:80", false),
        ] {
            let address = address.parse().expect("test address is valid");
            assert_eq!(is_loopback(address), loopback, "{address}");
        }
    }
}
