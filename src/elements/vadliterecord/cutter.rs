//! Which encoded frames go into which file: a ring of the latest, and the incident that is open.

use std::collections::VecDeque;

/// An encoded frame. Times are running times in nanoseconds: encoders move time stamps.
#[derive(Debug, Clone)]
pub struct Unit<T> {
    pub time: u64,
    /// Can be decoded without those before it.
    pub key: bool,
    /// In bytes.
    pub size: usize,
    pub data: T,
}

/// Most that is kept in memory of what may become the beginning of a recording.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub bytes: usize,
    pub frames: usize,
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
    limits: Limits,
    ring: VecDeque<Unit<T>>,
    /// Bytes of the ring.
    bytes: usize,
    /// Units that had to go for the limits.
    dropped: u64,
    /// How many of the ring's first units the open file has.
    written: usize,
    /// Until when the open file goes.
    end: Option<u64>,
    /// Time of the open file's first unit.
    begin: Option<u64>,
}

impl<T: Clone> Cutter<T> {
    pub fn new(pre: u64, post: u64, longest: u64, limits: Limits) -> Self {
        Self {
            pre,
            post,
            longest,
            limits,
            ring: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            written: 0,
            end: None,
            begin: None,
        }
    }

    /// Until when the open incident goes; `None` where none is open.
    pub fn end(&self) -> Option<u64> {
        self.end
    }

    /// How many units had to go for the limits since this was asked last.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
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
        self.clear();
        if time <= end {
            steps.push(Step::Open);
            self.end = Some(end);
        }
    }

    /// The frames to come, of this time and on, cannot go into the same file as those before: an open incident goes on in another.
    pub fn renew(&mut self, time: u64, steps: &mut Vec<Step<T>>) {
        let end = self.end;
        self.cut(steps);
        if let Some(end) = end.filter(|end| time <= *end) {
            steps.push(Step::Open);
            self.end = Some(end);
        }
    }

    /// Ends the open incident, as no frames come. Those that are kept may yet be the beginning of another.
    pub fn expire(&mut self, steps: &mut Vec<Step<T>>) {
        if self.end.is_some() {
            self.close(steps);
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
        self.bytes += unit.size;
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
        while self.bytes > self.limits.bytes || self.ring.len() > self.limits.frames {
            // What is left begins with a key frame.
            let keys = self.ring.iter().skip(1).position(|unit| unit.key);
            let first = keys.map_or(self.ring.len(), |place| place + 1);
            self.dropped += first as u64;
            self.drop_first(first);
        }
    }

    /// Ends the open incident, and forgets what came before: the frames to come do not follow on it.
    pub fn cut(&mut self, steps: &mut Vec<Step<T>>) {
        if self.end.is_some() {
            self.close(steps);
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.ring.clear();
        (self.bytes, self.written) = (0, 0);
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
        let sizes = self.ring.drain(..count).map(|unit| unit.size);
        self.bytes -= sizes.sum::<usize>();
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
                self.drop_first(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MUCH: Limits = Limits {
        bytes: usize::MAX,
        frames: usize::MAX,
    };

    fn unit(time: u64, key: bool) -> Unit<()> {
        Unit {
            time,
            key,
            size: 100,
            data: (),
        }
    }

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
            let mut cutter = Cutter::new(10 * pre, 10 * post, 10 * longest, MUCH);
            let mut steps = Vec::new();
            let unit = |frame: usize| Unit { time: 10 * frame as u64, key: frame.is_multiple_of(group), size: 1, data: () };
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

    /// Whatever is asked for, memory is bounded; what is left of a run-up begins with a key frame.
    #[test]
    fn what_is_kept_is_bounded() {
        let limits = Limits {
            bytes: 1000,
            frames: 1000,
        };
        for group in [1, 3, 7, 1_000_000] {
            let mut cutter = Cutter::new(u64::MAX, 50, u64::MAX, limits);
            let mut steps = Vec::new();
            let mut dropped = 0;
            for frame in 0..200 {
                cutter.add(unit(10 * frame, frame % group == 0), &mut steps);
                dropped += cutter.take_dropped();
                let held = cutter.ring.len();
                assert!(held <= 10 && cutter.bytes == 100 * held, "{cutter:?}");
                assert_eq!(dropped + held as u64, frame + 1);
            }
            cutter.flag(2000, &mut steps);
            cutter.add(unit(2000, true), &mut steps);
            cutter.cut(&mut steps);
            let files = files(&steps);
            assert!(files[0][0].1 && files[0].last() == Some(&(2000, true)));
        }
        let frames = Limits {
            bytes: usize::MAX,
            frames: 5,
        };
        let mut cutter = Cutter::new(u64::MAX, 50, u64::MAX, frames);
        for frame in 0..200 {
            cutter.add(unit(frame, true), &mut Vec::new());
            assert!(cutter.ring.len() <= 5);
        }
    }

    #[test]
    fn an_incident_goes_on_in_another_file_where_the_format_changes() {
        let mut cutter = Cutter::new(20, 50, u64::MAX, MUCH);
        let mut steps = Vec::new();
        for frame in 0..4 {
            if frame == 3 {
                cutter.flag(30, &mut steps);
            }
            cutter.add(unit(10 * frame, true), &mut steps);
        }
        cutter.renew(40, &mut steps);
        for frame in 4..20 {
            cutter.add(unit(10 * frame, true), &mut steps);
        }
        let times: Vec<Vec<u64>> = files(&steps)
            .iter()
            .map(|file| file.iter().map(|(time, _)| *time).collect())
            .collect();
        assert_eq!(times, [vec![10, 20, 30], vec![40, 50, 60, 70, 80]]);
        // None is open: nothing to go on with.
        steps.clear();
        cutter.renew(200, &mut steps);
        assert!(steps.is_empty());
    }

    #[test]
    fn one_that_ends_as_no_frames_come_leaves_the_next_its_run_up() {
        let mut cutter = Cutter::new(20, 50, u64::MAX, MUCH);
        let mut steps = Vec::new();
        for frame in 0..4 {
            cutter.add(unit(10 * frame, true), &mut steps);
        }
        cutter.flag(30, &mut steps);
        cutter.expire(&mut steps);
        cutter.flag(40, &mut steps);
        cutter.add(unit(40, true), &mut steps);
        cutter.cut(&mut steps);
        let times: Vec<Vec<u64>> = files(&steps)
            .iter()
            .map(|file| file.iter().map(|(time, _)| *time).collect())
            .collect();
        assert_eq!(times, [vec![10, 20, 30], vec![20, 30, 40]]);
    }
}
