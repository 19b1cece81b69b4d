//! Services that can be called from other nodes, and their addresses there.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use futures_util::future::{self, BoxFuture, FutureExt};
use ractor::Message;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    credit::{Charge, EACH, Lane, cost},
    error::{Failure, Part, RemoteError},
    frame::{Frame, Payloads},
    gateway::{Incoming, Route},
    link::{Link, carried},
    monitor::RemoteMonitor,
    shared::Shared,
    wire::Write,
};
use crate::{
    ids::NodeName,
    otp::{Address, CallError, Monitor, NotSent, Permit, Reply, Unanswered},
    value::{Limits, codec, from_value, to_value},
};

/// A service that other nodes may call: what is asked and answered, as serde types, and how a request becomes a message of the actor
/// that serves.
///
/// Requests and answers travel with the names of their fields, so that a newer version may add fields that have a serde default. One
/// message has up to 65,536 parts; say `#[serde(with = "serde_bytes")]`, or use text, for long bytes.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use underpin::{cluster::RemoteService, otp::{Permit, Reply}};
///
/// /// What the actor understands.
/// enum Message { Add(u64, Option<Reply<u64>>, Option<Permit>) }
/// underpin::otp::message!(Message);
///
/// /// The service as others see it.
/// struct Counter;
///
/// #[derive(Serialize, Deserialize)]
/// struct Add(u64);
///
/// impl RemoteService for Counter {
///     const NAME: &'static str = "counter";
///     type Request = Add;
///     type Response = u64;
///     type Message = Message;
///
///     fn call(Add(by): Add, reply: Reply<u64>) -> Message {
///         Message::Add(by, Some(reply), None)
///     }
///
///     fn cast(Add(by): Add, permit: Permit) -> Option<Message> {
///         Some(Message::Add(by, None, Some(permit)))
///     }
/// }
/// ```
pub trait RemoteService: Send + Sync + 'static {
    /// The name by which other nodes find it.
    const NAME: &'static str;
    /// What is asked.
    type Request: Serialize + DeserializeOwned + Send + 'static;
    /// What is answered.
    type Response: Serialize + DeserializeOwned + Send + 'static;
    /// What the actor that serves understands.
    type Message: Message;

    /// The message for a request that is answered.
    fn call(request: Self::Request, reply: Reply<Self::Response>) -> Self::Message;

    /// The message for a request that is not answered. `None`, which is the default, where the service takes no such requests: they are
    /// let go, and counted.
    #[expect(unused_variables, reason = "the default takes none")]
    fn cast(request: Self::Request, permit: Permit) -> Option<Self::Message> {
        None
    }

    /// Whether a request changes something here. Such requests are refused unless the node was started with
    /// [`allow_changes`](super::ClusterOptions::allow_changes). By default none does: what the service does is its own affair.
    #[expect(unused_variables, reason = "the default looks at nothing")]
    fn changes(request: &Self::Request) -> bool {
        false
    }
}

pub(super) fn encode<T: Serialize + ?Sized>(data: &T) -> Result<Vec<u8>, String> {
    let value = to_value(data).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    codec::encode_value(&value, &mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let (value, taken) =
        codec::decode_value(bytes, Limits::DEFAULT).map_err(|error| error.to_string())?;
    if taken != bytes.len() {
        return Err("there are bytes behind its end".to_owned());
    }
    from_value(&value).map_err(|error| error.to_string())
}

pub(super) fn may_change(changes: bool, allowed: bool) -> Result<(), Failure> {
    if changes && !allowed {
        let why = "it changes something; start the node with leave for others to change things";
        return Err(Failure::Refused(why.to_owned()));
    }
    Ok(())
}

/// Leads from requests to the actor at an address.
pub(super) struct Served<S: RemoteService> {
    pub(super) address: Address<S::Message>,
    pub(super) allow_changes: bool,
}

impl<S: RemoteService> Served<S> {
    fn read(&self, incoming: Incoming<'_>) -> Result<S::Request, Failure> {
        let request = decode(incoming.payload).map_err(Failure::RequestUnreadable)?;
        may_change(S::changes(&request), self.allow_changes)?;
        Ok(request)
    }
}

impl<S: RemoteService> Route for Served<S> {
    fn call(
        &self,
        incoming: Incoming<'_>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, Failure>> {
        let request = match self.read(incoming) {
            Ok(request) => request,
            Err(failure) => return future::ready(Err(failure)).boxed(),
        };
        let address = self.address.clone();
        async move {
            let answer = address.call(|reply| S::call(request, reply), timeout).await;
            let answer = answer.map_err(failure)?;
            encode(&answer).map_err(Failure::AnswerUnreadable)
        }
        .boxed()
    }

    fn cast(&self, incoming: Incoming<'_>) -> Option<BoxFuture<'static, ()>> {
        let request = match self.read(incoming) {
            Ok(request) => request,
            Err(failure) => {
                tracing::debug!(service = S::NAME, ?failure, from = %incoming.from, "a cast was let go");
                return None;
            }
        };
        if let Some(permit) = self.address.admit_now() {
            // One that nobody takes is let go, as OTP lets go a cast to nobody.
            let _ = deliver::<S>(&self.address, request, permit);
            return None;
        }
        let address = self.address.clone();
        let delivery = async move {
            if let Ok(permit) = address.admit().await {
                let _ = deliver::<S>(&address, request, permit);
            }
        };
        Some(delivery.boxed())
    }

    fn monitor(&self) -> Option<Monitor> {
        Some(self.address.monitor())
    }
}

fn deliver<S: RemoteService>(
    address: &Address<S::Message>,
    request: S::Request,
    permit: Permit,
) -> Result<(), NotSent> {
    S::cast(request, permit).map_or(Ok(()), |message| address.send(message))
}

fn failure(error: CallError) -> Failure {
    match error {
        CallError::NotSent(NotSent::Full) => Failure::Full,
        CallError::NotSent(_) => Failure::Down,
        CallError::Unanswered(Unanswered::Timeout(_)) => Failure::Timeout,
        CallError::Unanswered(why) => Failure::Unanswered(why.to_string()),
    }
}

/// A service of another node. Cheap to clone; it survives restarts of the service, of the node and of the connection.
///
/// It can ask and watch, and nothing else: what is at another node is stopped there.
pub struct RemoteAddress<S> {
    shared: Arc<Shared>,
    node: NodeName,
    service: PhantomData<fn(S)>,
}

impl<S: RemoteService> RemoteAddress<S> {
    pub(super) fn new(shared: Arc<Shared>, node: NodeName) -> Self {
        Self {
            shared,
            node,
            service: PhantomData,
        }
    }

    /// The node where the service is.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// Sends a request and waits for its answer. `timeout` covers everything: waiting for credit, the way there and back, and the
    /// service. A request is never sent twice. The caller's correlation goes with it.
    ///
    /// # Errors
    ///
    /// [`RemoteError`]; [`RemoteError::may_have_run`] tells whether a retry is safe.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the answer up, and tells the node so; the request may still run.
    pub async fn call(
        &self,
        request: &S::Request,
        timeout: Duration,
    ) -> Result<S::Response, RemoteError> {
        let link = self.link()?;
        let payload = encode_request(request)?;
        let answer = link.call(S::NAME, &payload, timeout).await?;
        decode(&answer).map_err(|why| RemoteError::Unreadable {
            what: Part::Answer,
            why,
        })
    }

    /// Sends a request that is not answered, waiting while too much is on its way to the node. That it was sent does not say that
    /// it arrived. What one caller sends to a service arrives in order.
    ///
    /// # Errors
    ///
    /// [`RemoteError`]; it was not sent.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future has sent nothing.
    pub async fn cast(&self, request: &S::Request) -> Result<(), RemoteError> {
        let link = self.link()?;
        let payload = encode_request(request)?;
        link.check_size(S::NAME, payload.len())?;
        link.cast(charge::<S>(payload.len()), &cast_frame::<S>(&payload))
            .await
    }

    /// The same, without ever waiting.
    ///
    /// # Errors
    ///
    /// [`RemoteError`]; it was not sent. [`RemoteError::Full`] when too much is on its way.
    pub fn try_cast(&self, request: &S::Request) -> Result<(), RemoteError> {
        let link = self.link()?;
        let payload = encode_request(request)?;
        link.check_size(S::NAME, payload.len())?;
        link.try_cast(charge::<S>(payload.len()), &cast_frame::<S>(&payload))
    }

    /// Sends many requests that are not answered, in order and in as few frames as may be. Gives how many were sent; on an error
    /// none of the frame in which it occurred was.
    ///
    /// # Errors
    ///
    /// [`RemoteError`]; those that were sent before it are sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves out what was not sent yet.
    pub async fn cast_all<'a>(
        &self,
        requests: impl IntoIterator<Item = &'a S::Request>,
    ) -> Result<usize, RemoteError>
    where
        S::Request: 'a,
    {
        let link = self.link()?;
        let frame_max = link.payload_max(S::NAME);
        let (mut batch, mut in_batch, mut sent) = (Vec::new(), 0, 0);
        for request in requests {
            let payload = encode_request(request)?;
            let bytes = payload.len() + LENGTH;
            link.check_size(S::NAME, bytes)?;
            let is_full = batch.len() >= BATCH_BYTES || batch.len() + bytes > frame_max;
            if is_full && in_batch > 0 {
                send_batch::<S>(&link, &batch, in_batch).await?;
                sent += in_batch;
                in_batch = 0;
                batch.clear();
            }
            batch.put_long(&payload);
            in_batch += 1;
        }
        if in_batch > 0 {
            send_batch::<S>(&link, &batch, in_batch).await?;
        }
        Ok(sent + in_batch)
    }

    /// Watches the life of the service: tells when it ends, when the node goes down, or that there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the monitor ends the watch.
    pub fn monitor(&self) -> RemoteMonitor {
        let link = self.shared.link(&self.node);
        RemoteMonitor::new(self.node.clone(), link, S::NAME)
    }

    /// Whether there is a connection to the node.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.link(&self.node).is_some()
    }

    fn link(&self) -> Result<Arc<Link>, RemoteError> {
        let link = self.shared.link(&self.node);
        link.ok_or_else(|| RemoteError::NoConnection {
            node: self.node.clone(),
        })
    }
}

/// Enough to make a frame's own bytes and the switch between tasks not count, little enough to begin at once.
const BATCH_BYTES: usize = 16 << 10;

/// What stands before each message of several.
const LENGTH: usize = 4;

async fn send_batch<S: RemoteService>(
    link: &Link,
    batch: &[u8],
    count: usize,
) -> Result<(), RemoteError> {
    let frame = Frame::Casts {
        context: carried(),
        service: S::NAME,
        payloads: Payloads::written(batch),
    };
    // Each message costs what it would cost alone.
    let bytes = batch.len() + count.saturating_sub(1) * EACH;
    link.cast(charge::<S>(bytes), &frame).await
}

fn charge<S: RemoteService>(bytes: usize) -> Charge {
    Charge {
        lane: Lane::service(S::NAME),
        cost: cost(bytes),
    }
}

fn encode_request<T: Serialize>(request: &T) -> Result<Vec<u8>, RemoteError> {
    encode(request).map_err(|why| RemoteError::Unreadable {
        what: Part::Request,
        why,
    })
}

fn cast_frame<S: RemoteService>(payload: &[u8]) -> Frame<'_> {
    Frame::Cast {
        context: carried(),
        service: S::NAME,
        payload,
    }
}

impl<S> Clone for RemoteAddress<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            node: self.node.clone(),
            service: PhantomData,
        }
    }
}

impl<S: RemoteService> fmt::Debug for RemoteAddress<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteAddress")
            .field("node", &self.node)
            .field("service", &S::NAME)
            .finish_non_exhaustive()
    }
}
