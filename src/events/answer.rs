//! What the receiver's answer means for a message. Pure.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{HeaderMap, RETRY_AFTER};

/// Longest pause a receiver can ask for.
const ASKED_MAX: Duration = Duration::from_mins(5);

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Taken,
    /// Nobody is there, or nobody who can take anything.
    Away {
        reason: String,
        pause: Option<Duration>,
    },
    /// It is this message.
    Refused {
        reason: String,
    },
}

/// Judges an answer.
pub(super) fn judge(response: &Response<Bytes>) -> Answer {
    let status = response.status();
    let reason = format!("the receiver answered {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Answer::Taken,
        // Who may come, where it is, how fast: of settings and outages, not of the message.
        401 | 403 | 404 | 405 | 407 | 408 | 410 | 421 | 425 | 429 => {
            Answer::Away { reason, pause: asked(response.headers()) }
        }
        400..=499 => Answer::Refused { reason },
        _ => Answer::Away { reason, pause: asked(response.headers()) },
    }
}

/// The pause a receiver asks for, in seconds.
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(ASKED_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn answer(status: u16, retry_after: Option<&str>) -> Answer {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        if let Some(value) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, value.parse().unwrap());
        }
        judge(&response)
    }

    #[test]
    fn only_success_takes_an_event_off_and_only_its_own_fault_puts_it_aside() {
        assert_eq!(answer(204, None), Answer::Taken);
        for status in [301, 401, 404, 429, 500, 503] {
            assert!(matches!(answer(status, None), Answer::Away { .. }), "{status}");
        }
        for status in [400, 413, 422] {
            assert!(matches!(answer(status, None), Answer::Refused { .. }), "{status}");
        }
    }

    #[test]
    fn a_receiver_may_ask_for_a_pause_but_not_for_a_long_one() {
        let pause = |text| match answer(503, Some(text)) {
            Answer::Away { pause, .. } => pause,
            _ => unreachable!(),
        };
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("86400"), Some(ASKED_MAX));
        assert_eq!(pause("soon"), None);
    }
}
