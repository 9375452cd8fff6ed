//! What the element counts, for the property `stats`.

#[derive(Debug, Default)]
pub struct Stats {
    pub incidents: u64,
    pub flagged: u64,
    pub bytes: u64,
    pub failed: u64,
    pub missed: u64,
    pub removed: u64,
    pub dropped: u64,
    pub untimed: u64,
    pub jumps: u64,
    pub unread: u64,
    /// That frames are dropped has been told, in this incident.
    pub dropped_told: bool,
}

impl Stats {
    /// Counts frames that are dropped. Returns whether that is to be told: once per incident.
    pub fn add_dropped(&mut self, frames: u64) -> bool {
        self.dropped += frames;
        !std::mem::replace(&mut self.dropped_told, true)
    }

    /// The value of the property.
    pub fn structure(&self) -> gst::Structure {
        gst::Structure::builder("stats")
            .field("incidents", self.incidents)
            .field("flagged", self.flagged)
            .field("bytes", self.bytes)
            .field("failed", self.failed)
            .field("missed", self.missed)
            .field("removed", self.removed)
            .field("dropped", self.dropped)
            .field("untimed", self.untimed)
            .field("jumps", self.jumps)
            .field("unread", self.unread)
            .build()
    }
}
