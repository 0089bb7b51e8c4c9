//! When a failed copy is tried again. Pure.

use std::time::Duration;

use crate::s3::refusal;
use crate::upstream::read::ReadError;

/// First pause.
const BASE: Duration = Duration::from_millis(250);
/// Longest pause: after an outage no key waits longer than this for its next try.
const CAP: Duration = Duration::from_mins(1);

/// What one try says about whether the mirror can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It has answered.
    Answer,
    /// Nobody did, it or main.
    Silence,
    /// It was not asked, as far as can be told.
    Nothing,
}

/// Why a key could not be replicated, by what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The key is tried again later, for ever.
    #[error("{0}")]
    Transient(String),
    /// Nobody answers: tried again, and counted by the circuit breaker.
    #[error("{0}")]
    Down(String),
    /// Trying again cannot help: the key is parked with this reason.
    #[error("{0}")]
    Permanent(String),
    /// A service answered with an error.
    #[error("{reason}")]
    Refused {
        /// Who refused what and how, for a person.
        reason: String,
        /// S3 error code; empty where there is none.
        code: String,
        /// Can trying again not help?
        permanent: bool,
        /// Was it the mirror, and not main?
        by_mirror: bool,
    },
    /// Like the failure inside, and the mirror may still do what it was asked: the key is looked at
    /// again later, because that may land over something newer.
    #[error("{0}")]
    Late(Box<Self>),
    /// The object is large, and only those whose turn it is copy large ones.
    #[error("the object is large")]
    Large,
    /// Main moved on while its state was being copied: copied anew at once.
    #[error("the object changed on main while it was copied")]
    Moved,
}

impl Failure {
    /// The failure itself, and whether something may still land late.
    pub(super) fn split(self) -> (Self, bool) {
        match self {
            Self::Late(failure) => (failure.split().0, true),
            failure => (failure, false),
        }
    }

    /// May the mirror still do what it was asked?
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::Late(_))
    }

    /// Can trying again not help? Then the key is parked.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Permanent(_) => true,
            Self::Refused { permanent, .. } => *permanent,
            Self::Late(failure) => failure.is_permanent(),
            Self::Transient(_) | Self::Down(_) | Self::Large | Self::Moved => false,
        }
    }

    /// The S3 error code, if a service answered with one.
    pub(super) fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Late(failure) => failure.code(),
            _ => "",
        }
    }

    /// What this says about whether the mirror can be reached.
    pub(super) fn heard(&self) -> Heard {
        match self {
            Self::Down(_) => Heard::Silence,
            // Made of odd answers of the mirror, or after a whole copy.
            Self::Transient(_) | Self::Refused { by_mirror: true, .. } => Heard::Answer,
            // Main's word, or the copier's own.
            Self::Refused { .. } | Self::Permanent(_) | Self::Large | Self::Moved => Heard::Nothing,
            Self::Late(failure) => failure.heard(),
        }
    }

    /// The same refusal, judged otherwise by somebody who knows more.
    pub(super) fn judged(self, permanent: bool) -> Self {
        match self {
            Self::Refused { reason, code, by_mirror, .. } => {
                Self::Refused { reason, code, permanent, by_mirror }
            }
            failure => failure,
        }
    }

    /// Marks a failure of a write that the mirror may still do.
    pub(super) fn late(self) -> Self {
        Self::Late(Box::new(self))
    }

    /// Judges an error answer. `who` and `what` make the reason readable.
    pub(super) fn from_status(who: &str, what: &str, status: u16, code: &str) -> Self {
        let reason = format!("{who} refused {what}: {status} {code}");
        let permanent = refusal::is_permanent(status, code);
        Self::Refused { reason, code: code.to_owned(), permanent, by_mirror: who == "mirror" }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unreachable(reason) => Self::Down(reason),
            ReadError::Refused { who, what, status, code } => {
                Self::from_status(who, what, status, &code)
            }
            ReadError::Moved => Self::Moved,
            ReadError::Unusable(reason) => Self::Permanent(reason),
        }
    }
}

/// The pause before try number `attempts + 1`. `random` is uniform in 0..1; half of the pause is
/// jitter, so that keys which failed together do not come back together.
pub(super) fn pause(attempts: u32, random: f64) -> Duration {
    let full = BASE.saturating_mul(2u32.saturating_pow(attempts.min(20))).min(CAP);
    full.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_never_stop() {
        assert_eq!(pause(0, 1.0), Duration::from_millis(250));
        assert_eq!(pause(3, 1.0), Duration::from_secs(2));
        assert_eq!(pause(3, 0.0), Duration::from_secs(1));
        assert_eq!(pause(u32::MAX, 1.0), CAP);
    }

    #[test]
    fn only_the_mirror_s_own_word_says_that_it_can_be_reached() {
        let of = |who| Failure::from_status(who, "PutObject", 403, "AccessDenied").heard();
        assert_eq!((of("mirror"), of("main")), (Heard::Answer, Heard::Nothing));
        assert_eq!(Failure::Down("gone".into()).late().heard(), Heard::Silence);
        assert_eq!(Failure::Large.heard(), Heard::Nothing);
    }

    #[test]
    fn a_refusal_keeps_its_code_and_its_judgement_however_late_it_is() {
        let of = |status, code| Failure::from_status("mirror", "PutObject", status, code);
        assert!(of(501, "NotImplemented").late().is_permanent());
        let slow = of(503, "SlowDown").late();
        assert_eq!((slow.is_permanent(), slow.code()), (false, "SlowDown"));
    }
}
