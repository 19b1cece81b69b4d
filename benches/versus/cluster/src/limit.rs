//! The limit: frames with a length before them on connections of tokio, and nothing else.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    BYTES, CALLERS,
    peer::Peer,
    work::{Arrivals, members},
};

/// The first byte of a connection says what becomes of its frames. A frame of length 0 asks for a byte when all before it is done.
const ECHO: u8 = b'e';
const SINK: u8 = b's';
const BROADCAST: u8 = b'b';

const BUFFER: usize = 64 << 10;

struct Note;
underpin::otp::message!(Note);

pub(crate) async fn serve() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let arrivals = Arc::new(Arrivals::default());
    let members = Arc::new(members::<Note>(&arrivals).await?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (arrivals, members) = (Arc::clone(&arrivals), Arc::clone(&members));
            tokio::spawn(async move { connection(stream, &arrivals, &members).await });
        }
    });
    Ok(address)
}

async fn connection(
    stream: TcpStream,
    arrivals: &Arrivals,
    members: &[ractor::ActorRef<Note>],
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::with_capacity(BUFFER, read);
    let (mode, mut body) = (read.read_u8().await?, vec![0; BYTES]);
    // Those of earlier connections came to their end.
    let mut broadcasts = arrivals.broadcasts();
    loop {
        let length = read.read_u32_le().await?;
        if length == 0 {
            arrivals.until(broadcasts).await;
            write.write_all(&[1]).await?;
            continue;
        }
        read.read_exact(&mut body).await?;
        match mode {
            ECHO => write.write_all(&body).await?,
            BROADCAST => {
                broadcasts += 1;
                for member in members {
                    let _ = member.cast(Note);
                }
            }
            _ => {}
        }
    }
}

pub(crate) struct Limit {
    address: String,
    stream: TcpStream,
}

fn frame() -> Vec<u8> {
    let mut frame = u32::try_from(BYTES).expect("small").to_le_bytes().to_vec();
    frame.resize(4 + BYTES, 7);
    frame
}

const END: [u8; 4] = [0; 4];

impl Limit {
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let address = address.to_owned();
        Ok(Self { address, stream })
    }

    async fn open(&self, mode: u8) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&[mode]).await?;
        Ok(stream)
    }

    pub(crate) async fn calls(&self, count: u64) -> Result<Duration> {
        let stream = self.open(ECHO).await?;
        let begin = Instant::now();
        echo(stream, count).await?;
        Ok(begin.elapsed())
    }

    /// A connection for each caller.
    pub(crate) async fn many_calls(&self, each: u64) -> Result<Duration> {
        let mut streams = Vec::new();
        for _ in 0..CALLERS {
            streams.push(self.open(ECHO).await?);
        }
        let (mut callers, begin) = (JoinSet::new(), Instant::now());
        for stream in streams {
            callers.spawn(echo(stream, each));
        }
        while let Some(done) = callers.join_next().await {
            done??;
        }
        Ok(begin.elapsed())
    }

    /// Written 64 KiB at a time.
    pub(crate) async fn casts(&self, count: u64) -> Result<Duration> {
        let (mut stream, one) = (self.open(SINK).await?, frame());
        let (mut out, begin) = (Vec::with_capacity(BUFFER + one.len()), Instant::now());
        for _ in 0..count {
            out.extend_from_slice(&one);
            if out.len() >= BUFFER {
                stream.write_all(&out).await?;
                out.clear();
            }
        }
        out.extend_from_slice(&END);
        stream.write_all(&out).await?;
        stream.read_u8().await?;
        Ok(begin.elapsed())
    }

    pub(crate) async fn broadcasts(&self, count: u64) -> Result<Duration> {
        let mut stream = self.open(BROADCAST).await?;
        let mut out = frame();
        out.extend_from_slice(&END);
        let begin = Instant::now();
        for _ in 0..count {
            stream.write_all(&out).await?;
            stream.read_u8().await?;
        }
        Ok(begin.elapsed())
    }

    /// Until the end of the connection is seen.
    pub(crate) async fn down(mut self, mut peer: Peer) -> Result<Duration> {
        self.stream.write_all(&[SINK]).await?;
        let begin = Instant::now();
        peer.kill()?;
        let _ = self.stream.read_u8().await;
        Ok(begin.elapsed())
    }
}

async fn echo(mut stream: TcpStream, count: u64) -> io::Result<()> {
    let (one, mut back) = (frame(), vec![0; BYTES]);
    for _ in 0..count {
        stream.write_all(&one).await?;
        stream.read_exact(&mut back).await?;
    }
    Ok(())
}
