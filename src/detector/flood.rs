//! Connected parts of a grid, one at a time.

use crate::geometry::Size;

/// Keeps its memory from one part to the next.
#[derive(Debug, Clone, Default)]
pub struct Flood {
    pending: Vec<usize>,
}

impl Flood {
    /// For grids of this size: filling one allocates nothing then.
    pub fn for_grid(size: Size) -> Self {
        Self {
            pending: Vec::with_capacity(size.area()),
        }
    }

    /// Goes over the 8-connected part of a grid that `start` belongs to (places are numbered row by row). `enter` is asked for `start`
    /// and for every place that touches the part; it says whether the place belongs to it and has not been entered before, and notes that.
    pub fn fill(&mut self, start: usize, size: Size, mut enter: impl FnMut(usize) -> bool) {
        let Size { height, width } = size;
        if enter(start) {
            self.pending.push(start);
        }
        while let Some(place) = self.pending.pop() {
            let (x, y) = (place % width, place / width);
            for near_y in y.saturating_sub(1)..(y + 2).min(height) {
                for near_x in x.saturating_sub(1)..(x + 2).min(width) {
                    let near = near_y * width + near_x;
                    if enter(near) {
                        self.pending.push(near);
                    }
                }
            }
        }
    }
}
