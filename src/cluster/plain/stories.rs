//! A program that speaks as ractor_cluster does, by hand. One that is ractor_cluster is in `tests/plain`.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    protobuf::{Field, Fields, put_bytes, put_number},
    protocol::{digest, framed},
};
use crate::{
    cluster::{
        Cluster, ClusterOptions, Cookie, DownReason, Identity, Member, MemberEvent, MemberKind,
        MemberState,
    },
    ids::{NodeId, NodeName},
    otp::{Groups, Intensity, Supervisor, SupervisorSpec},
    telemetry::{Options, Telemetry},
};

const COOKIE: &str = "a cookie for plain programs";

async fn node() -> (Cluster, Supervisor) {
    let cookie = |text| Cookie::new(text).expect("long enough");
    let options = ClusterOptions::new(cookie("a cookie for nodes alone"))
        .heartbeat(Duration::from_millis(5), Duration::from_millis(20))
        .plain("127.0.0.1:0".parse().expect("an address"), cookie(COOKIE));
    let identity = Identity {
        name: NodeName::new("a").expect("a name"),
        id: NodeId::new(1).expect("an id"),
        incarnation: 1,
    };
    let telemetry = Telemetry::new(Options::default());
    let cluster = Cluster::new(options, identity, &Groups::new("a"), &telemetry).expect("binds");
    let spec = SupervisorSpec::new("node", Intensity::new(1, Duration::from_secs(1)))
        .child(cluster.child_spec());
    let supervisor = Supervisor::start(spec).await.expect("starts");
    (cluster, supervisor)
}

fn seen(cluster: &Cluster, name: &str) -> Option<Member> {
    cluster.member(&NodeName::new(name).expect("a name"))
}

/// Looks again and again, connections being at work.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), looking).await;
    assert!(in_time.is_ok(), "it did not come true: {what}");
}

/// A plain program.
struct Program(TcpStream);

impl Program {
    /// Says its name; gives how it was taken.
    async fn greets(cluster: &Cluster, name: &str) -> (Self, u64) {
        let address = cluster.plain_addr().expect("it listens");
        let stream = TcpStream::connect(address).await.expect("it listens");
        let mut program = Self(stream);
        let mut body = Vec::new();
        put_bytes(&mut body, 1, name.as_bytes());
        put_bytes(&mut body, 3, b"localhost:4697");
        program.says(1, 1, &body).await;
        let status = program.hears(1, 2).await.expect("an answer");
        // What is 0 may be left out.
        (program, number(&status, 1).unwrap_or(0))
    }

    /// Proves that it knows a cookie, and has it proven. `None` when it is not let in.
    async fn proves(&mut self, cookie: &str) -> Option<()> {
        let challenge = self.hears(1, 4).await?;
        let challenge = u32::try_from(number(&challenge, 3).unwrap_or(0)).expect("32 bits");
        let mut body = Vec::new();
        put_number(&mut body, 1, 77);
        put_bytes(&mut body, 2, &digest(cookie.as_bytes(), challenge));
        self.says(1, 5, &body).await;
        let proof = self.hears(1, 6).await?;
        let mut fields = Fields(&proof);
        let expected = digest(cookie.as_bytes(), 77);
        assert_eq!(fields.next(), Some(Ok((1, Field::Bytes(&expected)))));
        self.hears(3, 9)
            .await
            .map(|ready| assert!(ready.is_empty(), "it is told of nothing"))
    }

    async fn joins(cluster: &Cluster, name: &str) -> Self {
        let (mut program, status) = Self::greets(cluster, name).await;
        assert_eq!(status, 0);
        program.proves(COOKIE).await.expect("it is let in");
        program
    }

    async fn says(&mut self, kind: u64, alternative: u64, body: &[u8]) {
        let frame = framed(kind, alternative, body);
        self.0.write_all(&frame).await.expect("it listens");
    }

    /// `actors` join, or leave, a group.
    async fn moves(&mut self, alternative: u64, group: &str, actors: &[u64]) {
        let mut body = Vec::new();
        put_bytes(&mut body, 1, group.as_bytes());
        for pid in actors {
            let mut actor = Vec::new();
            put_number(&mut actor, 1, *pid);
            put_bytes(&mut body, 2, &actor);
        }
        put_bytes(&mut body, 3, b"a scope");
        self.says(3, alternative, &body).await;
    }

    /// The next message, which is this one, pings left out. `None` at the end of the connection.
    async fn hears(&mut self, kind: u64, alternative: u64) -> Option<Vec<u8>> {
        loop {
            let length = self.0.read_u64().await.ok()?;
            let mut frame = vec![0; usize::try_from(length).expect("short")];
            self.0.read_exact(&mut frame).await.ok()?;
            let [(outer, inner)] = &bytes(&frame)[..] else {
                panic!("{frame:?}");
            };
            let [(which, body)] = &bytes(inner)[..] else {
                panic!("{frame:?}");
            };
            if (*outer, *which) != (3, 3) {
                assert_eq!((*outer, *which), (kind, alternative));
                return Some(body.clone());
            }
        }
    }
}

fn bytes(message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let fields = Fields(message).map(|field| match field {
        Ok((number, Field::Bytes(bytes))) => (number, bytes.to_vec()),
        other => panic!("{other:?}"),
    });
    fields.collect()
}

fn number(message: &[u8], field: u64) -> Option<u64> {
    Fields(message).find_map(|found| match found {
        Ok((at, Field::Number(number))) if at == field => Some(number),
        _ => None,
    })
}

#[tokio::test]
async fn a_plain_program_is_seen_with_its_groups_until_its_connection_ends() {
    let (cluster, _node) = node().await;
    let mut news = cluster.monitor();

    let mut program = Program::joins(&cluster, "p@host").await;
    program.moves(5, "workers", &[7, 8]).await;
    program.moves(5, "idle", &[7]).await;
    program.moves(6, "idle", &[7]).await;

    let name = NodeName::new("p.host").expect("a name");
    assert_eq!(news.next().await, Some(MemberEvent::Up(name.clone())));
    eventually("its group is seen", async || {
        let plain = seen(&cluster, "p.host").and_then(|member| member.plain);
        plain.is_some_and(|plain| plain.groups.iter().any(|group| group.members == 2))
    })
    .await;
    let member = seen(&cluster, "p.host").expect("it is there");
    assert_eq!((member.kind, member.id), (MemberKind::Plain, None));
    assert_eq!(member.address, "localhost:4697");
    eventually("the group that it left is gone", async || {
        let plain = seen(&cluster, "p.host").and_then(|member| member.plain);
        plain.is_some_and(|plain| plain.groups.len() == 1 && plain.actors == 2)
    })
    .await;

    drop(program);

    let down = MemberEvent::Down(name, DownReason::Closed);
    assert_eq!(news.next().await, Some(down));
    let member = seen(&cluster, "p.host").expect("it is remembered");
    assert_eq!((member.state, member.plain), (MemberState::Down, None));
}

/// Nodes are down here after 20 ms.
#[tokio::test]
async fn a_plain_program_is_not_judged_by_its_silence_and_its_pings_are_answered() {
    let (cluster, _node) = node().await;
    let mut program = Program::joins(&cluster, "p@host").await;

    eventually("it has been silent for long", async || {
        let member = seen(&cluster, "p.host").expect("it is there");
        member.since > Duration::from_millis(300)
    })
    .await;

    let member = seen(&cluster, "p.host").expect("it is there");
    assert_eq!(member.state, MemberState::Alive);
    program.says(3, 3, b"\x0a\x02\x08\x05").await;
    assert_eq!(
        program.hears(3, 4).await.as_deref(),
        Some(&b"\x0a\x02\x08\x05"[..])
    );
    program.says(3, 7, &[]).await;
    assert_eq!(program.hears(3, 8).await, Some(Vec::new()));
}

#[tokio::test]
async fn who_does_not_know_the_cookie_is_not_let_in_and_takes_nobodys_place() {
    let (cluster, _node) = node().await;
    let mut first = Program::joins(&cluster, "p@host").await;

    let (mut stranger, status) = Program::greets(&cluster, "p@host").await;
    assert_eq!(status, 4, "one of its name is alive");
    stranger.says(1, 3, b"\x08\x01").await;
    assert_eq!(stranger.proves("a cookie for nodes alone").await, None);
    first.says(3, 3, &[]).await;
    assert!(first.hears(3, 4).await.is_some());

    let (mut second, _) = Program::greets(&cluster, "p@host").await;
    second.says(1, 3, b"\x08\x01").await;
    second.proves(COOKIE).await.expect("it is let in");
    assert_eq!(first.hears(3, 0).await, None, "the first made room");
    assert_eq!(
        seen(&cluster, "p.host").expect("there").state,
        MemberState::Alive
    );
    assert_eq!(cluster.members().len(), 1);
}

#[tokio::test]
async fn a_name_of_a_node_and_what_is_no_name_are_refused() {
    let (cluster, _node) = node().await;
    for name in ["a", "", "no name", &"x".repeat(80)] {
        let (mut program, status) = Program::greets(&cluster, name).await;
        assert_eq!(status, 3, "{name}");
        assert_eq!(program.hears(1, 4).await, None);
    }
    assert!(cluster.members().is_empty());
}

#[tokio::test]
async fn who_announces_what_nobody_reads_is_cut_off_and_so_is_who_tells_of_too_much() {
    let (cluster, _node) = node().await;
    let mut endless = Program::joins(&cluster, "endless@host").await;
    let announced = (1_u64 << 60).to_be_bytes();
    endless.0.write_all(&announced).await.expect("it listens");
    assert_eq!(endless.hears(3, 0).await, None);

    let mut many = Program::joins(&cluster, "many@host").await;
    let actors: Vec<u64> = (0..70_000).collect();
    many.moves(5, "workers", &actors).await;
    assert_eq!(many.hears(3, 0).await, None);

    for name in ["endless.host", "many.host"] {
        eventually("it is down", async || {
            let member = seen(&cluster, name).expect("it is remembered");
            member.why == Some(DownReason::Violated)
        })
        .await;
    }
}

#[tokio::test]
async fn a_node_that_leaves_has_no_place_for_plain_programs_any_more() {
    let (cluster, _node) = node().await;
    let mut program = Program::joins(&cluster, "p@host").await;

    cluster.leave().await.expect("it runs");

    assert_eq!(program.hears(3, 0).await, None);
    let (mut late, _) = Program::greets(&cluster, "late@host").await;
    let _ = late.proves(COOKIE).await;
    assert_eq!(late.hears(3, 0).await, None);
    assert!(
        cluster
            .members()
            .iter()
            .all(|member| member.state != MemberState::Alive)
    );
}
