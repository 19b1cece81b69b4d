//! A cable between two nodes that can be cut and made slow: what goes between them goes through here.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

/// As long as it is there. What was on its way when it was cut arrives when it is healed, as with a cable, if somebody is still
/// there to take it.
pub(crate) struct Cable {
    flows: Arc<Flows>,
    /// Where b reaches a.
    pub(crate) to_a: String,
    /// Where a reaches b.
    pub(crate) to_b: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    Cut,
    /// So many bytes a second.
    Slow(u32),
    /// There is no cable any more.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    A,
    B,
}

struct Flows {
    /// What is sent by a, and by b.
    flows: Mutex<[Flow; 2]>,
    changed: Condvar,
}

impl Cable {
    /// Between a node that listens at `a` and one that listens at `b`.
    pub(crate) fn between(a: &str, b: &str) -> Self {
        let flows = Arc::new(Flows {
            flows: Mutex::new([Flow::Open; 2]),
            changed: Condvar::new(),
        });
        Self {
            to_a: accept(Arc::clone(&flows), a, Side::B),
            to_b: accept(Arc::clone(&flows), b, Side::A),
            flows,
        }
    }

    pub(crate) fn cut(&self) {
        self.flows.set([Flow::Cut; 2]);
    }

    /// What a sends is lost on the way; what b sends arrives.
    pub(crate) fn cut_from_a(&self) {
        self.flows.set([Flow::Cut, Flow::Open]);
    }

    pub(crate) fn slow_from_a(&self, bytes_a_second: u32) {
        self.flows.set([Flow::Slow(bytes_a_second), Flow::Open]);
    }

    pub(crate) fn heal(&self) {
        self.flows.set([Flow::Open; 2]);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.flows.set([Flow::Gone; 2]);
    }
}

impl Flows {
    fn set(&self, flows: [Flow; 2]) {
        *self.flows.lock().expect("no panic") = flows;
        self.changed.notify_all();
    }

    /// Waits until so many bytes may go on; how long they take, or `None` at the end.
    fn pass(&self, from: Side, bytes: usize) -> Option<Duration> {
        let mut flows = self.flows.lock().expect("no panic");
        loop {
            match flows[from as usize] {
                Flow::Open => return Some(Duration::ZERO),
                Flow::Slow(speed) => {
                    let bytes = u32::try_from(bytes).expect("a small buffer");
                    return Some(Duration::from_secs(1) * bytes / speed);
                }
                Flow::Gone => return None,
                Flow::Cut => flows = self.changed.wait(flows).expect("no panic"),
            }
        }
    }
}

/// Accepts those who dial, who are at `dialler`, and connects them with the target. Gives where it accepts.
fn accept(flows: Arc<Flows>, target: &str, dialler: Side) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("free");
    let address = listener.local_addr().expect("bound").to_string();
    let target: SocketAddr = target.parse().expect("an address");
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            if *flows.flows.lock().expect("no panic") == [Flow::Gone; 2] {
                return;
            }
            let Ok(far) = TcpStream::connect(target) else {
                continue;
            };
            let other = if dialler == Side::A { Side::B } else { Side::A };
            pump(&flows, dialler, &near, &far);
            pump(&flows, other, &far, &near);
        }
    });
    address
}

fn pump(flows: &Arc<Flows>, from: Side, source: &TcpStream, sink: &TcpStream) {
    let flows = Arc::clone(flows);
    let [mut source, mut sink] = [source, sink].map(|stream| stream.try_clone().expect("open"));
    let _ = source.set_nodelay(true);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            // An end that is seen goes through the cable, too.
            let read = source.read(&mut buffer).unwrap_or(0);
            let Some(takes) = flows.pass(from, read) else {
                break;
            };
            if read == 0 || sink.write_all(&buffer[..read]).is_err() {
                break;
            }
            thread::sleep(takes);
        }
        let _ = sink.shutdown(Shutdown::Write);
        let _ = source.shutdown(Shutdown::Read);
    });
}
