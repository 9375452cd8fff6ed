//! Parts from frame to frame: which of those seen now is which of those seen before. Told what time it is, and decides by place and motion.
//!
//! Parts on a belt move alike. Of the motions that may have happened since the last frame (the belt went on as before, it has stopped, or
//! what most pairs of parts say) the one is taken that explains most parts, and every part goes to the one nearest to where it is expected.

/// A part in one frame. Places and lengths in 0..1 of the frame's longer side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    pub x: f32,
    pub y: f32,
    /// The longer side of the part.
    pub length: f32,
    /// Whether all of it is in the frame, by itself: the middle of what the edge leaves of a part moves otherwise than the part.
    pub whole: bool,
    /// Score and whether that is above the threshold, where it was judged.
    pub judged: Option<(f32, bool)>,
}

/// What is known of one part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Track {
    pub id: u64,
    /// Times of the first and the last frame that shows it, nanoseconds.
    pub first: u64,
    pub last: u64,
    pub x: f32,
    pub y: f32,
    pub length: f32,
    /// In 0..1 of the frame's longer side a second; 0 until it is known.
    pub speed: (f32, f32),
    /// Frames that show it, that it was judged in, and in which it was flagged.
    pub views: u32,
    pub judged: u32,
    pub flagged: u32,
    /// Highest score; 0 where it was never judged.
    pub score: f32,
    /// Whether a frame has shown all of it.
    whole: bool,
}

/// A part is as far off from where it is expected as this share of its length at most.
const NEAR: f32 = 0.5;
/// Pairs of parts have moved alike if they differ by less than this share of a length.
const ALIKE: f32 = 0.2;
/// Nothing is known of how fast the belt is: a part has moved by so many lengths at most.
const FARTHEST: f32 = 1.5;
/// A part that is not seen, though it should be in the frame, is waited for so long, nanoseconds.
const PATIENCE: u64 = 1_000_000_000;
/// Share that the newest frame has in the belt's speed.
const NEWEST: f32 = 0.5;

/// Follows parts. Keeps its memory: once it has seen as many parts at a time as there will be, it allocates nothing.
#[derive(Debug, Default)]
pub struct Tracker {
    next: u64,
    tracks: Vec<Track>,
    left: Vec<Track>,
    time: Option<u64>,
    /// Of the belt, as in [`Track::speed`].
    speed: Option<(f32, f32)>,
    ids: Vec<u64>,
    pairs: Vec<(f32, usize, usize)>,
    taken: Vec<bool>,
    matched: Vec<Option<usize>>,
}

impl Tracker {
    /// Takes in what a frame shows at a time, in nanoseconds. `bounds`: the frame's width and height in 0..1 of its longer side. Returns the
    /// id of each, in their order.
    pub fn update(&mut self, time: u64, seen: &[Seen], bounds: (f32, f32)) -> &[u64] {
        self.left.clear();
        // Backwards there is no motion.
        let elapsed = self.time.map_or(0, |before| time.saturating_sub(before)) as f32 / 1e9;
        self.time = Some(time);
        let moved = self.motion(elapsed, seen);
        self.pair(moved, seen);
        self.ids.clear();
        self.ids.resize(seen.len(), 0);
        let mut sum = (0.0, 0.0, 0.0f32);
        for (track, matched) in self.tracks.iter_mut().zip(&self.matched) {
            let Some(index) = *matched else { continue };
            let now = &seen[index];
            let since = time.saturating_sub(track.last) as f32 / 1e9;
            if since > 0.0 && now.whole && track.whole {
                let speed = ((now.x - track.x) / since, (now.y - track.y) / since);
                track.speed = speed;
                sum = (sum.0 + speed.0, sum.1 + speed.1, sum.2 + 1.0);
            }
            // Of a part that its neighbour or the edge hides by now the middle is better known from before.
            let place = match track.whole && !now.whole {
                true => (track.x + moved.0, track.y + moved.1),
                false => (now.x, now.y),
            };
            track.take(time, now, place);
            self.ids[index] = track.id;
        }
        if sum.2 > 0.0 {
            let newest = (sum.0 / sum.2, sum.1 / sum.2);
            let before = self.speed.unwrap_or(newest);
            let mixed = |before: f32, newest: f32| before + NEWEST * (newest - before);
            self.speed = Some((mixed(before.0, newest.0), mixed(before.1, newest.1)));
        }
        self.let_go(time, bounds);
        for (index, now) in seen.iter().enumerate() {
            if self.ids[index] == 0 {
                self.next += 1;
                self.ids[index] = self.next;
                let mut track = Track {
                    id: self.next,
                    first: time,
                    last: time,
                    x: now.x,
                    y: now.y,
                    length: now.length,
                    speed: (0.0, 0.0),
                    views: 0,
                    judged: 0,
                    flagged: 0,
                    score: 0.0,
                    whole: now.whole,
                };
                track.take(time, now, (now.x, now.y));
                self.tracks.push(track);
            }
        }
        &self.ids
    }

    /// The parts that have left with the last frame, with all that was seen of them.
    pub fn left(&self) -> &[Track] {
        &self.left
    }

    /// Lets all parts go: the stream ends, or another one begins.
    pub fn finish(&mut self) -> &[Track] {
        self.left.clear();
        self.left.append(&mut self.tracks);
        (self.time, self.speed) = (None, None);
        &self.left
    }

    /// Parts that are in the frame.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Of the belt, in 0..1 of the frame's longer side a second; `None` before two frames have shown one part.
    pub fn speed(&self) -> Option<(f32, f32)> {
        self.speed
    }

    /// How parts have moved since the last frame.
    fn motion(&mut self, elapsed: f32, seen: &[Seen]) -> (f32, f32) {
        let went_on = self.speed.map(|(x, y)| (x * elapsed, y * elapsed));
        let mut best = went_on.unwrap_or((0.0, 0.0));
        let mut most = self.explained(best, seen);
        let stopped = self.explained((0.0, 0.0), seen);
        if stopped > most {
            (best, most) = ((0.0, 0.0), stopped);
        }
        let mut shortest = f32::MAX;
        for track in 0..self.tracks.len() {
            for now in seen {
                let before = &self.tracks[track];
                let moved = (now.x - before.x, now.y - before.y);
                let far = moved.0.hypot(moved.1);
                if far > FARTHEST * before.length {
                    continue;
                }
                let explained = self.explained(moved, seen);
                if explained > most || (explained == most && far < shortest && shortest < f32::MAX)
                {
                    (best, most, shortest) = (moved, explained, far);
                }
            }
        }
        best
    }

    /// How many parts are where they would be after such a motion.
    fn explained(&self, moved: (f32, f32), seen: &[Seen]) -> usize {
        let is_there = |track: &&Track| {
            let (x, y) = (track.x + moved.0, track.y + moved.1);
            let mut all = seen.iter();
            all.any(|now| (now.x - x).hypot(now.y - y) < ALIKE * track.length)
        };
        self.tracks.iter().filter(is_there).count()
    }

    /// Gives every part that is known the nearest of those seen to where it is expected, the nearest pairs first.
    fn pair(&mut self, moved: (f32, f32), seen: &[Seen]) {
        self.pairs.clear();
        for (index, track) in self.tracks.iter().enumerate() {
            let (x, y) = (track.x + moved.0, track.y + moved.1);
            for (number, now) in seen.iter().enumerate() {
                let off = (now.x - x).hypot(now.y - y);
                if off < NEAR * track.length.max(now.length) {
                    self.pairs.push((off, index, number));
                }
            }
        }
        self.pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        self.taken.clear();
        self.taken.resize(seen.len(), false);
        self.matched.clear();
        self.matched.resize(self.tracks.len(), None);
        for &(_, track, number) in &self.pairs {
            if self.matched[track].is_none() && !self.taken[number] {
                self.matched[track] = Some(number);
                self.taken[number] = true;
            }
        }
        // Those that are not seen have moved as the others.
        for (track, matched) in self.tracks.iter_mut().zip(&self.matched) {
            if matched.is_none() {
                (track.x, track.y) = (track.x + moved.0, track.y + moved.1);
            }
        }
    }

    /// Lets go of parts that are beyond the frame, or have not been seen for long.
    fn let_go(&mut self, time: u64, (width, height): (f32, f32)) {
        let left = &mut self.left;
        self.tracks.retain(|track| {
            let outside = track.x < 0.0 || track.y < 0.0 || track.x > width || track.y > height;
            let unseen = track.last < time;
            let goes = unseen && (outside || time - track.last > PATIENCE);
            if goes {
                left.push(*track);
            }
            !goes
        });
    }
}

impl Track {
    fn take(&mut self, time: u64, now: &Seen, place: (f32, f32)) {
        (self.x, self.y) = place;
        self.last = time;
        self.whole |= now.whole;
        self.views += 1;
        if let Some((score, flagged)) = now.judged {
            self.judged += 1;
            self.flagged += u32::from(flagged);
            self.score = self.score.max(score);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAME: u64 = 33_333_333;

    /// Parts on a belt that moves to the right: where each is at a time, of those in the frame (1 wide).
    fn shown(parts: &[(f32, f32)], moved: f32) -> Vec<(usize, Seen)> {
        let seen = parts
            .iter()
            .enumerate()
            .filter_map(|(number, &(start, lane))| {
                let x = start + moved;
                (0.0..1.0).contains(&x).then_some((
                    number,
                    Seen {
                        x,
                        y: lane,
                        length: 0.1,
                        whole: true,
                        judged: Some((1.0, false)),
                    },
                ))
            });
        seen.collect()
    }

    /// Two that seem to touch for a while, as one thing between them, keep their ids.
    #[test]
    fn parts_that_touch_for_a_while_keep_their_ids() {
        let mut tracker = Tracker::default();
        let part = |x: f32, whole: bool| Seen {
            x,
            y: 0.3,
            length: 0.1,
            whole,
            judged: whole.then_some((1.0, false)),
        };
        let mut ids = Vec::new();
        for frame in 0..12u64 {
            let x = 0.2 + 0.03 * frame as f32;
            let seen = match (4..7).contains(&frame) {
                true => vec![part(x - 0.02, false)],
                false => vec![part(x, true), part(x - 0.04, true)],
            };
            let told = tracker.update(frame * FRAME, &seen, (1.0, 0.6));
            if told.len() == 2 {
                ids.push((told[0], told[1]));
            }
        }
        assert_eq!(ids, vec![ids[0]; 9]);
    }

    proptest! {
        /// Three lanes, gaps down to a tenth of a part's length, a speed that changes by 30 %, a stop, and frames that are lost: every part has
        /// one id, and no two share one.
        #[test]
        fn every_part_keeps_its_id(
            gaps in prop::collection::vec(0.11f32..0.4, 3..40),
            per_frame in 0.01f32..0.045,
            seed: u64,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut starts = [-0.06f32; 3];
            let parts: Vec<(f32, f32)> = gaps.iter().enumerate().map(|(number, gap)| {
                let lane = number % 3;
                starts[lane] -= gap;
                (starts[lane], 0.1 + 0.15 * lane as f32)
            }).collect();
            let end = 1.2 - starts.iter().copied().fold(0.0, f32::min);
            let mut tracker = Tracker::default();
            let mut ids = vec![None; parts.len()];
            let (mut moved, mut time, mut frame) = (0.0, 0, 0u32);
            while moved < end {
                let speed = per_frame * (1.0 + 0.3 * (frame as f32 / 40.0).sin());
                // It stands for half a second.
                let stands = (60..75).contains(&frame);
                moved += if stands { 0.0 } else { speed };
                time += FRAME;
                frame += 1;
                // Of a belt that stops and starts unseen nothing can be known.
                if !(55..85).contains(&frame) && random.u8(..) < 10 {
                    continue;
                }
                let seen = shown(&parts, moved);
                let only: Vec<Seen> = seen.iter().map(|(_, seen)| *seen).collect();
                let told = tracker.update(time, &only, (1.0, 0.6)).to_vec();
                for ((number, _), id) in seen.iter().zip(told) {
                    let known = ids[*number].get_or_insert(id);
                    prop_assert_eq!(*known, id, "part {} in frame {}", number, frame);
                }
            }
            let mut all: Vec<u64> = ids.iter().flatten().copied().collect();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), ids.iter().flatten().count());
        }

        /// Whatever times and places come, nothing panics, and every part that was seen leaves once.
        #[test]
        fn every_part_leaves_once(
            frames in prop::collection::vec((any::<u64>(), prop::collection::vec((-1.0f32..2.0, -1.0f32..2.0, 0.0f32..2.0), 0..6)), 0..20),
        ) {
            let mut tracker = Tracker::default();
            let (mut ids, mut left) = (std::collections::HashSet::new(), Vec::new());
            for (time, places) in frames {
                let seen: Vec<Seen> = places.iter().map(|&(x, y, length)| Seen { x, y, length, whole: true, judged: None }).collect();
                let told = tracker.update(time, &seen, (1.0, 1.0)).to_vec();
                prop_assert_eq!(told.len(), seen.len());
                ids.extend(told);
                left.extend(tracker.left().iter().map(|track| track.id));
            }
            left.extend(tracker.finish().iter().map(|track| track.id));
            left.sort_unstable();
            let mut all: Vec<u64> = ids.into_iter().collect();
            all.sort_unstable();
            prop_assert_eq!(left, all);
        }
    }
}
