//! Where the tokens of a packed batch stand in the padded grid they came in.

/// See the module.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Rows B.
    pub rows: usize,
    /// Padded length S.
    pub length: usize,
    /// First token of each row, and the end, `[B + 1]`.
    pub starts: Vec<u32>,
    /// Cell of each token, `[T]`, ascending: row * S + position.
    pub cells: Vec<usize>,
}

impl Grid {
    /// The token at a place of the grid; none if there is a pad, or no such place.
    pub fn token(&self, row: u32, position: u32) -> Option<u32> {
        let (row, position) = (row as usize, position as usize);
        let there = row < self.rows && position < self.length;
        let found = there.then(|| self.cells.binary_search(&(row * self.length + position)));
        found?.ok().map(|token| u32::try_from(token).expect("a batch has fewer than 2^32 tokens"))
    }

    /// The row of a token.
    pub fn row(&self, token: u32) -> usize {
        self.starts.partition_point(|start| *start <= token) - 1
    }

    /// All tokens.
    pub fn tokens(&self) -> u32 {
        self.starts[self.rows]
    }
}
