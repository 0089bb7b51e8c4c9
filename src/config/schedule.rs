//! When something runs by itself (`VERIFY_SCHEDULE`). Pure.

use std::time::Duration;

use time::{OffsetDateTime, Time};

/// Shortest interval.
pub const INTERVAL_MIN: Duration = Duration::from_mins(1);

/// When to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// So long after the last one began.
    Every(Duration),
    /// Every day at this time, UTC.
    Daily(Time),
}

impl Schedule {
    /// Reads `24h`, `90m`, `7d` or `03:30`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some((hour, minute)) = text.split_once(':') {
            let time = Time::from_hms(hour.parse().ok()?, minute.parse().ok()?, 0).ok()?;
            return (minute.len() == 2).then_some(Self::Daily(time));
        }
        let number = text.strip_suffix(|c: char| c.is_ascii_alphabetic())?;
        let unit = match text.chars().next_back()? {
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
        let interval = Duration::from_secs(seconds);
        (interval >= INTERVAL_MIN && seconds <= 366 * 86_400).then_some(Self::Every(interval))
    }

    /// When the next one is due. `last` is when the last one began, if any is known of.
    pub fn due(self, last: Option<OffsetDateTime>, now: OffsetDateTime) -> OffsetDateTime {
        match (self, last) {
            (Self::Every(interval), Some(last)) => last + interval,
            // The first run is not at the very start, when there is enough to do.
            (Self::Every(interval), None) => now + interval,
            (Self::Daily(time), _) => {
                let today = now.replace_time(time);
                if today > now { today } else { today + Duration::from_hours(24) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> OffsetDateTime {
        OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap()
    }

    #[test]
    fn intervals_and_times_of_day_are_read_and_nonsense_is_not() {
        assert_eq!(Schedule::parse("24h"), Some(Schedule::Every(Duration::from_hours(24))));
        assert_eq!(Schedule::parse(" 7d "), Some(Schedule::Every(Duration::from_hours(168))));
        let half_past_three = Time::from_hms(3, 30, 0).unwrap();
        assert_eq!(Schedule::parse("03:30"), Some(Schedule::Daily(half_past_three)));
        for text in ["", "0h", "30s", "24", "h", "25:00", "3:5", "1000d", "-1h", "1ü"] {
            assert_eq!(Schedule::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_interval_counts_from_the_last_and_a_time_of_day_comes_once_a_day() {
        let now = at("2026-11-21T12:00:00Z");
        let every = Schedule::parse("6h").unwrap();
        assert_eq!(every.due(None, now), at("2026-11-21T18:00:00Z"));
        assert_eq!(every.due(Some(at("2026-11-21T01:00:00Z")), now), at("2026-11-21T07:00:00Z"));
        let daily = Schedule::parse("12:00").unwrap();
        assert_eq!(daily.due(None, now), at("2026-11-22T12:00:00Z"));
        assert_eq!(daily.due(None, at("2026-11-21T11:59:59Z")), at("2026-11-21T12:00:00Z"));
    }
}
