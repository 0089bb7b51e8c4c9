//! Events that wait to be told.

use s3_mirror::journal::entry::{Facts, Outcome};
use s3_mirror::journal::events::Say;
use s3_mirror::journal::operator::Selection;

use super::support::{Open, append_told, claim, events_waiting, figures, open, open_forgotten};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_outlives_its_entry_and_a_crash_until_it_is_delivered() {
    let directory = tempfile::tempdir().unwrap();
    let run = open(directory.path(), false).await;
    let settled = append_told(&run.journal, "settled").await;
    run.journal.settle(settled, Outcome::Changed, Facts::default(), None).await;
    let work = claim(&run.journal).await;
    run.journal.complete(work, Facts::default()).await;
    let refused = append_told(&run.journal, "refused").await;
    run.journal.settle(refused, Outcome::NoEffect, Facts::default(), None).await;
    assert_eq!(figures(&run.journal).await.pending_operations, 0);
    std::mem::forget(append_told(&run.journal, "cut off").await);
    assert_eq!(events_waiting(&run.journal).await, [("settled".to_owned(), false)]);
    run.crash();

    let run = open_forgotten(directory.path(), false).await;
    let mut waiting = events_waiting(&run.journal).await;
    waiting.sort();
    // What nobody answered has its event too, of which main is asked.
    assert_eq!(waiting, [("cut off".to_owned(), true), ("settled".to_owned(), false)]);
    let ids = run.journal.events_waiting(100).await.unwrap().iter().map(|event| event.id).collect();
    run.journal.events_delivered(ids).await;
    assert_eq!(run.journal.event_figures().await.unwrap().pending, 0);
    run.crash();

    // The run before worked in a copy.
    let run = open_forgotten(&directory.path().join("copy"), false).await;
    assert_eq!(events_waiting(&run.journal).await, [] as [(String, bool); 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_event_holds_up_its_key_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let Open { journal, .. } = open(directory.path(), false).await;
    for key in ["a", "b", "a", "c"] {
        let intent = append_told(&journal, key).await;
        journal.settle(intent, Outcome::Changed, Facts::default(), None).await;
    }
    let keys = |events: Vec<(String, bool)>| -> Vec<String> {
        events.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(events_waiting(&journal).await), ["a", "b", "a", "c"]);
    let first = journal.events_waiting(1).await.unwrap().remove(0);
    let later = s3_mirror::journal::now_ms() + 3_600_000;
    journal.event_refused(&first, later, "422".into()).await;
    assert_eq!(keys(events_waiting(&journal).await), ["b", "c"]);
    let figures = journal.event_figures().await.unwrap();
    assert_eq!((figures.pending, figures.refused), (3, 1));
    assert_eq!(figures.error.as_deref(), Some("422"));

    // Its time has come, and it is taken: what waited behind it goes on.
    journal.event_refused(&first, 0, "422".into()).await;
    journal.flush().await;
    let due = journal.events_due(10).await.unwrap();
    assert_eq!((due.len(), due[0].id, due[0].again), (1, first.id, false));
    journal.events_delivered(vec![first.id]).await;
    assert_eq!(keys(events_waiting(&journal).await), ["b", "a", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_has_a_refused_event_sent_again_or_gives_it_up_and_what_waits_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let Open { journal, .. } = open(directory.path(), false).await;
    for key in ["a", "b", "a"] {
        let intent = append_told(&journal, key).await;
        journal.settle(intent, Outcome::Changed, Facts::default(), None).await;
    }
    journal.flush().await;
    let first = journal.events_waiting(1).await.unwrap().remove(0);
    let later = s3_mirror::journal::now_ms() + 3_600_000;
    journal.event_refused(&first, later, "422".into()).await;
    let all = Selection::default();
    let of =
        |bucket: &str, key: &str| Selection { bucket: Some(bucket.into()), key: Some(key.into()) };
    let refused = journal.events_untold(&all, false, 0, 10).await.unwrap();
    assert_eq!((refused.len(), refused[0].id, refused[0].refused), (1, first.id, true));
    assert_eq!(refused[0].reason.as_deref(), Some("422"));
    assert_eq!(refused[0].event, "ObjectCreated:Put");
    let untold = journal.events_untold(&all, true, 0, 10).await.unwrap();
    assert_eq!(untold.iter().map(|event| event.key.as_str()).collect::<Vec<_>>(), ["a", "b", "a"]);
    let behind = journal.events_untold(&all, true, first.id, 10).await.unwrap();
    assert_eq!(behind.len(), 2);

    assert!(journal.events_due(10).await.unwrap().is_empty());
    let elsewhere = journal.handle_events(&of("other", "a"), Say::Retry, None).await.unwrap();
    assert_eq!(elsewhere.entries, 0);
    let retried = journal.handle_events(&of("b", "a"), Say::Retry, None).await.unwrap();
    assert_eq!((retried.entries, retried.keys.as_slice()), (1, &["b/a".to_owned()][..]));
    assert_eq!(journal.events_due(10).await.unwrap()[0].id, first.id);

    // What only waits is not given up with what is refused.
    let given_up = journal.handle_events(&all, Say::Discard, None).await.unwrap();
    assert_eq!((given_up.entries, given_up.next), (1, None));
    let waiting = |events: Vec<(String, bool)>| -> Vec<String> {
        events.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(waiting(events_waiting(&journal).await), ["b", "a"]);
    let rest = journal.handle_events(&of("b", "b"), Say::DiscardWaiting, None).await.unwrap();
    assert_eq!(rest.entries, 1);
    assert_eq!(waiting(events_waiting(&journal).await), ["a"]);
    let figures = journal.event_figures().await.unwrap();
    assert_eq!((figures.pending, figures.refused, figures.error), (1, 0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_looked_at_once_more_after_its_event_was_told() {
    let directory = tempfile::tempdir().unwrap();
    let Open { journal, .. } = open(directory.path(), false).await;
    let intent = append_told(&journal, "k").await;
    journal.settle(intent, Outcome::Unknown, Facts::default(), None).await;
    journal.flush().await;
    let told = journal.events_waiting(1).await.unwrap().remove(0);
    assert!(told.unknown);
    let seen = Facts { etag: Some("e".into()), ..Facts::default() };
    journal.event_again(&told, 0, seen).await;
    assert!(events_waiting(&journal).await.is_empty());
    assert_eq!(journal.event_figures().await.unwrap().pending, 0);
    let again = journal.events_due(10).await.unwrap().remove(0);
    assert!(again.again && again.facts.etag.as_deref() == Some("e"));
    // Main has moved: it is told anew, in its turn, and that is the last look.
    journal.event_anew(&again).await;
    journal.events_delivered(vec![again.id]).await;
    let anew = journal.events_waiting(1).await.unwrap().remove(0);
    assert!(anew.unknown && anew.attempts == 1 && anew.id > again.id && anew.facts.etag.is_none());
}
