//! An actor whose state can be looked at, and that waits where a story wants it to.

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use underpin::{
    otp::{Address, ChildSpec, Permit, Reply},
    ractor,
};

use super::probe::Notes;

/// What a counter is asked.
pub(crate) enum Count {
    Add(u64),
    /// An addition that is admitted.
    AddOne(Permit),
    Total(Reply<u64>),
    /// Answers when the other end says so, and skips callers that have gone.
    TotalWhen(oneshot::Receiver<()>, Reply<u64>),
    /// Says that it has begun, and ends when the other end goes.
    Work(oneshot::Sender<()>, oneshot::Receiver<()>),
    /// Answers first, and goes on.
    AnswerThenAdd(Reply<u64>, u64),
    Panic(&'static str),
}
underpin::otp::message!(Count);

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Book {
    pub(crate) total: u64,
    pub(crate) secret: &'static str,
    /// All additions, in order.
    pub(crate) added: Vec<u64>,
}

pub(crate) struct Counter {
    notes: Notes,
    then: Option<u64>,
}

impl Actor for Counter {
    type Msg = Count;
    type State = Book;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Count>, (): ()) -> Result<Book, ActorProcessingErr> {
        if let Some(then) = self.then {
            me.cast(Count::Add(then))?;
        }
        Ok(Book {
            secret: "open sesame",
            ..Book::default()
        })
    }

    async fn post_start(
        &self,
        _: ActorRef<Count>,
        book: &mut Book,
    ) -> Result<(), ActorProcessingErr> {
        book.added.push(0);
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Count>, _: &mut Book) -> Result<(), ActorProcessingErr> {
        self.notes.add("post_stop");
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Count>,
        message: Count,
        book: &mut Book,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Count::Add(n) => book.add(n),
            Count::AddOne(permit) => {
                book.add(1);
                drop(permit);
            }
            Count::Total(reply) => reply.send(book.total),
            Count::TotalWhen(when, reply) => {
                let _ = when.await;
                if !reply.is_closed() {
                    reply.send(book.total);
                }
            }
            Count::Work(begun, until) => {
                let _ = begun.send(());
                let _ = until.await;
            }
            Count::AnswerThenAdd(reply, n) => {
                reply.send(book.total);
                tokio::task::yield_now().await;
                book.add(n);
            }
            Count::Panic(words) => panic!("{words}"),
        }
        Ok(())
    }
}

impl Book {
    fn add(&mut self, n: u64) {
        self.total += n;
        self.added.push(n);
    }
}

pub(crate) fn name(message: &Count) -> &'static str {
    match message {
        Count::Add(_) | Count::AddOne(_) => "add",
        Count::Total(_) | Count::TotalWhen(..) => "total",
        Count::Work(..) => "work",
        Count::AnswerThenAdd(..) => "answer then add",
        Count::Panic(_) => "panic",
    }
}

pub(crate) fn counter(address: &Address<Count>, notes: &Notes) -> ChildSpec {
    counter_that_casts(address, notes, None)
}

/// One that sends itself an addition before it runs.
pub(crate) fn counter_that_casts(
    address: &Address<Count>,
    notes: &Notes,
    then: Option<u64>,
) -> ChildSpec {
    let notes = notes.clone();
    ChildSpec::actor("counter", address, move |_| {
        let notes = notes.clone();
        (Counter { notes, then }, ())
    })
}

/// Keeps the counter at one message until the sender is dropped.
pub(crate) async fn busy(address: &Address<Count>) -> oneshot::Sender<()> {
    let (begun, begins) = oneshot::channel();
    let (end, until) = oneshot::channel();
    address.send(Count::Work(begun, until)).expect("it runs");
    begins.await.expect("it begins");
    end
}
