//! Numbers in few characters: the page draws five digits at most, the tables keep all of them.

use serde::{Serialize, Serializer};

/// A number with five significant digits; `null` where it is not finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Short(pub(super) f64);

impl From<f64> for Short {
    fn from(value: f64) -> Self {
        Self(value)
    }
}

impl From<f32> for Short {
    fn from(value: f32) -> Self {
        Self(f64::from(value))
    }
}

impl Serialize for Short {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.0.is_finite() {
            return serializer.serialize_none();
        }
        let rounded: f64 =
            format!("{:.4e}", self.0).parse().expect("a formatted number is a number");
        if rounded.fract() == 0.0 && rounded.abs() < 1e9 {
            // `3` for `3.0`; exact, since it is whole and fits.
            #[expect(clippy::cast_possible_truncation, reason = "below 1e9 in size")]
            return serializer.serialize_i64(rounded as i64);
        }
        serializer.serialize_f64(rounded)
    }
}

#[cfg(test)]
mod tests {
    use super::Short;

    /// Oracle: rounded by hand.
    #[test]
    fn five_digits_and_no_more() {
        let cases = [
            (0.123_456_7, "0.12346"),
            (3.0, "3"),
            (-0.0, "0"),
            (1e-300, "1e-300"),
            (123_456.7, "123460"),
            (f64::NAN, "null"),
            (f64::INFINITY, "null"),
        ];
        for (value, expected) in cases {
            assert_eq!(serde_json::to_string(&Short(value)).expect("serialises"), expected);
        }
    }
}
