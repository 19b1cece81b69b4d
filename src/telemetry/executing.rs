//! The handle's other half: events are executed, handlers attached.

use std::{fmt, num::NonZeroU32};

use super::{
    Emission, EventName, Field, HandlerError, HandlerInfo, HandlerOptions, Measurements, Metadata,
    Number, SpanEnd, SpanName, Telemetry, span::Span,
};

impl Telemetry {
    /// Runs the handlers of an event, here and now, one after the other. An event is handled if its name is exactly the
    /// one that a handler was attached to; without handlers this costs some nanoseconds.
    ///
    /// A handler that panics is detached from all its events, and [`HANDLER_FAILURE`](super::HANDLER_FAILURE) is
    /// executed; the other handlers still run, and the emitter goes on.
    ///
    /// ```
    /// use underpin::telemetry::{EventName, Options, Telemetry};
    ///
    /// static SOLD: EventName = EventName::from_static(&["shop", "sold"]);
    ///
    /// let telemetry = Telemetry::new(Options::default());
    /// let pieces = telemetry.counter("shop_pieces", &[]);
    /// telemetry.attach("count-pieces", &SOLD, pieces.clone(), |sold, pieces| {
    ///     if let Some(n) = sold.measurements.get("pieces") {
    ///         pieces.add(n.as_f64() as u64);
    ///     }
    /// })?;
    ///
    /// telemetry.execute(&SOLD, &[("pieces", 3.into())], &[("article", "tea".into())]);
    ///
    /// assert_eq!(pieces.value(), 3);
    /// # Ok::<(), underpin::telemetry::HandlerError>(())
    /// ```
    #[inline]
    pub fn execute(
        &self,
        name: &EventName,
        measurements: &[(&str, Number)],
        metadata: &[(&str, Field<'_>)],
    ) {
        self.shared.handlers.execute(
            name,
            Measurements::new(measurements, &[]),
            Metadata::new(metadata, &[]),
        );
    }

    /// Attaches a handler to one event. It runs in whoever executes the event and should be quick; `config` is handed to
    /// it each time. An emission that is under way may miss it.
    ///
    /// # Errors
    ///
    /// [`HandlerError::AlreadyExists`] if the id is taken, whatever its events.
    pub fn attach<C, F>(
        &self,
        id: &str,
        event: &EventName,
        config: C,
        handler: F,
    ) -> Result<(), HandlerError>
    where
        C: fmt::Debug + Send + Sync + 'static,
        F: Fn(&Emission<'_>, &C) + Send + Sync + 'static,
    {
        self.attach_many(id, std::slice::from_ref(event), config, handler)
    }

    /// Attaches one handler to several events, all or none.
    ///
    /// # Errors
    ///
    /// As [`attach`](Self::attach), and [`HandlerError::NoEvent`] if there is no event.
    pub fn attach_many<C, F>(
        &self,
        id: &str,
        events: &[EventName],
        config: C,
        handler: F,
    ) -> Result<(), HandlerError>
    where
        C: fmt::Debug + Send + Sync + 'static,
        F: Fn(&Emission<'_>, &C) + Send + Sync + 'static,
    {
        self.attach_with(id, events, &HandlerOptions::default(), config, handler)
    }

    /// Attaches a handler that runs elsewhere, or that stays when it fails.
    ///
    /// ```
    /// use underpin::telemetry::{EventName, HandlerOptions, OnFailure, Options, Runs, Telemetry};
    ///
    /// static SOLD: EventName = EventName::from_static(&["shop", "sold"]);
    ///
    /// let telemetry = Telemetry::new(Options::default());
    /// let (ledger, entries) = std::sync::mpsc::channel();
    /// let options = HandlerOptions { on_failure: OnFailure::Keep, runs: Runs::ELSEWHERE };
    /// telemetry.attach_with("ledger", &[SOLD.clone()], &options, ledger, |sold, ledger| {
    ///     ledger.send(sold.name.to_string()).expect("somebody reads"); // might as well write to a disk
    /// })?;
    ///
    /// telemetry.execute(&SOLD, &[], &[]);
    ///
    /// assert_eq!(entries.recv().as_deref(), Ok("shop.sold"));
    /// # Ok::<(), underpin::telemetry::HandlerError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`attach_many`](Self::attach_many), and [`HandlerError::NoThread`] for one that runs elsewhere.
    pub fn attach_with<C, F>(
        &self,
        id: &str,
        events: &[EventName],
        options: &HandlerOptions,
        config: C,
        handler: F,
    ) -> Result<(), HandlerError>
    where
        C: fmt::Debug + Send + Sync + 'static,
        F: Fn(&Emission<'_>, &C) + Send + Sync + 'static,
    {
        let handlers = &self.shared.handlers;
        handlers.attach(id, events, options, (config, handler))
    }

    /// From now on handlers see one in `one_in` emissions of an event, each chosen by chance; 1 shows them all again. It
    /// is for events that are executed millions of times a second by handlers that cost more than that.
    ///
    /// The rate goes along as [`Emission::weight`], is shown as `underpin_telemetry_sampled_one_in`, and scales what
    /// [`define`](Self::define)d metrics count and add up, which are then estimates. A span's events are sampled each by itself.
    pub fn sample(&self, event: &EventName, one_in: NonZeroU32) {
        self.shared.handlers.sample(event, one_in);
        self.shared.show_rate(event, one_in);
    }

    /// Detaches a handler from all its events. An emission that is under way may still run it.
    ///
    /// # Errors
    ///
    /// [`HandlerError::NotFound`] if no handler has this id.
    pub fn detach(&self, id: &str) -> Result<(), HandlerError> {
        self.shared.handlers.detach(id)
    }

    /// The handlers of all events that begin with these parts; with none, all handlers. One that listens to several
    /// events is listed with each.
    #[must_use]
    pub fn list_handlers(&self, prefix: &[&str]) -> Vec<HandlerInfo> {
        self.shared.handlers.list(prefix)
    }

    /// Runs `work` between a `start` and a `stop` event; if it panics, between `start` and `exception`, and the panic goes
    /// on. All three carry the same `telemetry_span_context`, one that no other span has unless the metadata brings its own.
    ///
    /// `start` and `exception` have the metadata given, of which `kind`, `reason` and `stacktrace` are the exception's own; `stop`
    /// has what the work noted.
    ///
    /// ```
    /// use underpin::telemetry::{Options, SpanName, Telemetry};
    ///
    /// static QUERY: SpanName = SpanName::from_static(&["db", "query"]);
    ///
    /// let telemetry = Telemetry::new(Options::default());
    /// let rows = telemetry.span(&QUERY, &[("table", "users".into())], |end| {
    ///     end.measure("rows", 17);
    ///     vec![0; 17]
    /// });
    /// assert_eq!(rows.len(), 17);
    /// ```
    ///
    /// # Panics
    ///
    /// If `work` does.
    pub fn span<T>(
        &self,
        name: &SpanName,
        metadata: &[(&str, Field<'_>)],
        work: impl FnOnce(&mut SpanEnd) -> T,
    ) -> T {
        Span::start(&self.shared.handlers, &self.shared.clock, name, metadata).run(work)
    }

    /// [`span`](Self::span) for asynchronous work. If its future is dropped before it is done, there is an `exception` event
    /// of kind `cancelled`.
    ///
    /// ```
    /// use underpin::telemetry::{Options, SpanName, Telemetry};
    ///
    /// static QUERY: SpanName = SpanName::from_static(&["db", "query"]);
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let telemetry = Telemetry::new(Options::default());
    /// let about = [("table", "users".into())];
    /// let rows = telemetry.span_async(&QUERY, &about, async |end| {
    ///     tokio::task::yield_now().await;
    ///     end.measure("rows", 17);
    ///     vec![0; 17]
    /// });
    /// assert_eq!(rows.await.len(), 17);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If `work` does.
    ///
    /// # Cancel safety
    ///
    /// As safe as `work`; the events say that it was cancelled.
    pub async fn span_async<T>(
        &self,
        name: &SpanName,
        metadata: &[(&str, Field<'_>)],
        work: impl AsyncFnOnce(&mut SpanEnd) -> T,
    ) -> T {
        let span = Span::start(&self.shared.handlers, &self.shared.clock, name, metadata);
        span.run_async(work).await
    }
}
