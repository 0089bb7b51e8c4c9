//! Part boundaries where main's own are not known. Pure.

use crate::journal::entry::PartLayout;

/// Most parts of an upload (Amazon S3 limits).
const PARTS_MAX: u64 = 10_000;
/// Part size where main's own boundaries are unknown.
const PART_BYTES: u64 = 8 << 20;
/// Smallest part but the last.
const PART_BYTES_MIN: u64 = 5 << 20;

/// Parts of an object that was not uploaded in parts but is too large for one request.
/// `part_bytes_max`: the mirror takes no larger ones, unless there would be too many.
pub(super) fn default_layout(size: u64, part_bytes_max: u64) -> PartLayout {
    let part = PART_BYTES.min(part_bytes_max).max(size.div_ceil(PARTS_MAX));
    PartLayout::new(cut(size, part), None)
}

/// `count` equal parts, the last one being what is left.
pub(super) fn equal_parts(size: u64, count: u32) -> PartLayout {
    let part = size.div_ceil(u64::from(count.max(1))).max(1);
    // Uploaders cut at whole mebibytes, and stores take no smaller parts than five; that is taken
    // where it gives the same number of parts.
    let fits = |part: &u64| part.saturating_mul(u64::from(count.max(1)) - 1) < size;
    let rounded = part.max(PART_BYTES_MIN).next_multiple_of(1 << 20);
    let part = Some(rounded).filter(fits).unwrap_or(part);
    PartLayout::new(cut(size, part), None)
}

fn cut(size: u64, part: u64) -> impl Iterator<Item = u64> {
    let mut left = size;
    std::iter::from_fn(move || {
        let next = left.min(part);
        left -= next;
        (next > 0).then_some(next)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_parts_cover_the_object_with_the_number_of_parts_it_has() {
        for (size, count) in [(20 << 20, 3), (1, 1), (5_000_001, 2), (80_000_000_000, 10_000)] {
            let layout = equal_parts(size, count);
            assert_eq!((layout.total(), layout.count()), (size, count));
        }
        let sizes: Vec<u64> = equal_parts((16 << 20) + 5, 3).sizes().collect();
        assert_eq!(sizes, [6 << 20, 6 << 20, (4 << 20) + 5]);
        // Two parts of half the size each would be too small.
        let sizes: Vec<u64> = equal_parts((5 << 20) + 4, 2).sizes().collect();
        assert_eq!(sizes, [5 << 20, 4]);
    }

    #[test]
    fn an_object_of_any_size_fits_into_ten_thousand_parts() {
        let layout = default_layout(48 << 40, 5 << 30);
        assert!(layout.count() <= 10_000 && layout.total() == 48 << 40);
        let layout = default_layout((12 << 20) + 1, 5 << 20);
        let sizes: Vec<u64> = layout.sizes().collect();
        assert_eq!(sizes, [5 << 20, 5 << 20, (2 << 20) + 1]);
    }
}
