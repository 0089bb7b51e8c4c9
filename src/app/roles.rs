//! Whose backlog a journal holds. Its entries say that a key is to be made what main has: with main and
//! mirror exchanged that would take away, or overwrite, what only the old main has.

use super::StartError;
use crate::config::Config;
use crate::journal::Journal;

/// The note of the services that the journal is between.
const NOTE: &str = "services";

/// Refuses a journal with a backlog of the other direction, and notes this one.
pub(super) async fn check(config: &Config, journal: &Journal) -> Result<(), StartError> {
    let now = (config.main.url(), config.mirror.url());
    let noted = journal.note(NOTE).await?;
    let noted: Option<(String, String)> =
        noted.as_deref().and_then(|text| serde_json::from_str(text).ok());
    if noted.as_ref() == Some(&now) {
        return Ok(());
    }
    if let Some(before) = noted
        && is_exchanged(&before, &now)
    {
        let figures = journal.figures().await?;
        let waits = figures.pending_operations + figures.parked + figures.held_deletes;
        if waits > 0 {
            let data_dir = config.data_dir.clone();
            return Err(StartError::Exchanged { data_dir, waits, main: before.0 });
        }
    }
    let text = serde_json::to_string(&now).unwrap_or_default();
    if let Err(error) = journal.set_note(NOTE, Some(&text)).await {
        tracing::warn!(%error, "it was not noted whose changes the journal holds");
    }
    Ok(())
}

/// Is one of the services in the other's place? Where both are one service only the prefix tells, and
/// that keeps them apart.
fn is_exchanged(before: &(String, String), now: &(String, String)) -> bool {
    before.0 != before.1 && now.0 != now.1 && (now.0 == before.1 || now.1 == before.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_service_in_the_other_s_place_is_an_exchange() {
        let pair = |main: &str, mirror: &str| (main.to_owned(), mirror.to_owned());
        let before = pair("a", "b");
        assert!(is_exchanged(&before, &pair("b", "a")));
        assert!(is_exchanged(&before, &pair("b", "c")) && is_exchanged(&before, &pair("c", "a")));
        assert!(!is_exchanged(&before, &pair("c", "b")), "main has another address");
        assert!(!is_exchanged(&before, &pair("a", "c")), "another mirror");
        assert!(!is_exchanged(&pair("a", "a"), &pair("a", "b")));
    }
}
