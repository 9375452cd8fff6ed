//! What the element counts, for the property `stats`.

#[derive(Debug, Default)]
pub struct Stats {
    pub incidents: u64,
    pub flagged: u64,
    pub bytes: u64,
    pub failed: u64,
    pub removed: u64,
    pub dropped: u64,
}

impl Stats {
    /// The value of the property.
    pub fn structure(&self) -> gst::Structure {
        gst::Structure::builder("stats")
            .field("incidents", self.incidents)
            .field("flagged", self.flagged)
            .field("bytes", self.bytes)
            .field("failed", self.failed)
            .field("removed", self.removed)
            .field("dropped", self.dropped)
            .build()
    }
}
