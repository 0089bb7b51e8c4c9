//! One try at a key, and what becomes of it: confirmed, held, tried again, parked; in the journal, in a
//! log line, and in a span where tries are traced.

use std::time::Duration;

use tokio::time::Instant;

use super::Mirror;
use super::breaker::Pass;
use super::replicate::{Done, Replicated};
use super::retry::{self, Failure, Heard};
use crate::journal::{Work, now_ms};
use crate::s3::trace::TraceParent;
use crate::spans::{Begun, Details, Spans};
use crate::upstream::trace::traced;

/// After this time a write whose answer never came from the mirror is looked at again: it may
/// have landed late, over a newer one.
const LATE: Duration = Duration::from_secs(30);

impl Mirror {
    /// One try. Gives work back that turns out to be a large object, unless those are this worker's.
    pub(super) async fn settle<'a>(
        &self,
        work: Work,
        pass: Pass<'a>,
        large: bool,
    ) -> Option<(Work, Pass<'a>)> {
        let span = self.begin_span(&work);
        let copy = self.replicator.replicate(&work, large);
        let replicated = match &span {
            // The mirror's own trace of it joins ours.
            Some((_, begun)) => Box::pin(traced(begun.context, copy)).await,
            None => copy.await,
        };
        let (result, late) = match replicated {
            Ok(done) => (Ok(done), false),
            Err(failure) => {
                let (failure, late) = failure.split();
                (Err(failure), late)
            }
        };
        if let Some((spans, begun)) = span {
            end_span(&spans, begun, &work, &result);
        }
        if matches!(result, Err(Failure::Large)) {
            return Some((work, pass));
        }
        let heard = result.as_ref().map_or_else(Failure::heard, Done::heard);
        self.hear(heard, result.as_ref().err(), pass).await;
        match result {
            Ok(Done::Replicated(done)) => {
                self.report(&work, &done);
                if done.in_versions || done.facts.kept_on_mirror {
                    self.journal.complete(work, done.facts).await;
                } else {
                    self.journal.complete_current(work, done.facts).await;
                }
            }
            Ok(Done::Spared { done, condemned, due_ms, reason }) => {
                self.report(&work, &done);
                tracing::info!(
                    bucket = &*work.entry.object.bucket,
                    key = &*work.entry.object.key,
                    mirror_status = "held",
                    versions = condemned.len(),
                    reason,
                    request_id = &*work.entry.request_id,
                    message = "versions were deleted on main, not yet on the mirror",
                );
                let until = (due_ms, reason);
                self.journal.hold_versions(work, until, condemned, done.facts).await;
            }
            Ok(Done::Held { due_ms, reason }) => {
                tracing::info!(
                    bucket = &*work.entry.object.bucket,
                    key = &*work.entry.object.key,
                    mirror_status = "held",
                    reason,
                    request_id = &*work.entry.request_id,
                    message = "deleted on main, not yet on the mirror",
                );
                self.journal.hold(work, due_ms, reason).await;
            }
            Err(failure) if failure.is_permanent() => self.park(work, &failure).await,
            Err(failure) => self.retry(work, &failure, late).await,
        }
        None
    }

    /// What a try, or a knock, says about whether the mirror can be reached.
    async fn hear(&self, heard: Heard, failure: Option<&Failure>, pass: Pass<'_>) {
        match heard {
            Heard::Answer => {
                if pass.answered() {
                    tracing::info!("the mirror can be reached again");
                    self.journal.hasten().await;
                }
            }
            Heard::Silence => {
                if pass.silent(Instant::now()) {
                    let error = failure.map(tracing::field::display);
                    tracing::error!(error, "the mirror cannot be reached");
                }
            }
            Heard::Nothing => drop(pass),
        }
    }

    /// Asks the mirror for nothing but an answer. A large copy would tell only at its end, and all others
    /// would rest until then.
    pub(super) async fn knock(&self, work: &Work, pass: Pass<'_>) {
        let answer = self.replicator.ask_mirror(work).await;
        let heard = answer.as_ref().map_or_else(Failure::heard, |()| Heard::Answer);
        self.hear(heard, answer.as_ref().err(), pass).await;
    }

    /// Trying again cannot help.
    async fn park(&self, work: Work, failure: &Failure) {
        self.metrics.mirror_errors.inc();
        let reason = failure.to_string();
        tracing::error!(
            bucket = &*work.entry.object.bucket,
            key = &*work.entry.object.key,
            mirror_status = "parked",
            error = reason,
            request_id = &*work.entry.request_id,
            message = "this key cannot be mirrored and is parked",
        );
        self.journal.park(work, reason).await;
    }

    /// It is tried again. `late`: what was tried may still take effect.
    async fn retry(&self, work: Work, failure: &Failure, late: bool) {
        self.metrics.mirror_errors.inc();
        let pause = retry::pause(work.entry.attempts, fastrand::f64());
        tracing::warn!(
            bucket = &*work.entry.object.bucket,
            key = &*work.entry.object.key,
            mirror_status = "retry",
            error = %failure,
            attempts = work.entry.attempts + 1,
            retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            request_id = &*work.entry.request_id,
            message = "not mirrored yet",
        );
        if late {
            let late_ms = i64::try_from(LATE.as_millis()).unwrap_or(i64::MAX);
            self.journal.recheck(work.entry.object.clone(), now_ms() + late_ms).await;
        }
        self.journal.retry(work, pause, failure.to_string()).await;
    }

    /// A span of this try, below that of the request.
    fn begin_span(&self, work: &Work) -> Option<(Spans, Begun)> {
        let spans = self.spans.as_ref()?;
        let parent = work.entry.facts.trace.as_deref().and_then(TraceParent::parse);
        let begun = spans.begin(parent);
        begun.context.sampled.then(|| (spans.clone(), begun))
    }

    /// The mirror has main's state.
    fn report(&self, work: &Work, done: &Replicated) {
        let latency_ms = (now_ms() - work.entry.since_ms).max(0);
        // What was set aside was late on purpose.
        if !work.entry.ripe {
            let seconds = Duration::from_millis(latency_ms.unsigned_abs()).as_secs_f64();
            self.metrics.mirror_latency.observe(seconds);
        }
        self.metrics.mirror_bytes.inc_by(done.bytes);
        let kept = done.facts.kept_on_mirror;
        tracing::info!(
            bucket = &*work.entry.object.bucket,
            key = &*work.entry.object.key,
            size = done.facts.size.unwrap_or(0),
            mirror_status = if kept { "kept" } else { "success" },
            latency_ms,
            copied_bytes = done.bytes,
            request_id = &*work.entry.request_id,
            message = if kept { "deleted on main, kept on the mirror" } else { "mirrored" },
        );
    }
}

fn end_span(spans: &Spans, begun: Begun, work: &Work, result: &Result<Done, Failure>) {
    let entry = &work.entry;
    let mut details = Details::work("mirror");
    details.text("aws.s3.bucket", &*entry.object.bucket);
    details.text("aws.s3.key", &*entry.object.key);
    details.text("s3_mirror.request_id", &*entry.request_id);
    details.number("s3_mirror.attempts", u64::from(entry.attempts) + 1);
    let status = match result {
        Ok(Done::Replicated(done)) => {
            details.number("s3_mirror.copied_bytes", done.bytes);
            if done.facts.kept_on_mirror { "kept" } else { "success" }
        }
        Ok(Done::Spared { done, .. }) => {
            details.number("s3_mirror.copied_bytes", done.bytes);
            "held"
        }
        Ok(Done::Held { .. }) => "held",
        // It is tried at once by those whose turn large objects are.
        Err(Failure::Large) => return,
        Err(failure) => {
            details.failed(failure.to_string());
            if failure.is_permanent() { "parked" } else { "retry" }
        }
    };
    details.text("s3_mirror.mirror_status", status);
    spans.end(begun, details);
}
