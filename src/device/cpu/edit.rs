//! edit: writes into chosen columns of chosen tokens.

use super::buffer::Tensor;
use crate::device::ops::{Edit, Write};

/// See [`Edit`].
pub(super) fn edit(edit: &Edit, x: &mut Tensor) {
    let cols = x.cols();
    let every: Vec<u32>;
    let columns = match &edit.columns {
        Some(columns) => columns,
        None => {
            every = (0..u32::try_from(cols).expect("few columns")).collect();
            &every
        }
    };
    let write = |row: &mut [f32]| {
        for (i, &column) in columns.iter().enumerate() {
            let x = &mut row[column as usize];
            match &edit.write {
                Write::Set(values) => *x = values[i % values.len()],
                Write::Add(values) => *x += values[i % values.len()],
                Write::Scale(factor) => *x *= factor,
            }
        }
    };
    match &edit.tokens {
        None => x.par_rows(|_, rows| rows.chunks_exact_mut(cols).for_each(write)),
        Some(tokens) => {
            for &token in tokens {
                write(&mut x.values_mut()[token as usize * cols..][..cols]);
            }
        }
    }
}
