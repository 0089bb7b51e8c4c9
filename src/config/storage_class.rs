//! Which storage class an object gets on the mirror.

/// Longest name of a class.
const NAME_BYTES_MAX: usize = 64;

/// What a class is called where no header names one.
pub const STANDARD: &str = "STANDARD";

/// The mirror's classes by main's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageClasses {
    mapped: Vec<(String, String)>,
    /// For every class that is not in the list.
    others: Option<String>,
}

impl StorageClasses {
    /// `CLASS` for everything, or `MAIN=MIRROR` pairs separated by commas, of which `*=MIRROR` is
    /// for all others.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let name = |text: &str| {
            let text = text.trim();
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            let valid = (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain);
            valid.then(|| text.to_owned())
        };
        let mut classes = Self::default();
        if !text.contains('=') {
            classes.others = Some(name(text)?);
            return Some(classes);
        }
        for pair in text.split(',') {
            let (main, mirror) = pair.split_once('=')?;
            let mirror = name(mirror)?;
            if main.trim() == "*" {
                classes.others = Some(mirror);
            } else {
                classes.mapped.push((name(main)?, mirror));
            }
        }
        Some(classes)
    }

    /// The class on the mirror of what has this class on main. `None`: the mirror's own choice.
    pub fn of(&self, main: &str) -> Option<&str> {
        let mapped = self.mapped.iter().find(|(from, _)| from == main);
        mapped.map(|(_, to)| to).or(self.others.as_ref()).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_for_all_or_a_map() {
        let all = StorageClasses::parse("STANDARD_IA").unwrap();
        assert_eq!(
            (all.of(STANDARD), all.of("GLACIER")),
            (Some("STANDARD_IA"), Some("STANDARD_IA"))
        );
        let map = StorageClasses::parse("GLACIER_IR = COLD, STANDARD=STANDARD").unwrap();
        assert_eq!(map.of("GLACIER_IR"), Some("COLD"));
        assert_eq!(map.of("STANDARD_IA"), None, "the mirror chooses");
        let rest = StorageClasses::parse("GLACIER_IR=COLD,*=HOT").unwrap();
        assert_eq!(rest.of("STANDARD_IA"), Some("HOT"));
        assert_eq!(StorageClasses::default().of(STANDARD), None);
        for wrong in ["A B", "A=", "=A", "A=B,", "A=B,C", "ä"] {
            assert_eq!(StorageClasses::parse(wrong), None, "{wrong}");
        }
    }
}
