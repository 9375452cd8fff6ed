//! Which encoded frames go into which file: a ring of the latest, and the incident that is open.

use std::collections::VecDeque;

/// An encoded frame. Times are running times in nanoseconds: encoders move time stamps.
#[derive(Debug, Clone)]
pub struct Unit<T> {
    pub time: u64,
    /// Can be decoded without those before it.
    pub key: bool,
    pub data: T,
}

/// What to do with files.
#[derive(Debug, PartialEq)]
pub enum Step<T> {
    /// Begin a file; the next unit is its first.
    Open,
    Write(Unit<T>),
    Close,
}

impl<T: PartialEq> PartialEq for Unit<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.time, self.key) == (other.time, other.key) && self.data == other.data
    }
}

/// Keeps `pre` nanoseconds from a key frame on, and cuts incidents out of the stream: from `pre` before the first flagged frame (and the
/// key frame before that) to `post` after the last. Incidents that would overlap are one; of one that goes on and on, another file begins
/// with the first key frame after `longest`, so that limits on what is kept can hold.
#[derive(Debug)]
pub struct Cutter<T> {
    pre: u64,
    post: u64,
    longest: u64,
    ring: VecDeque<Unit<T>>,
    /// How many of the ring's first units the open file has.
    written: usize,
    /// Until when the open file goes.
    end: Option<u64>,
    /// Time of the open file's first unit.
    begin: Option<u64>,
}

impl<T: Clone> Cutter<T> {
    pub fn new(pre: u64, post: u64, longest: u64) -> Self {
        Self {
            pre,
            post,
            longest,
            ring: VecDeque::new(),
            written: 0,
            end: None,
            begin: None,
        }
    }

    /// Until when the open incident goes; `None` where none is open.
    pub fn end(&self) -> Option<u64> {
        self.end
    }

    /// Takes in the time of the frame to come and whether it is a key frame, before anything else of it.
    pub fn split(&mut self, time: u64, key: bool, steps: &mut Vec<Step<T>>) {
        let long = self
            .begin
            .is_some_and(|begin| time.saturating_sub(begin) >= self.longest);
        let Some(end) = self.end.filter(|_| long && key) else {
            return;
        };
        // An incident to come may begin here, with what the two files have between them.
        self.end = Some(end.max(time));
        self.write(steps);
        self.close(steps);
        self.ring.clear();
        if time <= end {
            steps.push(Step::Open);
            self.end = Some(end);
        }
    }

    /// Takes in that the frame of this time is flagged, before its encoded form.
    pub fn flag(&mut self, time: u64, steps: &mut Vec<Step<T>>) {
        let end = time.saturating_add(self.post);
        match &mut self.end {
            Some(open) => *open = end.max(*open),
            None => {
                steps.push(Step::Open);
                self.end = Some(end);
                let start = time.saturating_sub(self.pre);
                let first = self.key_before(start);
                self.drop_first(first);
                self.written = 0;
            }
        }
        self.write(steps);
    }

    /// Takes in an encoded frame.
    pub fn add(&mut self, unit: Unit<T>, steps: &mut Vec<Step<T>>) {
        let now = unit.time;
        self.ring.push_back(unit);
        self.write(steps);
        let mut first = self.key_before(now.saturating_sub(self.pre));
        // Until here an incident to come would begin inside of the open one.
        let next_start = self.ring.get(first).map_or(now, |unit| unit.time);
        if self.end.is_some_and(|end| next_start > end) {
            self.close(steps);
        }
        if self.end.is_some() {
            first = first.min(self.written);
        }
        self.drop_first(first);
    }

    /// Ends the open incident, and forgets what came before: the frames to come do not follow on it.
    pub fn cut(&mut self, steps: &mut Vec<Step<T>>) {
        if self.end.is_some() {
            self.close(steps);
        }
        self.ring.clear();
    }

    fn close(&mut self, steps: &mut Vec<Step<T>>) {
        (self.end, self.begin) = (None, None);
        self.written = 0;
        steps.push(Step::Close);
    }

    /// The place of the last key frame that is not after `start`, or of the first one there is.
    fn key_before(&self, start: u64) -> usize {
        let keys = || self.ring.iter().enumerate().filter(|(_, unit)| unit.key);
        keys()
            .take_while(|(_, unit)| unit.time <= start)
            .last()
            .or_else(|| keys().next())
            .map_or(0, |(place, _)| place)
    }

    fn drop_first(&mut self, count: usize) {
        self.ring.drain(..count);
        self.written = self.written.saturating_sub(count);
    }

    /// Writes what the open file goes to and does not have.
    fn write(&mut self, steps: &mut Vec<Step<T>>) {
        let Some(end) = self.end else { return };
        while let Some(unit) = self.ring.get(self.written).filter(|unit| unit.time <= end) {
            // A file that begins with anything but a key frame shows nothing until the next one.
            if self.written > 0 || unit.key {
                self.begin = self.begin.or(Some(unit.time));
                steps.push(Step::Write(unit.clone()));
                self.written += 1;
            } else {
                self.ring.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Times of the units of each file, with whether the first is a key frame.
    fn files(steps: &[Step<()>]) -> Vec<Vec<(u64, bool)>> {
        let mut files = Vec::new();
        let mut open = false;
        for step in steps {
            match step {
                Step::Open => {
                    assert!(!std::mem::replace(&mut open, true));
                    files.push(Vec::new());
                }
                Step::Write(unit) => {
                    assert!(open);
                    files.last_mut().unwrap().push((unit.time, unit.key));
                }
                Step::Close => assert!(std::mem::replace(&mut open, false)),
            }
        }
        assert!(!open);
        files
    }

    proptest! {
        /// Whatever is flagged, with groups of any length: each flagged frame is in exactly one file;
        /// no frame is in two; a file begins with a key frame no later than `pre` before its first flagged frame, or at the stream's
        /// start, no more than a group and `pre` before it; it has every frame from there to `post` after its last.
        #[test]
        fn files_hold_what_they_promise(flagged in prop::collection::vec(prop::bool::weighted(0.06), 1..200), group in 1usize..30, pre in 0u64..20, post in 0u64..20, longest in 1u64..80) {
            let mut cutter = Cutter::new(10 * pre, 10 * post, 10 * longest);
            let mut steps = Vec::new();
            let unit = |frame: usize| Unit { time: 10 * frame as u64, key: frame.is_multiple_of(group), data: () };
            for (frame, flagged) in flagged.iter().enumerate() {
                let Unit { time, key, .. } = unit(frame);
                cutter.split(time, key, &mut steps);
                if *flagged {
                    cutter.flag(10 * frame as u64, &mut steps);
                }
                cutter.add(unit(frame), &mut steps);
                prop_assert!(cutter.ring.len() <= 2 * (pre + post) as usize + 2 * group + 2);
            }
            cutter.cut(&mut steps);
            let files = files(&steps);
            let times: Vec<u64> = files.iter().flatten().map(|(time, _)| *time).collect();
            prop_assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
            for file in &files {
                prop_assert!(file[0].1);
                // The run-up is there, however short a file may be.
                prop_assert!(file.len() as u64 <= longest.max(pre + group as u64) + group as u64);
            }
            let mut seen = 0;
            // What follows on another file without a gap is more of the same incident.
            let mut incidents: Vec<Vec<(u64, bool)>> = Vec::new();
            for file in files {
                match incidents.last_mut() {
                    Some(last) if last.last().is_some_and(|unit| unit.0 + 10 == file[0].0) => last.extend(file),
                    _ => incidents.push(file),
                }
            }
            for file in &incidents {
                prop_assert!(file.windows(2).all(|pair| pair[1].0 == pair[0].0 + 10), "{file:?}");
                let inside: Vec<u64> = file.iter().map(|(time, _)| *time).filter(|time| flagged[*time as usize / 10]).collect();
                seen += inside.len();
                let (first, last) = (inside[0], *inside.last().unwrap());
                prop_assert!(file[0].0 <= first.saturating_sub(10 * pre));
                prop_assert!(file[0].0 + 10 * (pre + group as u64) >= first || file[0].0 == 0);
                let stream_end = 10 * (flagged.len() as u64 - 1);
                prop_assert!(file.last().unwrap().0 >= (last + 10 * post).min(stream_end));
            }
            prop_assert_eq!(seen, flagged.iter().filter(|flagged| **flagged).count());
        }
    }
}
