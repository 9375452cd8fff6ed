//! How many raw frames have had to go before the encoder. A leaky queue says that it is full, and not what it drops.

use gst::ClockTime;
use std::collections::VecDeque;

/// Frames of which the times are known: those in the queue, and as many that it has dropped.
const KNOWN: usize = 64;

/// The frames that go into a queue, with times that only go forward, and come out of it or not.
#[derive(Debug)]
pub struct Queued {
    /// So many it holds.
    limit: u64,
    /// Times of the frames that have gone in and were not overtaken yet.
    times: VecDeque<ClockTime>,
    /// The number of the first of them.
    first: u64,
    /// Frames that have come out.
    left: u64,
    /// Frames that have had to go, as far as that is certain.
    dropped: u64,
}

impl Queued {
    pub fn new(limit: u32) -> Self {
        Self {
            limit: limit.into(),
            times: VecDeque::with_capacity(KNOWN + 1),
            first: 0,
            left: 0,
            dropped: 0,
        }
    }

    /// A frame goes in. Returns how many more are certain to have had to go.
    pub fn enter(&mut self, time: ClockTime) -> u64 {
        let before = self.first + self.times.len() as u64;
        self.times.push_back(time);
        if self.times.len() > KNOWN {
            self.times.pop_front();
            self.first += 1;
        }
        // Of those before it one may be on its way out.
        self.count(before.saturating_sub(self.left + self.limit + 1))
    }

    /// A frame comes out. Returns how many more have had to go before it.
    pub fn leave(&mut self, time: ClockTime) -> u64 {
        let earlier = self.times.iter().take_while(|its| **its < time).count();
        self.times.drain(..earlier);
        self.first += earlier as u64;
        let mut dropped = self.dropped;
        if self.times.front() == Some(&time) {
            dropped = self.first - self.left;
            self.times.pop_front();
            self.first += 1;
        }
        self.left += 1;
        self.count(dropped)
    }

    fn count(&mut self, dropped: u64) -> u64 {
        let more = dropped.saturating_sub(self.dropped);
        self.dropped += more;
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A queue that drops its oldest, with one frame on its way out at most, whatever comes first: no frame is counted that comes out,
        /// none twice, and at the end each that did not.
        #[test]
        fn what_does_not_come_out_is_counted(steps in prop::collection::vec(0u8..4, 1..2000), limit in 1u32..20) {
            let mut counter = Queued::new(limit);
            let (mut queue, mut out) = (VecDeque::new(), None);
            let (mut number, mut counted, mut dropped) = (0, 0, 0);
            let time = |number: u64| ClockTime::from_mseconds(number);
            for step in steps.into_iter().chain(std::iter::repeat_n(3, 2)) {
                match step {
                    // In: counted first, and then the queue makes room.
                    0 | 1 => {
                        counted += counter.enter(time(number));
                        prop_assert!(counted <= dropped);
                        if queue.len() == limit as usize {
                            queue.pop_front();
                            dropped += 1;
                        }
                        queue.push_back(number);
                        number += 1;
                    }
                    // Out of the queue, and only then seen.
                    2 => if out.is_none() { out = queue.pop_front() },
                    _ => if let Some(number) = out.take() { counted += counter.leave(time(number)) },
                }
                prop_assert!(counted <= dropped);
                prop_assert!(dropped - counted <= KNOWN as u64);
            }
            while let Some(number) = out.take().or_else(|| queue.pop_front()) {
                counted += counter.leave(time(number));
            }
            prop_assert_eq!(counted, dropped);
        }
    }
}
