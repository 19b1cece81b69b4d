//! Certificates.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpListener};
use underpin::{
    cluster::{ClusterOptions, ConnectError, MemberEvent, Tls},
    testing::{PATIENCE, eventually},
};

use super::support::{Ask, Counter, TestNode, Told, name, options};

/// An authority, and the files of the nodes that it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("random");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signed").pem();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// Writes what a node needs that is dialled at 127.0.0.1.
    fn sign(&self, folder: &Path) {
        self.sign_until(folder, 4000);
    }

    /// The same, good until a year begins.
    fn sign_until(&self, folder: &Path, year: i32) {
        let key = KeyPair::generate().expect("random");
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        fs::write(folder.join("cert"), certificate.pem()).expect("written");
        fs::write(folder.join("key"), key.serialize_pem()).expect("written");
        fs::write(folder.join("ca"), &self.certificate).expect("written");
    }

    fn folder(&self) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        self.sign(folder.path());
        folder
    }
}

fn with(folder: &TempDir) -> ClusterOptions {
    let [certificate, key, authority] = ["cert", "key", "ca"].map(|file| folder.path().join(file));
    options().tls(Tls::from_files(certificate, key, authority).expect("readable"))
}

#[tokio::test]
async fn nodes_with_certificates_of_one_authority_talk_and_others_are_not_let_in() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let [for_a, for_b, for_c] = [ours.folder(), ours.folder(), theirs.folder()];
    let a = TestNode::start("a", 1, with(&for_a)).await;
    let b = TestNode::start("b", 2, with(&for_b).join(a.address())).await;
    b.sees("a").await;
    let counter = b.cluster.remote::<Counter>(&name("a"));
    let long = "x".repeat(1 << 20);
    let answer = counter.call(&Ask::Echo(long.clone()), PATIENCE).await;
    assert_eq!(answer, Ok(Told::Text(long)));

    let other_authority = TestNode::start("c", 3, with(&for_c).join(a.address())).await;
    let in_clear = TestNode::start("d", 4, options().join(a.address())).await;
    let foreign = |why: &ConnectError| matches!(why, ConnectError::Foreign { .. });
    fails(&in_clear, foreign).await;
    fails(&other_authority, |why| {
        matches!(why, ConnectError::Certificate { .. })
    })
    .await;
    assert_eq!(a.cluster.connected(), 1);
}

#[tokio::test]
async fn what_answers_something_else_than_tls_is_no_node() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let folder = Authority::new().folder();

    let wary = TestNode::start("a", 1, with(&folder).join(address)).await;

    fails(&wary, |why| matches!(why, ConnectError::Foreign { .. })).await;
}

/// Waits until the only address that is tried fails so: the first time, the connection may be gone before the reason is read.
async fn fails(node: &TestNode, so: impl Fn(&ConnectError) -> bool) {
    eventually(
        "it cannot join, for this reason",
        async || matches!(&node.cluster.failures()[..], [(_, why)] if so(why)),
    )
    .await;
    assert_eq!(node.cluster.connected(), 0);
}

#[tokio::test]
async fn a_certificate_that_is_out_of_date_is_told_by_both_sides() {
    let ours = Authority::new();
    let [for_a, for_b] = [ours.folder(), ours.folder()];
    ours.sign_until(for_b.path(), 2024);
    let a = TestNode::start("a", 1, with(&for_a)).await;
    let late = TestNode::start("b", 2, with(&for_b).join(a.address())).await;
    let b = TestNode::start("c", 3, with(&for_a).join(late.address())).await;

    for node in [&late, &b] {
        let out_of_date = |why: &ConnectError| matches!(why, ConnectError::Certificate { why, .. } if why.contains("xpired"));
        fails(node, out_of_date).await;
    }
    assert_eq!(a.cluster.connected(), 0);
}

#[tokio::test]
async fn certificates_that_change_hold_for_the_next_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let [for_a, for_b] = [old.folder(), old.folder()];
    let a = TestNode::start("a", 1, with(&for_a)).await;
    let b = TestNode::start("b", 2, with(&for_b).join(a.address())).await;
    b.sees("a").await;
    a.sees("b").await;

    // Rubbish is not used; what held before goes on to hold.
    fs::write(for_a.path().join("ca"), "rubbish").expect("written");
    let mut monitor = a.cluster.monitor();
    b.stop().await;
    assert_eq!(monitor.next().await, Some(MemberEvent::Left(name("b"))));
    let b = TestNode::start("b", 2, with(&for_b).join(a.address())).await;
    b.sees("a").await;

    new.sign(for_a.path());
    let for_c = new.folder();
    let c = TestNode::start("c", 3, with(&for_c).join(a.address())).await;
    c.sees("a").await;
    assert!(b.cluster.connected() > 0, "connections that are there stay");
}

#[test]
fn files_that_are_no_certificates_are_refused_by_name() {
    let folder = Authority::new().folder();
    let [certificate, key, authority] = ["cert", "key", "ca"].map(|file| folder.path().join(file));

    let missing = Tls::from_files(&certificate, folder.path().join("none"), &authority);
    assert!(missing.expect_err("not there").to_string().contains("none"));
    fs::write(&certificate, "nothing").expect("written");
    let empty = Tls::from_files(&certificate, &key, &authority).expect_err("no certificate");
    assert!(
        empty.to_string().contains("there is no certificate in it"),
        "{empty}"
    );
}
