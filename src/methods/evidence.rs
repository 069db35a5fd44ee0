//! What a method sees of one neuron: moments per class, and its values in order with the classes
//! they belong to. The same view is made from a matrix (one cell per distinct value, exact) and
//! from a run's histograms (one cell per bin), so each formula is written once.

/// Moments of one neuron over the rows of one class (or of all classes together).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassStat {
    /// Finite values.
    pub n: u64,
    /// Their mean; 0 where there is none.
    pub mean: f64,
    /// Sum of squared differences from the mean.
    pub m2: f64,
    /// Smallest value, +inf where there is none.
    pub min: f64,
    /// Largest value, -inf where there is none.
    pub max: f64,
    /// Values above 0.
    pub firing: u64,
}

impl Default for ClassStat {
    fn default() -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { n: 0, mean: 0.0, m2: 0.0, min, max, firing: 0 }
    }
}

impl ClassStat {
    /// Number of values as a float: counts stay far below 2^53.
    pub fn count(&self) -> f64 {
        self.n as f64
    }

    /// Population variance.
    pub fn variance(&self) -> f64 {
        if self.n == 0 { 0.0 } else { self.m2 / self.count() }
    }

    /// Absorbs another class (Chan, Golub & LeVeque 1979).
    pub fn merge(&mut self, other: &Self) {
        if other.n == 0 {
            return;
        }
        let (a, b) = (self.count(), other.count());
        let delta = other.mean - self.mean;
        self.m2 += other.m2 + delta * delta * (a * b / (a + b));
        self.mean += delta * (b / (a + b));
        self.n += other.n;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.firing += other.firing;
    }
}

/// One neuron as methods see it.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// By class, in the order of the design.
    pub classes: Vec<ClassStat>,
    /// All classes together.
    pub total: ClassStat,
    /// Its values in order; empty when the method did not ask for them.
    pub cells: Cells,
}

impl Evidence {
    /// Sums the classes up. A constant neuron has one cell, so that its average precision is the
    /// prevalence and its AUROC 1/2 whatever its last digits say.
    pub fn new(classes: Vec<ClassStat>, cells: Cells) -> Self {
        let mut total = ClassStat::default();
        for class in &classes {
            total.merge(class);
        }
        let mut evidence = Self { classes, total, cells };
        if evidence.constant() && evidence.cells.len() > 1 {
            evidence.cells.span = vec![(total.min, total.min)];
            evidence.cells.starts = vec![0, evidence.cells.entries.len()];
        }
        evidence
    }

    /// Whether the neuron says nothing: one value only, or a [`negligible`] spread.
    pub fn constant(&self) -> bool {
        let total = &self.total;
        total.min >= total.max || negligible(total.variance(), total.mean)
    }

    /// Mean and sum of squares of everything outside class `g`, from the total and the class, so
    /// that a pass over G classes costs G and not G^2. Extremes and firing are not split off.
    pub fn rest(&self, g: usize) -> ClassStat {
        let (class, total) = (&self.classes[g], &self.total);
        let n = total.n - class.n;
        if n == 0 {
            return ClassStat::default();
        }
        // Around the total mean, so that a large mean does not cancel.
        let own = class.mean - total.mean;
        let other = -class.count() * own / n as f64;
        let between = class.count() * own * own + n as f64 * other * other;
        let m2 = total.m2 - class.m2 - between;
        // What the subtraction leaves below its own rounding is zero spread.
        let m2 = if m2 <= 1e-13 * total.m2 { 0.0 } else { m2 };
        ClassStat { n, mean: total.mean + other, m2, ..ClassStat::default() }
    }
}

/// The values of a neuron in ascending order, cut into cells, with counts by class.
#[derive(Clone, Debug, Default)]
pub struct Cells {
    /// Cells are single values and not bins.
    pub exact: bool,
    /// Lower and upper end of each cell: equal when exact, else values lie in (lower, upper].
    pub span: Vec<(f64, f64)>,
    /// Where each cell's entries start, and the end.
    pub starts: Vec<usize>,
    /// (class, count) of each cell; a class may come twice.
    pub entries: Vec<(u32, u32)>,
}

impl Cells {
    /// One cell per distinct value of `(value, class)` pairs, which are sorted here.
    pub fn from_values(pairs: &mut [(f64, u32)]) -> Self {
        pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut cells =
            Self { exact: true, entries: Vec::with_capacity(pairs.len()), ..Self::default() };
        for &(value, class) in pairs.iter() {
            // -0 and 0 are one value though total_cmp tells them apart.
            if cells.span.last().is_none_or(|&(last, _)| last != value) {
                cells.span.push((value, value));
                cells.starts.push(cells.entries.len());
            }
            cells.entries.push((class, 1));
        }
        cells.starts.push(cells.entries.len());
        cells
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.span.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.span.is_empty()
    }

    /// (class, count) of one cell.
    pub fn entries(&self, cell: usize) -> &[(u32, u32)] {
        &self.entries[self.starts[cell]..self.starts[cell + 1]]
    }

    /// Values in one cell.
    pub fn count(&self, cell: usize) -> u64 {
        self.entries(cell).iter().map(|&(_, k)| u64::from(k)).sum()
    }

    /// The value below which a share `q` lies, of one class or of all; linear between order
    /// statistics as numpy has it, linear inside bins.
    pub fn quantile(&self, q: f64, class: Option<u32>) -> Option<f64> {
        let count = |cell: usize| -> u64 {
            let of_class = |&&(c, _): &&(u32, u32)| class.is_none_or(|wanted| wanted == c);
            self.entries(cell).iter().filter(of_class).map(|&(_, k)| u64::from(k)).sum()
        };
        let counts: Vec<u64> = (0..self.len()).map(count).collect();
        let n: u64 = counts.iter().sum();
        let place = n.checked_sub(1)? as f64 * q.clamp(0.0, 1.0);
        if !self.exact {
            return self.inside_bin(&counts, place);
        }
        let at = |rank: u64| {
            let mut seen = 0;
            let hit = counts.iter().position(|&k| {
                seen += k;
                seen > rank
            });
            self.span[hit.expect("the rank is below the count")].0
        };
        let low = place.floor() as u64;
        let (a, b) = (at(low), at((low + 1).min(n - 1)));
        // numpy's lerp, whichever end is nearer, so that thresholds agree to the bit.
        let t = place - place.floor();
        Some(if t >= 0.5 { b - (b - a) * (1.0 - t) } else { a + (b - a) * t })
    }

    fn inside_bin(&self, counts: &[u64], place: f64) -> Option<f64> {
        let mut seen = 0.0;
        let mut last = None;
        for (&(low, high), &k) in self.span.iter().zip(counts) {
            if k == 0 {
                continue;
            }
            let k = k as f64;
            if place < seen + k {
                return Some(low + (high - low) * ((place - seen + 0.5) / k).clamp(0.0, 1.0));
            }
            seen += k;
            last = Some(high);
        }
        last
    }

    /// First cell that lies above `threshold`; with bins the border nearest to it decides.
    pub fn first_above(&self, threshold: f64) -> usize {
        if self.exact {
            return self.span.partition_point(|&(low, _)| low <= threshold);
        }
        let border = |j: usize| match self.span.get(j) {
            Some(&(low, _)) => low,
            None => self.span.last().map_or(0.0, |&(_, high)| high),
        };
        (0..=self.len())
            .min_by(|&a, &b| {
                (border(a) - threshold).abs().total_cmp(&(border(b) - threshold).abs())
            })
            .unwrap_or(0)
    }

    /// Number of cells, from the lowest, that lie below `threshold`.
    pub fn cells_below(&self, threshold: f64) -> usize {
        if self.exact {
            return self.span.partition_point(|&(low, _)| low < threshold);
        }
        self.first_above(threshold)
    }

    /// Sums of mid-ranks by class, and what their tests need.
    pub fn ranks(&self, classes: usize) -> Ranks {
        let mut ranks = Ranks { sums: vec![0.0; classes], ..Ranks::default() };
        let mut seen = 0.0;
        for cell in 0..self.len() {
            let k = self.count(cell) as f64;
            let middle = seen + (k + 1.0) / 2.0;
            for &(class, count) in self.entries(cell) {
                ranks.sums[class as usize] += f64::from(count) * middle;
            }
            ranks.ties += k * (k * k - 1.0);
            seen += k;
        }
        ranks.n = seen;
        ranks
    }

    /// The same cells with everything strictly inside (-limit, limit) made one value, 0.
    pub fn flattened(&self, limit: f64) -> Self {
        let inside = |&(low, high): &(f64, f64)| low.abs() < limit && high.abs() < limit;
        let mut flat = Self { exact: self.exact, ..Self::default() };
        let mut previous = false;
        for (cell, span) in self.span.iter().enumerate() {
            let flattened = inside(span);
            if !(flattened && previous) {
                flat.span.push(if flattened { (0.0, 0.0) } else { *span });
                flat.starts.push(self.starts[cell]);
            }
            previous = flattened;
        }
        flat.starts.push(self.entries.len());
        flat.entries.clone_from(&self.entries);
        flat
    }
}

/// See [`Cells::ranks`].
#[derive(Clone, Debug, Default)]
pub struct Ranks {
    /// Sum of mid-ranks (from 1) of each class.
    pub sums: Vec<f64>,
    /// sum over cells of k^3 - k.
    pub ties: f64,
    /// Values.
    pub n: f64,
}

impl Ranks {
    /// Sum of squared differences of the mid-ranks from their mean.
    pub fn m2(&self) -> f64 {
        (self.n * (self.n * self.n - 1.0) - self.ties) / 12.0
    }
}

/// Whether a spread is one that f32 cannot carry.
///
/// It is measured against the mean alone. An absolute floor as well would call dead neurons constant
/// whose values, of the order of 1e-30, still differ by class: the published definitions score them
/// like others, and all-MiniLM-L6-v2 has three.
pub fn negligible(variance: f64, mean: f64) -> bool {
    variance <= 1e-12 * mean.powi(2)
}
