//! One launch of a conformance kernel, and what each word of its output has to be.

/// What a word has to be; the floats are f32.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    Bits(u32),
    /// Any NaN.
    Nan,
    /// A float at most so many units in the last place from a value.
    Ulps(f64, f64),
    /// A float at most so far from a value.
    Within(f64, f64),
}

impl Want {
    /// What IEEE 754 says exactly, but which NaN.
    pub(super) fn float(x: f32) -> Self {
        if x.is_nan() { Self::Nan } else { Self::Bits(x.to_bits()) }
    }

    /// An approximation within so many units.
    pub(super) fn near(x: f64, ulps: f64) -> Self {
        let kept = x as f32;
        if x.is_nan() || kept.is_infinite() { Self::float(kept) } else { Self::Ulps(x, ulps) }
    }

    /// How far a float may be, and from what; nothing where bits or kind alone count.
    fn room(self) -> Option<(f64, f64)> {
        match self {
            Self::Bits(_) | Self::Nan => None,
            Self::Ulps(x, ulps) => Some((x, ulps * unit(x))),
            Self::Within(x, error) => Some((x, error)),
        }
    }

    fn admits(self, word: u32) -> bool {
        match (self, self.room()) {
            (Self::Bits(want), _) => word == want,
            (_, Some((want, room))) => (float(word) - want).abs() <= room,
            _ => float(word).is_nan(),
        }
    }

    /// Whether two machines agree, each of which may be off by as much as is documented.
    fn alike(self, ours: u32, theirs: u32) -> bool {
        match (self, self.room()) {
            (Self::Bits(_), _) => ours == theirs,
            (_, Some((_, room))) => (float(ours) - float(theirs)).abs() <= 2.0 * room,
            _ => float(ours).is_nan() && float(theirs).is_nan(),
        }
    }
}

fn float(word: u32) -> f64 {
    f64::from(f32::from_bits(word))
}

/// One unit in the last place of an f32 of this size.
fn unit(x: f64) -> f64 {
    let exponent = (x.to_bits() >> 52 & 0x7ff).cast_signed() - 1023;
    2.0_f64.powi(exponent.max(-126) as i32 - 23)
}

/// A bf16 matrix in memory, read in boxes of 64 columns.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub(super) values: Vec<f32>,
    pub(super) columns: usize,
    pub(super) box_rows: u32,
}

/// What the argument struct holds beside pointers.
#[derive(Clone, Debug)]
pub(super) enum Arguments {
    Count(u32),
    Boxes(Matrix, u32),
    Product([Matrix; 2], u32),
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) stem: &'static str,
    pub(super) kernel: &'static str,
    /// Tells cases of one kernel apart.
    pub(super) variant: &'static str,
    pub(super) threads: u32,
    /// Bytes of dynamic shared memory.
    pub(super) shared: u32,
    pub(super) input: Vec<u32>,
    pub(super) arguments: Arguments,
    pub(super) want: Vec<Want>,
}

impl Case {
    /// With one item for each word of input, and nothing wanted yet.
    pub(super) fn new(stem: &'static str, kernel: &'static str, input: Vec<u32>) -> Self {
        let arguments = Arguments::Count(input.len() as u32);
        let (threads, shared, variant) = (256, 0, "");
        Self { stem, kernel, variant, threads, shared, input, arguments, want: Vec::new() }
    }

    pub(super) fn name(&self) -> String {
        let dot = if self.variant.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.kernel, self.variant)
    }

    /// All that the kernel reads, as bytes.
    pub(super) fn everything_read(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.input.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(format!("{:?}", self.arguments).into_bytes());
        bytes
    }

    pub(super) fn check_word(&self, at: usize, word: u32) -> bool {
        self.want[at].admits(word)
    }

    /// Whether the law holds for all of an output.
    pub(super) fn check(&self, out: &[u32]) -> Result<(), String> {
        self.each(out, |at, word| self.check_word(at, word))
    }

    pub(super) fn compare_word(&self, at: usize, ours: u32, theirs: u32) -> bool {
        self.want[at].alike(ours, theirs)
    }

    /// Whether two outputs are the same, as far as the operation is exact.
    pub(super) fn compare(&self, ours: &[u32], theirs: &[u32]) -> Result<(), String> {
        assert_eq!(ours.len(), self.want.len(), "{}", self.name());
        self.each(theirs, |at, word| self.compare_word(at, ours[at], word))
    }

    fn each(&self, out: &[u32], right: impl Fn(usize, u32) -> bool) -> Result<(), String> {
        let name = self.name();
        if out.len() != self.want.len() {
            return Err(format!("{name}: {} words, not {}", out.len(), self.want.len()));
        }
        let wrong: Vec<usize> = (0..out.len()).filter(|&at| !right(at, out[at])).collect();
        let Some(&at) = wrong.first() else { return Ok(()) };
        let (word, want) = (out[at], self.want[at]);
        Err(format!(
            "{name}: {} of {} words; first word {at}: {word:#010x} ({:e}), not {want:x?}",
            wrong.len(),
            out.len(),
            f32::from_bits(word),
        ))
    }

    /// Another word in place of a right one: a bit more, where bits count; a float elsewhere.
    pub(super) fn spoiled(&self, at: usize, word: u32) -> u32 {
        match self.want[at] {
            Want::Bits(_) => word ^ 1,
            _ => word ^ 0x4000_0000,
        }
    }
}
