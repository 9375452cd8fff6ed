//! From a mask to the patches that are judged.

use crate::detector::error::FitError;
use crate::geometry::Size;
use ndarray::{ArrayView2, s};

/// The patches half of whose cells and more are judged.
///
/// # Errors
/// [`FitError::NothingJudged`]: none is.
pub fn judged(mask: ArrayView2<'_, bool>, grid: Size) -> Result<Vec<bool>, FitError> {
    let (height, width) = mask.dim();
    let range = |cell: usize, cells: usize, length: usize| {
        let from = (cell * length / cells).min(length.saturating_sub(1));
        from..((cell + 1) * length / cells).clamp(from + 1, length.max(from + 1))
    };
    let cells = (0..grid.height).flat_map(|row| (0..grid.width).map(move |column| (row, column)));
    let judged: Vec<bool> = cells
        .map(|(row, column)| {
            let rows = range(row, grid.height, height);
            let cell = mask.slice(s![rows, range(column, grid.width, width)]);
            2 * cell.iter().filter(|judged| **judged).count() >= cell.len()
        })
        .collect();
    match judged.contains(&true) {
        true => Ok(judged),
        false => Err(FitError::NothingJudged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn half_a_cell_is_enough() {
        // Two cells across: three quarters of the left one are white, a quarter of the right one.
        let mask = Array2::from_shape_fn((2, 8), |(_, x)| x < 3 || x == 7);
        let judge = |mask: &Array2<bool>, grid| judged(mask.view(), grid);
        assert_eq!(judge(&mask, Size::new(1, 2)).unwrap(), [true, false]);
        // A mask that is smaller than the grid is stretched.
        assert_eq!(judge(&mask, Size::new(1, 16)).unwrap().len(), 16);
        let black = Array2::from_elem((4, 4), false);
        assert!(matches!(
            judge(&black, Size::new(2, 2)),
            Err(FitError::NothingJudged)
        ));
    }
}
