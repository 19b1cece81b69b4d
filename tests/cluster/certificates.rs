//! Nodes that speak TLS, by the flags of the binary.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::scene::{Node, Scene, free_address, until};

/// Two nodes with certificates of one authority, and a stranger with one of another, at the address of the second and before it.
/// `[before, address]` of each of the two.
pub(crate) fn one_authority_and_another(at: [(&[String], &str); 2]) {
    let (ours, theirs) = (Scene::new(), Scene::new());
    let hosts = at.map(|(_, address)| address.split(':').next().expect("a host").to_owned());
    for scene in [&ours, &theirs] {
        certify(scene, &hosts);
    }
    let [(in_a, at_a), (in_b, at_b)] = at;

    let a = start(&ours, in_a, "a", at_a, &[]);
    let stranger = start(&theirs, in_b, "stranger", at_b, &[at_a]);
    until("the stranger cannot join", || {
        let failures = stranger.cluster()["failures"].to_string();
        failures.contains("certificate")
    });
    let health = stranger.says(&["status"]).stdout;
    let health = String::from_utf8(health).expect("text");
    assert!(health.contains("certificates of one authority"), "{health}");
    assert_eq!(a.cluster()["members"].as_array().map(Vec::len), Some(0));
    drop(stranger);

    let b = start(&ours, in_b, "b", at_b, &[at_a]);
    a.becomes("b", "alive");
    b.becomes("a", "alive");
    assert_eq!(a.member("b")["address"], *at_b);
}

#[test]
fn nodes_of_one_authority_talk_under_tls_and_one_of_another_is_not_let_in() {
    let [at_a, at_b] = [free_address(), free_address()];
    one_authority_and_another([(&[], &at_a), (&[], &at_b)]);
}

fn start(scene: &Scene, before: &[String], name: &str, at: &str, join: &[&str]) -> Node {
    let [certificate, key, authority] = ["cert", "key", "ca"].map(|file| {
        let path = scene.folder.path().join(file);
        path.to_str().expect("UTF-8").to_owned()
    });
    let mut tls = vec!["--tls-cert", &certificate, "--tls-key", &key];
    tls.extend(["--tls-ca", &authority]);
    scene.node_in(before, name, at, join, &tls)
}

fn certify(scene: &Scene, hosts: &[String]) {
    let key = KeyPair::generate().expect("random");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("signed").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("random");
    let params = CertificateParams::new(hosts.to_vec()).expect("addresses");
    let certificate = params.signed_by(&key, &issuer).expect("signed").pem();
    scene.secret("cert", &certificate);
    scene.secret("key", &key.serialize_pem());
    scene.secret("ca", &authority);
}
