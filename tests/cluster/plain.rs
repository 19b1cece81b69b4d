//! A plain ractor_cluster program and the binary. The program is played by hand here; a real one is in `tests/plain`.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::scene::{Node, PATIENCE, Scene, free_address, until};

const COOKIE: &[u8] = b"a cookie for plain programs";

/// A field of a message, as protocol buffers have it; short ones alone.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("short");
    assert!(length < 128, "short");
    [&[number << 3 | 2, length], bytes].concat()
}

fn say(stream: &mut TcpStream, message: &[u8]) {
    let length = (message.len() as u64).to_be_bytes();
    let frame = [&length, message].concat();
    stream.write_all(&frame).expect("it listens");
}

fn hear(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 8];
    stream.read_exact(&mut length).expect("an answer");
    let length = usize::try_from(u64::from_be_bytes(length)).expect("short");
    let mut message = vec![0; length];
    stream.read_exact(&mut message).expect("all of it");
    message
}

/// Joins as `bare@host`, with one actor in the group `workers`.
fn join(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    say(&mut stream, &field(1, &field(1, &field(1, b"bare@host"))));
    hear(&mut stream);
    let challenge = challenge(&hear(&mut stream));
    let proof = [&challenge.to_be_bytes(), COOKIE].concat();
    let digest = ring::digest::digest(&ring::digest::SHA256, &proof);
    let proof = [&[0x08, 7], &field(2, digest.as_ref())[..]].concat();
    say(&mut stream, &field(1, &field(5, &proof)));
    hear(&mut stream);
    let actor = field(2, &[0x08, 9]);
    let workers = [field(1, b"workers"), actor, field(3, b"scope")].concat();
    say(&mut stream, &field(3, &field(5, &workers)));
    stream
}

/// The number behind the name and the flags, which are `a@a` and version 1.
fn challenge(message: &[u8]) -> u32 {
    let name = [&field(1, b"a@a")[..], &field(2, &[0x08, 1])].concat();
    let at = message.windows(name.len()).position(|part| part == name);
    let rest = &message[at.expect("it says its name") + name.len()..];
    assert_eq!(rest[0], 0x18);
    let (mut number, mut place) = (0_u64, 0);
    for byte in &rest[1..] {
        number |= u64::from(byte & 0x7F) << place;
        place += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    u32::try_from(number).expect("32 bits")
}

fn node(scene: &Scene, address: &str) -> Node {
    let cookie = scene.secret("plain", std::str::from_utf8(COOKIE).expect("text"));
    let cookie = cookie.to_str().expect("UTF-8");
    let plain = ["--plain-listen", address, "--plain-cookie-file", cookie];
    scene.node_with("a", &free_address(), &[], &plain)
}

#[test]
fn a_plain_program_is_shown_with_its_kind_until_it_goes() {
    let (scene, address) = (Scene::new(), free_address());
    let a = node(&scene, &address);

    let program = join(&address);

    a.becomes("bare.host", "alive");
    assert_eq!(a.member("bare.host")["kind"], "plain");
    until("its group is shown", || {
        a.member("bare.host")["plain"]["groups"][0]["name"] == "workers"
    });
    let shown = String::from_utf8(a.says(&["cluster"]).stdout).expect("text");
    assert!(shown.contains("plain  1 actors, 1 groups"), "{shown}");

    drop(program);
    a.becomes("bare.host", "down");
    until("it is in the books", || {
        a.events("cluster.down")
            .iter()
            .any(|event| event["data"]["node"] == "bare.host")
    });
}
