//! The frames of one stream: their numbers, and what was lost between them.

/// What is known of a stream between start and stop, whatever is done with its frames.
#[derive(Default)]
pub struct Stream {
    next_frame: u64,
    /// The last buffer: its frame number and the time of its end.
    last: Option<(Option<u64>, Option<gst::ClockTime>)>,
}

impl Stream {
    /// Takes the number of the next frame, from 0.
    pub fn count_frame(&mut self) -> u64 {
        self.next_frame += 1;
        self.next_frame - 1
    }

    /// The number that the next frame will have.
    pub fn next_frame(&self) -> u64 {
        self.next_frame
    }

    /// Forgets the last buffer: the next one follows on a seek or a new stream, not on it.
    pub fn forget_last(&mut self) {
        self.last = None;
    }

    /// Frames missing before this one: by the frame numbers where both buffers have them, else by the times, else one for a discontinuity.
    pub fn frames_lost(&mut self, buffer: &gst::BufferRef) -> u64 {
        let end = buffer
            .pts()
            .zip(buffer.duration())
            .map(|(pts, duration)| pts.saturating_add(duration));
        // The offset of a frame is its number; of a parsed file, its place in bytes. Only frames end one further on.
        let number = Some(buffer.offset())
            .filter(|offset| offset.checked_add(1) == Some(buffer.offset_end()));
        let Some((last_number, last_end)) = self.last.replace((number, end)) else {
            return 0;
        };
        if let Some((last, number)) = last_number.zip(number)
            && number > last
        {
            return number - last - 1;
        }
        if !buffer.flags().contains(gst::BufferFlags::DISCONT) {
            return 0;
        }
        let gap = buffer
            .pts()
            .zip(last_end)
            .and_then(|(pts, end)| pts.checked_sub(end));
        match gap.zip(buffer.duration()) {
            Some((gap, duration)) if duration > gst::ClockTime::ZERO => {
                let (gap, duration) = (gap.nseconds(), duration.nseconds());
                ((gap + duration / 2) / duration).max(1)
            }
            _ => 1,
        }
    }
}
