//! Exact sums of f32 values and of their squares, as whole numbers of any length.
//! Oracle of its own test: sums that a u128 holds.

/// A whole number below 2^1024 without a sign: words of 32 bits, the smallest first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Natural([u64; 32]);

impl Natural {
    const ZERO: Self = Self([0; 32]);

    /// Adds `value` times 2^shift.
    fn add_shifted(&mut self, value: u64, shift: usize) {
        let mut carry = u128::from(value) << (shift % 32);
        let mut at = shift / 32;
        while carry > 0 {
            let sum = carry + u128::from(self.0[at]);
            self.0[at] = (sum & 0xffff_ffff) as u64;
            carry = sum >> 32;
            at += 1;
        }
    }

    fn less(&self, other: &Self) -> bool {
        self.0.iter().rev().lt(other.0.iter().rev())
    }

    /// The difference from a smaller number.
    fn minus(&self, other: &Self) -> Self {
        let (mut out, mut borrow) = (Self::ZERO, 0);
        for (at, word) in out.0.iter_mut().enumerate() {
            let take = other.0[at] + borrow;
            borrow = u64::from(self.0[at] < take);
            *word = self.0[at] + (borrow << 32) - take;
        }
        out
    }

    fn times(&self, other: &Self) -> Self {
        let mut out = Self::ZERO;
        for (i, &a) in self.0.iter().enumerate().filter(|(_, a)| **a > 0) {
            for (j, &b) in other.0.iter().enumerate().filter(|(_, b)| **b > 0) {
                out.add_shifted(a * b, 32 * (i + j));
            }
        }
        out
    }

    /// Its first 64 bits, and the power of two that they are times.
    fn leading(&self) -> (u64, i32) {
        let Some(top) = self.0.iter().rposition(|word| *word > 0) else { return (0, 0) };
        let word = |back: usize| top.checked_sub(back).map_or(0, |at| u128::from(self.0[at]));
        let three = word(0) << 64 | word(1) << 32 | word(2);
        let shift = 128 - three.leading_zeros() as i32 - 64;
        ((three >> shift.max(0)) as u64, 32 * (top as i32 - 2) + shift.max(0))
    }
}

/// The smallest power of two that an f32 is a multiple of.
const UNIT: i32 = -149;

/// Sum and sum of squares of finite f32 values, without any rounding.
#[derive(Clone, Debug)]
pub(crate) struct Exact {
    positive: Natural,
    negative: Natural,
    squares: Natural,
    count: u64,
}

impl Exact {
    pub(crate) fn of(values: &[f32]) -> Self {
        let zero = Natural::ZERO;
        let mut sums =
            Self { positive: zero.clone(), negative: zero.clone(), squares: zero, count: 0 };
        for x in values {
            let bits = x.abs().to_bits();
            let (fraction, exponent) = (u64::from(bits & 0x7f_ffff), (bits >> 23) as usize);
            let (whole, shift) = match exponent {
                0 => (fraction, 0),
                _ => (fraction | 0x80_0000, exponent - 1),
            };
            let side = if *x < 0.0 { &mut sums.negative } else { &mut sums.positive };
            side.add_shifted(whole, shift);
            sums.squares.add_shifted(whole * whole, 2 * shift);
            sums.count += 1;
        }
        sums
    }

    fn sum(&self) -> (Natural, f64) {
        match self.positive.less(&self.negative) {
            true => (self.negative.minus(&self.positive), -1.0),
            false => (self.positive.minus(&self.negative), 1.0),
        }
    }

    /// The mean, rounded a few times (below 4u of itself).
    pub(crate) fn mean(&self) -> f64 {
        let (sum, sign) = self.sum();
        let (leading, power) = sum.leading();
        sign * scaled(leading as f64 / self.count as f64, power + UNIT)
    }

    /// The population variance: (n Σx² - (Σx)²) / n², exact up to the last two steps.
    pub(crate) fn variance(&self) -> f64 {
        let mut n = Natural::ZERO;
        n.add_shifted(self.count, 0);
        let (sum, _) = self.sum();
        let spread = self.squares.times(&n).minus(&sum.times(&sum));
        let (leading, power) = spread.leading();
        scaled(leading as f64 / (self.count as f64 * self.count as f64), power + 2 * UNIT)
    }
}

/// x times 2^power, in steps that stay within the range.
fn scaled(mut x: f64, mut power: i32) -> f64 {
    while power.abs() > 500 {
        x *= 2.0_f64.powi(500 * power.signum());
        power -= 500 * power.signum();
    }
    x * 2.0_f64.powi(power)
}

#[test]
fn sums_are_exact() {
    let values = [1.0, -3.0, 0.5, 1e30, -1e30, 7.0, f32::from_bits(1), -f32::from_bits(1)];
    let exact = Exact::of(&values);
    assert!((exact.mean() - 5.5 / 8.0).abs() < 1e-15, "{}", exact.mean());
    let exact = Exact::of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert!((exact.mean() - 3.5).abs() < 1e-15 && (exact.variance() - 35.0 / 12.0).abs() < 1e-14);
    // The spread of what f32 itself hardly holds: 10000 + k / 1024.
    let values: Vec<f32> = (0..4).map(|k| 10_000.0 + k as f32 / 1024.0).collect();
    let want = 1.25 / f64::from(1 << 20);
    assert!((Exact::of(&values).variance() / want - 1.0).abs() < 1e-15);
    let tiny = [f32::from_bits(1), f32::from_bits(3)];
    assert!((Exact::of(&tiny).variance() / 2.0_f64.powi(-298) - 1.0).abs() < 1e-15);
}
