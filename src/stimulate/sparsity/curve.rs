//! How much of a layer's output its tail holds, by threshold: measured at some, found for a share.

/// A threshold and what was measured there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// e.
    pub threshold: f32,
    /// CETT(e), see [`super`].
    pub cett: f64,
    /// Share of neurons outside the tail.
    pub active: f64,
}

/// Points of one layer, by ascending threshold. The first is at 0, where the tail holds nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    points: Vec<Point>,
}

impl Curve {
    /// Thresholds to begin with: 0, the largest size there is, and so many between.
    pub fn range(largest: f32, count: u32) -> Vec<f32> {
        let mut all = vec![0.0];
        if largest.is_finite() && largest > 0.0 {
            all.extend(geometric(largest * FLOOR, largest, count));
            all.push(largest);
        }
        all
    }

    /// Adds points; one that is there stays.
    pub fn add(&mut self, points: impl IntoIterator<Item = Point>) {
        self.points.extend(points);
        self.points.sort_by(|a, b| a.threshold.total_cmp(&b.threshold));
        self.points.dedup_by(|later, first| later.threshold == first.threshold);
    }

    /// The points, by ascending threshold.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The last point before the curve first passes `share`, and the next one, if there is one. A
    /// norm of a sum need not grow with the tail: what lies beyond the first crossing is not used.
    /// Where even the smallest threshold above 0 is too much, that is the point at 0, which cuts
    /// nothing (the authors' code takes the largest threshold there, by an index of -1).
    pub fn around(&self, share: f64) -> (Point, Option<Point>) {
        let first = self.points.iter().position(|point| point.cett.is_nan() || point.cett > share);
        match first {
            None => (self.points[self.points.len() - 1], None),
            Some(at) => (self.points[at.max(1) - 1], Some(self.points[at])),
        }
    }

    /// So many thresholds, geometric between the points around a share.
    pub fn between(&self, share: f64, count: u32) -> Vec<f32> {
        match self.around(share) {
            (_, None) => Vec::new(),
            (below, Some(above)) => {
                geometric(below.threshold.max(above.threshold * FLOOR), above.threshold, count)
            }
        }
    }

    /// Thresholds that bring the points around a share nearer to it: where a line between them meets
    /// the share, a little to both sides, and the middle. None where the points are at most
    /// `tolerance` of CETT apart, or no number lies between their thresholds.
    pub fn nearer(&self, share: f64, tolerance: f64) -> Vec<f32> {
        let (below, Some(above)) = self.around(share) else { return Vec::new() };
        if above.cett - below.cett <= tolerance {
            return Vec::new();
        }
        let part = ((share - below.cett) / (above.cett - below.cett)).clamp(0.0, 1.0);
        let part = if part.is_nan() { 0.5 } else { part };
        let parts = [part * (1.0 - BESIDE), part, part + (1.0 - part) * BESIDE, 0.5];
        let (low, high) = (f64::from(below.threshold), f64::from(above.threshold));
        #[expect(clippy::cast_possible_truncation, reason = "thresholds of f32 values")]
        let mut found = parts.map(|part| (low + (high - low) * part) as f32).to_vec();
        found.retain(|e| *e > below.threshold && *e < above.threshold);
        found.sort_by(f32::total_cmp);
        found.dedup();
        found
    }
}

/// How far to both sides of a guess is looked, as a share of the way there.
const BESIDE: f64 = 1.0 / 16.0;
/// Thresholds below this share of one that is known are not looked for.
pub(super) const FLOOR: f32 = 1e-4;

/// So many numbers strictly between two, each the same factor above the one before.
pub(super) fn geometric(low: f32, high: f32, count: u32) -> Vec<f32> {
    let (low, high) = (f64::from(low), f64::from(high));
    if !(low > 0.0 && high > low) {
        return Vec::new();
    }
    let at = |i: u32| low * (high / low).powf(f64::from(i + 1) / f64::from(count + 1));
    #[expect(clippy::cast_possible_truncation, reason = "thresholds of f32 values")]
    (0..count).map(|i| at(i) as f32).collect()
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.

    use super::*;

    fn curve(points: &[(f32, f64)]) -> Curve {
        let mut curve = Curve::default();
        curve.add(points.iter().map(|&(threshold, cett)| Point { threshold, cett, active: 0.5 }));
        curve
    }

    #[test]
    fn a_share_lies_before_the_first_crossing() {
        let curve = curve(&[(0.0, 0.0), (4.0, 0.15), (1.0, 0.1), (2.0, 0.3), (8.0, 1.0)]);
        assert_eq!(curve.around(0.2).0.threshold, 1.0, "not 4: the curve was above 0.2 before");
        assert_eq!(curve.around(0.2).1.map(|point| point.threshold), Some(2.0));
        assert_eq!(curve.around(1.0).0.threshold, 8.0);
        assert_eq!(curve.nearer(0.2, 0.1), [1.46875, 1.5, 1.53125], "the middle is the guess");
        assert!(curve.nearer(0.2, 0.25).is_empty(), "near enough");
    }

    /// Of x^2 and of a step, which no line meets.
    #[test]
    fn looking_nearer_ends_at_the_crossing() {
        for (of, crossing) in [
            ((|x: f32| f64::from(x).powi(2)) as fn(f32) -> f64, 0.3_f64.sqrt()),
            (|x| if x < 0.7 { 0.1 } else { 0.9 }, 0.7),
        ] {
            let mut found = curve(&[(0.0, 0.0), (1.0, 1.0)]);
            for _ in 0..30 {
                let looked = found.nearer(0.3, 1e-6);
                let point = |&e: &f32| Point { threshold: e, cett: of(e), active: 0.5 };
                found.add(looked.iter().map(point).collect::<Vec<_>>());
            }
            let (below, above) = found.around(0.3);
            let above = above.expect("there is one");
            assert!(below.cett <= 0.3 && above.cett > 0.3, "{below:?} {above:?}");
            assert!((f64::from(below.threshold) - crossing).abs() < 1e-5, "{below:?}");
        }
    }

    #[test]
    fn where_every_threshold_is_too_much_nothing_is_cut() {
        let curve = curve(&[(0.0, 0.0), (1.0, 0.4), (2.0, 0.9)]);
        assert_eq!(curve.around(0.1).0.threshold, 0.0);
        let looked = curve.between(0.1, 3);
        assert!(looked.len() == 3 && looked.iter().all(|e| (1e-4..1.0).contains(e)), "{looked:?}");
    }
}
