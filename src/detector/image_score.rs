//! What of an image's patch scores is its score.

/// What of an image's patch scores is its score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageScore {
    /// The maximum of the anomaly map, times the head's image weight: as published.
    MapMaximum,
    /// The mean of so many of the highest patch scores. A maximum is decided by a single patch, so that the threshold is set by the one
    /// oddest patch of all good images; a defect is seldom smaller than a few patches. The map is scaled so that its maximum is this
    /// score: an image that is flagged shows where, and one that is not does not look flagged.
    HighestPatches(usize),
}
