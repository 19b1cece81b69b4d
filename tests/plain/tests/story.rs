//! A program of plain ractor_cluster, a process of its own, is a member of underpin's cluster.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use underpin::{
    cluster::{
        Cluster, ClusterOptions, Cookie, DownReason, Identity, Member, MemberEvent, MemberKind,
        MemberState,
    },
    ids::{NodeId, NodeName},
    otp::{Groups, Intensity, Supervisor, SupervisorSpec},
    ractor::{Actor, ActorProcessingErr, ActorRef, pg},
    telemetry::{Options, Telemetry},
    testing::{PATIENCE, eventually},
};

const COOKIE: &str = "a cookie for plain programs";

async fn node() -> (Cluster, Supervisor) {
    let cookie = |text| Cookie::new(text).expect("long enough");
    let options = ClusterOptions::new(cookie("a cookie for nodes alone"))
        .heartbeat(Duration::from_millis(50), Duration::from_millis(200))
        .plain("127.0.0.1:0".parse().expect("an address"), cookie(COOKIE));
    let identity = Identity {
        name: name("a"),
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

fn name(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

struct Program {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(cluster: &Cluster, cookie: &str) -> Self {
        let address = cluster.plain_addr().expect("it listens").to_string();
        let mut process = Command::new(env!("CARGO_BIN_EXE_underpin-plain"))
            .args([&address, cookie])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let output = process.stdout.take().expect("piped");
        let lines = BufReader::new(output).lines();
        Self { process, lines }
    }

    async fn says(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.expect("in time").expect("text");
        line.expect("it did not end")
    }

    async fn told(&mut self, command: &str) -> String {
        let input = self.process.stdin.as_mut().expect("piped");
        let line = format!("{command}\n");
        input.write_all(line.as_bytes()).await.expect("it runs");
        self.says().await
    }
}

fn seen(cluster: &Cluster) -> Option<Member> {
    cluster.member(&name("bare.localhost"))
}

async fn has_workers(cluster: &Cluster, count: usize) {
    eventually("its workers are seen", async || {
        let plain = seen(cluster).and_then(|member| member.plain);
        let groups = plain.map(|plain| plain.groups).unwrap_or_default();
        let mut workers = groups.iter().filter(|group| group.name == "workers");
        workers.next().map_or(0, |group| group.members) == count
    })
    .await;
}

/// An actor of this process, in a group as ractor has it.
struct Ours;

impl Actor for Ours {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        pg::join("ours".to_owned(), vec![me.get_cell()]);
        Ok(())
    }
}

#[tokio::test]
async fn a_program_of_plain_ractor_cluster_is_a_member_and_reaches_nothing() {
    let (ours, _) = Actor::spawn(None, Ours, ()).await.expect("starts");
    let (cluster, _node) = node().await;
    let mut news = cluster.monitor();

    let mut program = Program::start(&cluster, COOKIE);

    assert_eq!(program.says().await, "authenticated a@a");
    assert_eq!(program.says().await, "ready");
    assert_eq!(
        news.next().await,
        Some(MemberEvent::Up(name("bare.localhost")))
    );
    has_workers(&cluster, 3).await;
    let member = seen(&cluster).expect("it is there");
    assert_eq!((member.kind, member.id), (MemberKind::Plain, None));
    assert_eq!(member.state, MemberState::Alive);

    assert_eq!(
        program.told("look").await,
        "others 0",
        "nothing of ours is there"
    );
    let theirs = pg::get_members(&"workers".to_owned());
    assert!(theirs.is_empty(), "nothing of theirs is here");
    assert_eq!(pg::get_members(&"ours".to_owned()).len(), 1);

    assert_eq!(program.told("stop").await, "stopped");
    has_workers(&cluster, 2).await;
    eventually("it answers when it is asked for a sign", async || {
        let connection = seen(&cluster).and_then(|member| member.connection);
        connection.is_some_and(|connection| connection.round_trip.is_some())
    })
    .await;

    program.process.kill().await.expect("it runs");
    let down = MemberEvent::Down(name("bare.localhost"), DownReason::Closed);
    assert_eq!(news.next().await, Some(down));

    let _again = Program::start(&cluster, COOKIE);
    assert_eq!(
        news.next().await,
        Some(MemberEvent::Up(name("bare.localhost")))
    );
    has_workers(&cluster, 3).await;
    ours.stop(None);
}

#[tokio::test]
async fn one_that_does_not_know_the_cookie_is_not_let_in() {
    let (cluster, _node) = node().await;

    let mut program = Program::start(&cluster, "another cookie altogether");

    assert_eq!(program.says().await, "disconnected");
    assert!(cluster.members().is_empty());
}
